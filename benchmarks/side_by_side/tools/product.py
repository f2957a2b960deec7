# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""What the products of the peers have in common.

A product is one HDF5 file with the targets' identifiers and positions and an
array (target, band, y, x) for each plane, chunked and compressed as ours.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow.parquet as pq
from astropy.io import fits
from astropy.wcs import WCS
from work import BLOCK, PLANES, peak_bytes, stopwatch

__all__ = ("carry_out_product",)

Planes = Mapping[str, np.ndarray]
Read = Callable[[str, Mapping[str, str]], Planes]
Fill = Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray], None]


def carry_out_product(read: Read, fill: Fill) -> None:
    """Carry out the job whose file is named on the command line.

    Parameters
    ----------
    read
        Reads the planes of a file, whole.
    fill
        Fills a block with cutouts of a plane: called with the block, the
        plane, and the positions x and y of the targets.
    """
    job = json.loads(Path(sys.argv[1]).read_text())
    for each in (job["warm_up"], job):
        elapsed = stopwatch()
        _make_product(each, read, fill)
        report = {**elapsed(), "bytes": each["bytes"]}
    Path(job["report"]).write_text(json.dumps({**report, "peak_bytes": peak_bytes()}))


def _make_product(job: Mapping[str, Any], read: Read, fill: Fill) -> None:
    size, bands = job["size"], job["bands"]
    catalog = pq.read_table(job["catalog"]).to_pydict()
    columns = {name: np.array(values) for name, values in catalog.items()}
    n = len(columns["id"])
    # Which patch a target is in is given; ours finds that out by itself.
    order = np.argsort(columns["patch"], kind="stable")
    with h5py.File(job["output"], "w", libver=("v110", "v110")) as file:
        for name in ("id", "ra", "dec"):
            file[f"catalog/{name}"] = columns[name][order]
        shape = (n, len(bands), size, size)
        stored = {
            plane: file.create_dataset(
                f"images/{plane}", shape, dtype, **_tuples(job["storage"].get(plane, {}))
            )
            for plane, dtype in PLANES.items()
        }
        for patch, start, stop in _runs(columns["patch"][order]):
            members = order[start:stop]
            for number, band in enumerate(bands):
                path = job["images"][str(patch)][band]
                wcs = WCS(fits.getheader(path, job["planes"]["image"]))
                x, y = wcs.all_world2pix(columns["ra"][members], columns["dec"][members], 0)
                for plane, pixels in read(path, job["planes"]).items():
                    block = np.empty((min(BLOCK, stop - start), size, size), PLANES[plane])
                    for first in range(0, stop - start, BLOCK):
                        part = slice(first, min(first + BLOCK, stop - start))
                        filled = block[: part.stop - first]
                        fill(filled, pixels, x[part], y[part])
                        stored[plane][start + first : start + part.stop, number] = filled


def _tuples(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in settings.items()}


def _runs(values: np.ndarray) -> Iterator[tuple[int, int, int]]:
    edges = [0, *(np.flatnonzero(np.diff(values)) + 1).tolist(), len(values)]
    for start, stop in zip(edges, edges[1:], strict=False):
        yield int(values[start]), start, stop
