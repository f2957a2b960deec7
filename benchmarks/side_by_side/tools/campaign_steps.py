# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Our own campaign in one process: plan, quanta, finish.

These are the steps and the code of a real run, without the starts of its
processes and without BPS.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

from work import peak_bytes, stopwatch

from lsst.dax.bulkcutout.tests.campaigns import run_here


def main() -> None:
    job = json.loads(Path(sys.argv[1]).read_text())
    for each in (job["warm_up"], job) if job["warm_up"] else (job,):
        request = Path(each["request"])
        # What an earlier run has left.
        for name in ("campaign", "out"):
            shutil.rmtree(request.parent / name, ignore_errors=True)
        elapsed = stopwatch()
        _, status = run_here(request)
        report = {**elapsed(), "bytes": each["bytes"]}
        if status != 0:
            sys.exit(f"The campaign ended with {status}.")
    Path(job["report"]).write_text(json.dumps({**report, "peak_bytes": peak_bytes()}))


if __name__ == "__main__":
    main()
