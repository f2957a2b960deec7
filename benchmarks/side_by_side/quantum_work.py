# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""The memory of one quantum with many targets in six bands."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from .check import WrongPixelsError
from .data import ALL_BANDS, Data
from .measure import measure
from .patch_work import TOOLS_DIRECTORY
from .targets import SIZE, patch_targets
from .tools.work import PLANES
from .workplace import Workplace

__all__ = ("CASE", "TOOLS", "measure_quantum")

CASE = "quantum"

TOOLS = {"bulkcutout": "plan and quantum in one process, into a cutout dataset on disk"}
"""What it does."""


def measure_quantum(place: Workplace, data: Data, *, n: int, keep: Callable[[dict[str, Any]], None]) -> None:
    """Run it once.

    Parameters
    ----------
    place
        Where to work.
    data
        The images.
    n
        Number of targets.
    keep
        Takes the figures.
    """
    directory = place.scratch / "quantum"
    directory.mkdir()
    targets = patch_targets(data, data.patches[0], n)
    catalog = directory / "catalog.parquet"
    pq.write_table(pa.table({"id": np.arange(n), "ra": targets["ra"], "dec": targets["dec"]}), catalog)
    request = {
        "schema_version": 1,
        "request_id": "benchmark",
        "catalog": {"uri": str(catalog), "id_column": "id"},
        "butler": str(data.repository),
        "collections": ["coadds"],
        "dataset_type": "deep_coadd",
        "bands": list(ALL_BANDS),
        "size": SIZE,
        "planes": list(PLANES),
        "output": str(directory / "out"),
    }
    (directory / "request.json").write_text(json.dumps(request))
    pixels = n * len(ALL_BANDS) * SIZE**2
    size = pixels * sum(np.dtype(dtype).itemsize for dtype in PLANES.values())
    job, report = directory / "job.json", directory / "report.json"
    job.write_text(
        json.dumps({"request": str(directory / "request.json"), "report": str(report), "bytes": size})
    )
    command = [sys.executable, str(TOOLS_DIRECTORY / "quantum.py"), str(job)]
    figures: dict[str, Any] = measure(
        command, log=place.scratch / "log", report=report, env=place.own_environment()
    )
    _check(directory, pixels)
    shutil.rmtree(directory)
    keep({"tool": "bulkcutout", "case": CASE, "n": n, "round": 0, "bands": len(ALL_BANDS), **figures})


def _check(directory: Path, pixels: int) -> None:
    """All pixels are there; which they are is checked end to end."""
    found = []
    for path in (directory / "campaign" / "datastore").rglob("*.hdf5"):
        with h5py.File(path) as file:
            file.visititems(lambda name, item: found.append(getattr(item, "size", 0)))
    if found.count(pixels) != len(PLANES):
        raise WrongPixelsError(
            f"Of {pixels} pixels in {len(PLANES)} planes a quantum gave {sorted(found)[-4:]}."
        )
