# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""The figures that the engine is to reach, beside those that were measured."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence

from . import product_work, quantum_work, tile_work
from .results import Result, find

__all__ = ("Goal", "goals")

OURS = ("bulkcutout", "bulkcutout-2")
FITSIO = ("fitsio-planes", "fitsio-subset")

WHY_NOT: Mapping[str, str] = {
    "50000-limit": "the pixels are copied once more than the limit does: from the tiles to the cutouts",
    "10-fitsio-planes": "fitsio reads a plane of this size in 0.15 s, and ten targets need 15 tiles of each",
    "end-to-end-limit": "pixels are written twice, by the quantum and into the product, which is read again "
    "for its checksum; and the limit has neither PSF, masks compressed nor a table of answers",
    "end-to-end-astropy": "the limit itself is not five times as fast, and see above",
    "end-to-end-fitsio-planes": "the limit itself is not three times as fast, and see above",
    "cutana": "five seconds of every campaign are imports, the Butler's configuration, graph and manifest, "
    "which do not depend on the targets; the engine alone is in the table below",
}
"""Reasons for goals that are not reached, by `Goal.key` or the end of it."""


@dataclasses.dataclass(frozen=True)
class Goal:
    """One figure to reach."""

    key: str
    work: str
    wanted: str
    measured: str
    """By CPU seconds, one thread."""

    elapsed: str
    """By elapsed seconds, two threads."""

    reached: bool

    def why_not(self) -> str:
        """Give the reason, if it is known."""
        if self.reached:
            return ""
        fitting = [text for key, text in WHY_NOT.items() if self.key.endswith(key)]
        return fitting[0] if fitting else "see the figures below"


def goals(results: Sequence[Result], discovery: Sequence[Result]) -> list[Goal]:
    """Compare what was measured with what is wanted.

    Parameters
    ----------
    results
        From `summarize`.
    discovery
        From ``benchmarks/discovery_rate.py``.

    Returns
    -------
    goals
        Those for which there are figures.
    """
    rows = [*_patches(results), *_product(results), *_tiles(results), *_memory(results)]
    return [*rows, *_discovery(discovery)]


def _patches(results: Sequence[Result]) -> Iterator[Goal]:
    for case, name in (("rice-square", "RICE, square tiles"), ("gzip2-square", "GZIP_2, square tiles")):
        for n, against in (
            (10, (("fitsio-planes", 50.0), ("fitsio-subset", 3.0))),
            (100, (("the better of fitsio's two", 5.0),)),
            (1000, (("the better of fitsio's two", 4.5),)),
            (10_000, (("the better of fitsio's two", 3.0), ("limit", 1.5))),
            (50_000, (("the better of fitsio's two", 3.0), ("limit", 1.5))),
        ):
            for peer, wanted in against:
                tools = (peer,) if peer in (*FITSIO, "limit") else FITSIO
                work = f"{name}: {n:,} targets in a patch, 3 planes"
                yield from _compare(results, f"{case}-{n}-{peer}", work, case, n, OURS, tools, wanted)


def _product(results: Sequence[Result]) -> Iterator[Goal]:
    case = product_work.CASE
    for result in results:
        if result["case"] != case or result["tool"] != "bulkcutout":
            continue
        work = f"catalog to HDF5 product, {result['n']:,} targets, 3 bands, 3 planes"
        for peer, wanted in (("limit", 1.5), ("astropy", 5.0), ("fitsio-planes", 3.0)):
            ours = ("bulkcutout", "bulkcutout")
            yield from _compare(results, f"{case}-{peer}", work, case, result["n"], ours, (peer,), wanted)


def _tiles(results: Sequence[Result]) -> Iterator[Goal]:
    case = tile_work.CASE
    for result in results:
        if result["case"] != case or result["tool"] != "bulkcutout":
            continue
        n = result["n"]
        work = f"Cutana's kind of work, {n:,} targets, 4 channels (whole processes)"
        ours = ("bulkcutout", "bulkcutout")
        yield from _compare(results, f"{case}-{n}-cutana", work, case, n, ours, ("cutana",), 8.0)
        if (peer := find(results, "cutana", case, n)) is not None:
            measured = f"{result['peak_mb']:.0f} MB; {peer['peak_mb']:.0f} MB"
            less = result["peak_mb"] < peer["peak_mb"]
            yield Goal(f"{case}-{n}-memory", work, "less memory than Cutana", measured, "", less)


def _memory(results: Sequence[Result]) -> Iterator[Goal]:
    for result in results:
        if result["case"] == quantum_work.CASE:
            work = f"a quantum, {result['n']:,} targets, {result['bands']} bands, 3 planes, 64 px"
            peak = result["peak_mb"]
            yield Goal("quantum", work, "under 600 MB", f"{peak:.0f} MB", "", peak < 600)


def _discovery(discovery: Sequence[Result]) -> Iterator[Goal]:
    for found in discovery:
        work = f"discovery, {found['case']}, {found['rows']:,} rows"
        rate = found["rows_per_core_s"]
        seconds = f"{found['build_graph_s']:.0f} s"
        if found["rows"] < 100_000_000:
            yield Goal(
                f"{found['case']}-rate", work, "1 M rows/core s", f"{rate / 1e6:.2f} M", seconds, rate >= 1e6
            )
            continue
        yield Goal(f"{found['case']}-time", work, "ten minutes", "", seconds, found["build_graph_s"] <= 600)
        peak = found["peak_mb"]
        yield Goal(f"{found['case']}-memory", work, "under 4 GB", f"{peak:.0f} MB", "", peak < 4000)


def _compare(
    results: Sequence[Result],
    key: str,
    work: str,
    case: str,
    n: int,
    ours: tuple[str, str],
    tools: Sequence[str],
    wanted: float,
) -> Iterator[Goal]:
    alone, both = (find(results, name, case, n) for name in ours)
    peers = [peer for name in tools if (peer := find(results, name, case, n)) is not None]
    if alone is None or not peers:
        return
    is_limit = tools == ("limit",)

    def times(result: Result | None, rate: str) -> float:
        if result is None:
            return 0.0
        best: Callable[[Result], float] = lambda peer: peer[rate]  # noqa: E731
        ratio = result[rate] / max(map(best, peers))
        return 1 / ratio if is_limit else ratio

    core, elapsed = times(alone, "cutouts_per_core_s"), times(both, "cutouts_per_s")
    what = f"within {wanted:g} x the limit" if is_limit else f"{wanted:g} x {key.rpartition('-')[2]}"
    if len(tools) > 1:
        what = f"{wanted:g} x the better of fitsio's two"
    elif not is_limit:
        what = f"{wanted:g} x {tools[0]}"
    reached = core <= wanted if is_limit else core >= wanted
    yield Goal(key, work, what, f"{core:.3g}", f"{elapsed:.3g}" if both is not None else "", reached)
