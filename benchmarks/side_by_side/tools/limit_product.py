# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""The least that a product can cost: see limit.py, for several images."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from limit import cut, prepare
from work import Sink, peak_bytes, read_targets, stopwatch


def main() -> None:
    job = json.loads(Path(sys.argv[1]).read_text())
    for parts in (job["warm_up"]["parts"], job["parts"]):
        targets = [read_targets(part) for part in parts]
        for part, columns in zip(parts, targets, strict=True):
            Path(part["output"]).mkdir(parents=True, exist_ok=True)
            prepare(part, columns)
        elapsed = stopwatch()
        for part, columns in zip(parts, targets, strict=True):
            sink = Sink(part["output"])
            cut(part, columns, sink)
            sink.close()
    report = {**elapsed(), "bytes": job["bytes"]}
    Path(job["report"]).write_text(json.dumps({**report, "peak_bytes": peak_bytes()}))


if __name__ == "__main__":
    main()
