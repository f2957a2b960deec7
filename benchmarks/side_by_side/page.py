# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""The page of the results, in Markdown, with its pictures beside it."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Sequence
from pathlib import Path

from . import product_work, quantum_work, tile_work
from .data import CASES
from .goals import goals
from .machine import describe_machine, describe_software
from .plots import draw_patches, draw_wholes
from .results import Result
from .targets import SIZE
from .tool_list import TOOLS

__all__ = ("write_page",)

HEAD = """# How fast is it, beside the tools that there are?

Written by `bin/benchmark --page doc/benchmarks.md` on {date}; do not change it by hand.

{machine}. Medians of {rounds}: in each round every tool did the same work in turn, each run a process
of its own. Files were in the page cache. "Core-seconds" are CPU seconds, user and system, of all threads
and processes. All cutouts are {size} x {size} px.
"""

HOW = Path(__file__).with_name("how-it-was-measured.md")


def write_page(results: Sequence[Result], discovery: Sequence[Result], path: Path) -> None:
    """Write the page and its pictures.

    Parameters
    ----------
    results
        From `summarize`.
    discovery
        From ``benchmarks/discovery_rate.py``; may be empty.
    path
        The page. The pictures begin with its name.
    """
    rounds = max(result["rounds"] for result in results)
    text = HEAD.format(
        date=datetime.datetime.now(datetime.UTC).strftime("%d %B %Y"),
        machine=describe_machine(),
        rounds=f"{rounds} rounds" if rounds > 1 else "one round",
        size=SIZE,
    )
    parts = [text, _goals(results, discovery)]
    for name, what, draw in (
        (
            "patches",
            "Cutouts per core-second by number of targets, tool and kind of file",
            draw_patches,
        ),
        ("wholes", "CPU seconds and peak memory of whole jobs, by tool", draw_wholes),
    ):
        picture = path.with_name(f"{path.stem}-{name}.png")
        if draw(results, picture):
            parts.append(f"![{what}]({picture.name})\n")
    shift = max((result.get("box_shift", 0) for result in results), default=0)
    parts.append(HOW.read_text().format(shift=shift or 2))
    parts += [_software(), *_figures(results)]
    if discovery:
        parts.append(_discovery(discovery))
    path.write_text("\n".join(parts))


def _goals(results: Sequence[Result], discovery: Sequence[Result]) -> str:
    head = (
        "work",
        "wanted",
        "by core-seconds, one thread",
        "by elapsed time, two threads",
        "reached",
        "why not",
    )
    rows = [
        (
            goal.work,
            goal.wanted,
            goal.measured,
            goal.elapsed,
            "yes" if goal.reached else "**no**",
            goal.why_not(),
        )
        for goal in goals(results, discovery)
    ]
    return "## What was to be reached\n\n" + _table(head, rows)


def _software() -> str:
    return "## Versions\n\n" + _table(("tool", "version"), describe_software())


def _figures(results: Sequence[Result]) -> Iterable[str]:
    titles = {
        **{case: f"One patch, `{case}`: {what}" for case, what in CASES.items()},
        product_work.CASE: "From a catalog to a finished product",
        tile_work.CASE: "Euclid-like tiles of 10,000 x 10,000 px, float32, not compressed, four channels",
        quantum_work.CASE: "One quantum: a patch in six bands, three planes",
    }
    says = {
        product_work.CASE: product_work.TOOLS,
        tile_work.CASE: tile_work.TOOLS,
        quantum_work.CASE: quantum_work.TOOLS,
    }
    head = (
        "targets",
        "tool",
        "cutouts/s",
        "per core-s",
        "MB/s",
        "core-s",
        "with start",
        "peak MB",
        "x limit",
    )
    for case, title in titles.items():
        here = [result for result in results if result["case"] == case]
        if not here:
            continue
        described = says.get(case, {name: tool.what for name, tool in TOOLS.items()})
        tools = dict.fromkeys(result["tool"] for result in here)
        lines = [f"- `{tool}`: {described[tool]}" for tool in tools if tool in described]
        is_first = case not in CASES or case == next(iter(CASES))
        legend = "\n".join([*lines, "", ""]) if is_first else ""
        yield f"## {title}\n\n{legend}" + _table(head, [_row(result) for result in here])


def _row(result: Result) -> tuple[str, ...]:
    limit = result.get("times_limit")
    return (
        f"{result['n']:,}",
        f"`{result['tool']}`",
        f"{result['cutouts_per_s']:,.0f}",
        f"{result['cutouts_per_core_s']:,.0f}",
        f"{result.get('mb_per_s', 0):,.0f}",
        f"{result.get('work_cpu_s', result['whole_cpu_s']):.3g}",
        f"{result['whole_cpu_s']:.3g}",
        f"{result['peak_mb']:,.0f}",
        f"{limit:.2f}" if limit else "",
    )


def _discovery(discovery: Sequence[Result]) -> str:
    head = ("catalog", "rows", "rows per core-second", "discovery, s", "build-graph, s", "core-s", "peak MB")
    rows = [
        (
            found["case"],
            f"{found['rows']:,}",
            f"{found['rows_per_core_s']:,.0f}",
            f"{found['seconds']:.1f}",
            f"{found['build_graph_s']:.1f}",
            f"{found['build_graph_cpu_s']:.1f}",
            f"{found['peak_mb']:,.0f}",
        )
        for found in discovery
    ]
    return "## From rows to patches (`benchmarks/discovery_rate.py`)\n\n" + _table(head, rows)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)
