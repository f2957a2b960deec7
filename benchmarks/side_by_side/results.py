# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Medians of the runs, and their table."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

__all__ = ("ratio", "summarize", "table")

MEDIANS = ("work_s", "work_cpu_s", "work_kernel_s", "whole_s", "whole_cpu_s", "peak_mb")

Result = Mapping[str, Any]


def summarize(runs: Iterable[Result]) -> list[dict[str, Any]]:
    """Put runs of the same work together.

    Parameters
    ----------
    runs
        What each run gave: tool, case, n, and what `measure` says.

    Returns
    -------
    results
        One object for each tool, case and n: medians, and what follows from
        them. Rates are those of the work, without start and imports, unless
        their names begin with ``whole``.
    """
    groups = defaultdict(list)
    for run in runs:
        groups[run["case"], run["n"], run["tool"]].append(run)
    results = []
    for (case, n, tool), group in groups.items():
        result: dict[str, Any] = {"tool": tool, "case": case, "n": n, "rounds": len(group)}
        for name in MEDIANS:
            values = [run[name] for run in group if name in run]
            if values:
                result[name] = round(statistics.median(values), 4)
        kind = "work" if "work_s" in result else "whole"
        result["cutouts_per_s"] = _rate(n, result[f"{kind}_s"])
        result["cutouts_per_core_s"] = _rate(n, result[f"{kind}_cpu_s"])
        result["whole_cutouts_per_core_s"] = _rate(n, result["whole_cpu_s"])
        result |= {name: group[0][name] for name in ("bands", "box_shift") if name in group[0]}
        if sizes := [run["bytes"] for run in group if "bytes" in run]:
            result["mb_per_s"] = _rate(sizes[0] / 1e6, result[f"{kind}_s"])
            result["mb_per_core_s"] = _rate(sizes[0] / 1e6, result[f"{kind}_cpu_s"])
        results.append(result)
    for result in results:
        limit = find(results, "limit", result["case"], result["n"])
        if limit is not None and limit is not result:
            result["times_limit"] = ratio(limit, result)
    return results


def _rate(amount: float, seconds: float) -> float:
    return float(f"{amount / max(seconds, 1e-6):.4g}")


def find(results: Sequence[Result], tool: str, case: str, n: int) -> Result | None:
    """The result of a tool, if there is one."""
    same = (r for r in results if r["tool"] == tool and r["case"] == case and r["n"] == n)
    return next(same, None)


def ratio(of: Result, to: Result, key: str = "cutouts_per_core_s") -> float:
    """How many times as fast one is as another."""
    return float(f"{of[key] / to[key]:.3g}")


def table(results: Sequence[Result]) -> str:
    """Lay results out for a terminal."""
    head = (
        f"{'case':<14}{'n':>7}  {'tool':<20}{'cutouts/s':>11}{'/core s':>11}{'MB/s':>8}{'CPU s':>9}"
        f"{'with start':>12}{'peak MB':>9}{'x limit':>9}"
    )
    lines = [head]
    before = None
    for result in results:
        if before is not None and (result["case"], result["n"]) != before:
            lines.append("")
        before = (result["case"], result["n"])
        limit = result.get("times_limit")
        lines.append(
            f"{result['case']:<14}{result['n']:>7}  {result['tool']:<20}{result['cutouts_per_s']:>11,.0f}"
            f"{result['cutouts_per_core_s']:>11,.0f}{result.get('mb_per_s', 0):>8,.0f}"
            f"{result.get('work_cpu_s', result['whole_cpu_s']):>9.3f}{result['whole_cpu_s']:>12.2f}"
            f"{result['peak_mb']:>9,.0f}{f'{limit:.2f}' if limit else '':>9}"
        )
    return "\n".join(lines)
