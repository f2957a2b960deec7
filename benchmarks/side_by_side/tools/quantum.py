# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""One quantum: all targets of a patch in all its bands, without finish."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from work import peak_bytes, stopwatch

from lsst.dax.bulkcutout.tests.campaigns import init_and_run


def main() -> None:
    job = json.loads(Path(sys.argv[1]).read_text())
    elapsed = stopwatch()
    init_and_run(Path(job["request"]))
    report = {**elapsed(), "bytes": job["bytes"]}
    Path(job["report"]).write_text(json.dumps({**report, "peak_bytes": peak_bytes()}))


if __name__ == "__main__":
    main()
