# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Cutouts from one patch: all tools in turn, the same targets."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .check import check_cutouts
from .data import CASES, HDUS, Data
from .measure import measure, warm_memory
from .peers import install
from .targets import SIZE, patch_targets, save_targets
from .tool_list import TOOLS, Tool
from .tools.work import PLANES
from .workplace import Workplace

__all__ = ("measure_patch",)

TOOLS_DIRECTORY = Path(__file__).parent / "tools"
WARM_UP_TARGETS = 3


def measure_patch(
    place: Workplace,
    data: Data,
    small: Data,
    *,
    cases: Iterable[str],
    numbers: Sequence[int],
    tools: Sequence[str],
    peers: bool,
    round_number: int,
    keep: Callable[[dict[str, Any]], None],
) -> None:
    """Run every tool once for every case and number of targets.

    Parameters
    ----------
    place
        Where to work.
    data, small
        The images; and those on which a tool warms up.
    cases
        Some of `CASES`.
    numbers
        Numbers of targets.
    tools
        Names of the tools.
    peers
        Whether these run in environments of their own.
    round_number
        The first round, 0, checks what each tool gives.
    keep
        Takes the figures of each run.
    """
    patch = data.patches[0]
    targets = save_targets(place.scratch / "targets.npz", patch_targets(data, patch, max(numbers)))
    few = save_targets(
        place.scratch / "few.npz", patch_targets(small, small.patches[0], WARM_UP_TARGETS, seed=3)
    )
    for case in cases:
        for n in numbers:
            for tool in (TOOLS[name] for name in tools):
                if n > tool.most:
                    continue
                job = _job(place, data, case, n, tool, targets) | {"output": str(place.scratch / "cutouts")}
                job["warm_up"] = _job(place, small, case, WARM_UP_TARGETS, tool, few)
                figures = _run(place, job, tool, peers=peers, check=round_number == 0)
                keep({"tool": tool.name, "case": case, "n": n, "round": round_number, **figures})


def _job(place: Workplace, data: Data, case: str, n: int, tool: Tool, targets: str) -> dict[str, Any]:
    assert case in CASES
    return {
        "path": data.paths[case],
        "planes": HDUS,
        "origin": data.inner[str(data.patches[0])][:2],
        "size": SIZE,
        "targets": targets,
        "n": n,
        "threads": tool.threads,
        "output": str(place.scratch / "warm-up"),
        "report": str(place.scratch / "report.json"),
    }


def _run(place: Workplace, job: dict[str, Any], tool: Tool, *, peers: bool, check: bool) -> dict[str, Any]:
    python, env = sys.executable, place.own_environment()
    if peers and tool.environment is not None:
        python, env = str(install(tool.environment, place.environments)), place.peer_environment()
    path = place.scratch / "job.json"
    path.write_text(json.dumps(job))
    output = Path(job["output"])
    output.mkdir()
    for plane, dtype in PLANES.items():
        warm_memory(output / f"{plane}.raw", job["n"] * SIZE**2 * np.dtype(dtype).itemsize)
    script = TOOLS_DIRECTORY / f"{tool.script}.py"
    figures: dict[str, Any] = measure(
        [python, str(script), str(path)], log=place.scratch / "log", report=Path(job["report"]), env=env
    )
    if check:
        check_cutouts(job, pixels=tool.cuts)
    for each in (job, job["warm_up"]):
        shutil.rmtree(each["output"])
    return figures
