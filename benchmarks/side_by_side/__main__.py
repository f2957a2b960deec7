# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""The command line: see bin/benchmark."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .data import CASES, FULL, QUICK, make_data
from .patch_work import measure_patch
from .results import summarize, table
from .tool_list import TOOLS
from .workplace import Workplace

ROOT = Path(__file__).parents[2]

NUMBERS = (10, 100, 1000, 10_000, 50_000)
QUICK_NUMBERS = (10, 100)
QUICK_CASES = ("rice-square", "gzip2-row")


def main() -> int:
    """Measure, print a table, and write what is asked for."""
    options = _options()
    started = time.monotonic()
    place = Workplace(options.directory.absolute())
    place.scratch.mkdir(parents=True)
    runs: list[dict[str, Any]] = []
    try:
        small = make_data(place.data, QUICK)
        data = small if options.quick else make_data(place.data, FULL)
        say(f"the data are there after {time.monotonic() - started:.0f} s")
        for number in range(options.rounds):
            measure_patch(
                place,
                data,
                small,
                cases=options.case,
                numbers=options.n,
                tools=_tools(options),
                peers=options.peers,
                round_number=number,
                keep=runs.append,
            )
            say(f"round {number + 1} of {options.rounds} is over after {time.monotonic() - started:.0f} s")
    finally:
        shutil.rmtree(place.scratch)
    results = summarize(runs)
    print(table(results))
    if options.json is not None:
        options.json.write_text(json.dumps(results, indent=1) + "\n")
    return 0


def say(text: str) -> None:
    print(f"benchmark: {text}", file=sys.stderr, flush=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="bin/benchmark", description="This package side by side with the tools that users have today."
    )
    parser.add_argument("--quick", action="store_true", help="small images, few targets, one round")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there")
    parser.add_argument(
        "--no-peers",
        dest="peers",
        action="store_false",
        help="install nothing: only tools that this package needs itself",
    )
    parser.add_argument("--rounds", type=int, help="runs of each tool (default 3; 1 with --quick)")
    parser.add_argument("--case", nargs="+", choices=list(CASES), help="kinds of files")
    parser.add_argument("--tool", nargs="+", choices=list(TOOLS), help="tools")
    parser.add_argument("-n", nargs="+", type=int, help="numbers of targets")
    parser.add_argument(
        "--directory", type=Path, default=ROOT / ".benchmark", help="where to work (default .benchmark)"
    )
    options = parser.parse_args()
    options.rounds = options.rounds or (1 if options.quick else 3)
    options.case = options.case or (list(QUICK_CASES) if options.quick else list(CASES))
    options.n = options.n or list(QUICK_NUMBERS if options.quick else NUMBERS)
    return options


def _tools(options: argparse.Namespace) -> Sequence[str]:
    names = options.tool or list(TOOLS)
    return [name for name in names if options.peers or TOOLS[name].environment in (None, *OWN)]


OWN = ("fitsio", "astropy")
"""Environments whose tools this package's environment has too."""


if __name__ == "__main__":
    sys.exit(main())
