# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""What is run: kinds of work, numbers of targets, and tools."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence

from . import product_work, quantum_work, tile_work
from .data import CASES
from .tool_list import TOOLS

__all__ = ("ALL_CASES", "ALL_TOOLS", "Work", "plan")

ALL_CASES = (*CASES, product_work.CASE, tile_work.CASE, quantum_work.CASE)
ALL_TOOLS = tuple(dict.fromkeys((*TOOLS, *product_work.TOOLS, *tile_work.TOOLS)))

NUMBERS = (10, 100, 1000, 10_000, 50_000)
FEW_NUMBERS = (10, 1000, 50_000)
FEW_TOOLS = ("bulkcutout", "limit", "fitsio-planes", "fitsio-subset")
"""What suffices for the kinds of files that are seldom."""

QUICK_CASES = ("rice-square", "gzip2-row", product_work.CASE, tile_work.CASE)

IN_OUR_ENVIRONMENT = (None, "fitsio", "astropy")
"""Peers that this package needs itself."""


@dataclasses.dataclass(frozen=True)
class Work:
    """One kind of work."""

    case: str
    numbers: tuple[int, ...]
    """Numbers of targets."""

    tools: tuple[str, ...]


def plan(
    *,
    quick: bool,
    peers: bool,
    cases: Collection[str] = (),
    tools: Collection[str] = (),
    numbers: Sequence[int] = (),
) -> list[Work]:
    """Say what is to be run.

    Parameters
    ----------
    quick
        Whether it has to be over in a few minutes.
    peers
        Whether peers may be installed.
    cases, tools, numbers
        If not empty, only these.

    Returns
    -------
    works
        In the order in which they are run.
    """
    works = []
    for case in ALL_CASES:
        if cases and case not in cases or not cases and quick and case not in QUICK_CASES:
            continue
        work = _work(case, quick)
        chosen = [name for name in work.tools if not tools or name in tools]
        if not peers:
            chosen = [name for name in chosen if _is_ours(name)]
        if chosen:
            works.append(Work(case, tuple(numbers) or work.numbers, tuple(chosen)))
    return works


def _work(case: str, quick: bool) -> Work:
    if case == product_work.CASE:
        # All its processes take twenty seconds, whatever they have to do.
        tools = [name for name in product_work.TOOLS if not (quick and name == "bulkcutout-submit")]
        return Work(case, (40,) if quick else (10_000,), tuple(tools))
    if case == tile_work.CASE:
        return Work(case, (40,) if quick else (1000, 10_000), tuple(tile_work.TOOLS))
    if case == quantum_work.CASE:
        return Work(case, (50_000,), tuple(quantum_work.TOOLS))
    if quick:
        return Work(case, (10, 100), tuple(TOOLS))
    if case.endswith("square"):
        return Work(case, NUMBERS, tuple(TOOLS))
    return Work(case, FEW_NUMBERS, FEW_TOOLS)


def _is_ours(name: str) -> bool:
    return name != "cutana" and (name not in TOOLS or TOOLS[name].environment in IN_OUR_ENVIRONMENT)
