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

from . import product_work, quantum_work, tile_work
from .data import FULL, QUICK, Data, make_data
from .page import write_page
from .patch_work import measure_patch
from .plan import ALL_CASES, ALL_TOOLS, Work, plan
from .results import summarize, table
from .workplace import Workplace

ROOT = Path(__file__).parents[2]


def main() -> int:
    """Measure, print a table, and write what is asked for."""
    options = _options()
    if options.results is not None:
        results = json.loads(options.results.read_text())
    else:
        results = summarize(_measure(options))
        print(table(results))
    if options.json is not None:
        options.json.write_text(json.dumps(results, indent=1) + "\n")
    if options.page is not None:
        discovery = [found for path in options.discovery for found in json.loads(path.read_text())]
        write_page(results, discovery, options.page)
    return 0


def _measure(options: argparse.Namespace) -> list[dict[str, Any]]:
    started = time.monotonic()
    place = Workplace(options.directory.absolute())
    place.scratch.mkdir(parents=True)
    works = plan(
        quick=options.quick,
        peers=options.peers,
        cases=options.case,
        tools=options.tool,
        numbers=options.n,
    )
    runs: list[dict[str, Any]] = []
    try:
        small = make_data(place.data, QUICK)
        data = small if options.quick else make_data(place.data, FULL)
        say("the images are there", started)
        for number in range(options.rounds):
            for work in works:
                runs += _run(place, data, small, work, peers=options.peers, round_number=number)
                say(f"round {number + 1} of {options.rounds}: {work.case}", started)
    finally:
        shutil.rmtree(place.scratch)
    return runs


def _run(
    place: Workplace, data: Data, small: Data, work: Work, *, peers: bool, round_number: int
) -> Sequence[dict[str, Any]]:
    runs: list[dict[str, Any]] = []
    how: dict[str, Any] = {"tools": work.tools, "round_number": round_number, "keep": runs.append}
    if work.case == tile_work.CASE:
        tile_work.measure_tiles(place, data, numbers=work.numbers, **how)
    elif work.case == quantum_work.CASE:
        # Its memory is no matter of chance: once is enough.
        for n in work.numbers if round_number == 0 else ():
            quantum_work.measure_quantum(place, data, n=n, keep=runs.append)
    elif work.case == product_work.CASE:
        for n in work.numbers:
            product_work.measure_product(place, data, small, n=n, peers=peers, **how)
    else:
        measure_patch(place, data, small, cases=[work.case], numbers=work.numbers, peers=peers, **how)
    return runs


def say(text: str, started: float) -> None:
    print(f"benchmark: {time.monotonic() - started:5.0f} s  {text}", file=sys.stderr, flush=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="bin/benchmark", description="This package side by side with the tools that users have today."
    )
    parser.add_argument("--quick", action="store_true", help="small images, few targets, one round")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there")
    parser.add_argument("--page", type=Path, metavar="FILE", help="write a page in Markdown with pictures")
    parser.add_argument("--results", type=Path, metavar="FILE", help="measure nothing; take those of --json")
    parser.add_argument(
        "--discovery",
        type=Path,
        nargs="+",
        default=(),
        metavar="FILE",
        help="for the page: what benchmarks/discovery_rate.py --json wrote",
    )
    parser.add_argument(
        "--no-peers",
        dest="peers",
        action="store_false",
        help="install nothing: only tools that this package needs itself",
    )
    parser.add_argument("--rounds", type=int, help="runs of each tool (default 3; 1 with --quick)")
    parser.add_argument("--case", nargs="+", choices=ALL_CASES, default=(), help="kinds of work")
    parser.add_argument("--tool", nargs="+", choices=ALL_TOOLS, default=(), help="tools")
    parser.add_argument("-n", nargs="+", type=int, default=(), help="numbers of targets")
    parser.add_argument(
        "--directory", type=Path, default=ROOT / ".benchmark", help="where to work (default .benchmark)"
    )
    options = parser.parse_args()
    options.rounds = options.rounds or (1 if options.quick else 3)
    return options


if __name__ == "__main__":
    sys.exit(main())
