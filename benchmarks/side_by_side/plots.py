# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Pictures of the results."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt

from . import product_work, tile_work
from .data import CASES
from .results import Result

__all__ = ("draw_patches", "draw_wholes")

COLORS = {
    "bulkcutout": "#0b6e99",
    "bulkcutout-2": "#4db3d9",
    "bulkcutout-submit": "#4db3d9",
    "bulkcutout-engine": "#4db3d9",
    "limit": "#222222",
    "fitsio-planes": "#d1495b",
    "fitsio-subset": "#eb8c6f",
    "astropy": "#6a994e",
    "lsst.images": "#a05fb4",
    "astrocut": "#c9a227",
    "cutana": "#c9a227",
}


def draw_patches(results: Sequence[Result], path: Path) -> bool:
    """Draw cutouts per core-second over the number of targets; says whether
    there was anything to draw.
    """
    cases = [case for case in CASES if any(result["case"] == case for result in results)][:4]
    if not cases:
        return False
    figure, panels = plt.subplots(1, len(cases), figsize=(3.4 * len(cases), 3.8), sharey=True, squeeze=False)
    named: dict[str, object] = {}
    for panel, case in zip(panels[0], cases, strict=True):
        for tool, color in COLORS.items():
            points = [
                (r["n"], r["cutouts_per_core_s"]) for r in results if (r["case"], r["tool"]) == (case, tool)
            ]
            if points:
                style = "--" if tool == "limit" else "-"
                x, y = zip(*sorted(points), strict=True)
                (named[tool],) = panel.plot(x, y, style, marker="o", ms=3.5, lw=1.4, color=color)
        panel.set(xscale="log", yscale="log", xlabel="targets in the patch", title=case)
        panel.grid(alpha=0.3)
    panels[0][0].set_ylabel("cutouts per core-second")
    figure.tight_layout()
    legend = {"ncols": 2 * len(cases), "loc": "upper center", "bbox_to_anchor": (0.5, 0.0)}
    figure.legend(named.values(), named.keys(), fontsize=8, frameon=False, **legend)
    _save(figure, path)
    return True


def draw_wholes(results: Sequence[Result], path: Path) -> bool:
    """Draw CPU seconds and peak memory of whole jobs; says whether there was
    anything to draw.
    """
    works = list(
        dict.fromkeys(
            (r["case"], r["n"]) for r in results if r["case"] in (product_work.CASE, tile_work.CASE)
        )
    )
    if not works:
        return False
    figure, panels = plt.subplots(2, len(works), figsize=(3.6 * len(works), 4.6), squeeze=False)
    for column, (case, n) in enumerate(works):
        rows = [r for r in results if (r["case"], r["n"]) == (case, n)][::-1]
        names = [r["tool"] for r in rows]
        colors = [COLORS[name] for name in names]
        work = [r.get("work_cpu_s", r["whole_cpu_s"]) for r in rows]
        top, bottom = panels[:, column]
        top.barh(names, [r["whole_cpu_s"] for r in rows], color=colors, alpha=0.35)
        top.barh(names, work, color=colors)
        top.set(title=f"{case}, {n:,} targets", xlabel="CPU s (pale: start and imports)")
        bottom.barh(names, [r["peak_mb"] for r in rows], color=colors)
        bottom.set(xlabel="peak memory, MB")
        for panel in (top, bottom):
            panel.tick_params(labelsize=8)
            panel.grid(axis="x", alpha=0.3)
    figure.tight_layout()
    _save(figure, path)
    return True


def _save(figure: plt.Figure, path: Path) -> None:
    # No date and no version, so that the same figures give the same file.
    figure.savefig(path, dpi=110, bbox_inches="tight", metadata={"Software": None})
    plt.close(figure)
