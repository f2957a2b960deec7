# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""What a product has for Aladin and TOPCAT: coverage map and VOTable."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ..manifest import STATUS_NAME, ProductFile, describe_file
from ..request import CutoutRequest
from ..sphere import unit_vectors
from ..spool import Spool
from .coverage_map import COVERAGE_NAME, CoverageMap, coverage_order
from .cutout_corners import read_corners
from .status_votable import STATUS_VOTABLE_NAME, write_status_votable

__all__ = ("remove_sky_files", "write_sky_files")

GROUP_ROWS = 100_000
"""Rows of the catalog that are in memory."""

_FOOTPRINTS = pa.schema([("row", pa.int64()), ("corners", pa.list_(pa.float64(), 8))])


def remove_sky_files(directory: Path) -> None:
    """Remove what an earlier attempt has written.

    Parameters
    ----------
    directory
        Directory of the product.
    """
    for name in (COVERAGE_NAME, STATUS_VOTABLE_NAME):
        (directory / name).unlink(missing_ok=True)


def write_sky_files(
    request: CutoutRequest, directory: Path, scratch: Path, data_files: Sequence[ProductFile], n_rows: int
) -> list[ProductFile]:
    """Write what was asked for of the two files.

    Parameters
    ----------
    request
        What the user asked for.
    directory
        Directory of the product, which has its data files and
        ``status.parquet``.
    scratch
        Where to put temporary files.
    data_files
        The data files.
    n_rows
        Number of rows of the catalog.

    Returns
    -------
    files
        Their entries in the manifest.

    Raises
    ------
    TransientError
        Raised if the disk takes no more.
    """
    if not (request.coverage_map or request.status_votable):
        return []
    spool = Spool(scratch / "footprints", _FOOTPRINTS)
    coverage: CoverageMap | None = None
    written = []
    try:
        # The smallest first: they decide on the order of the map.
        for file in sorted(data_files, key=lambda file: (file.size or 0, file.path)):
            for rows, corners in read_corners(directory / file.path):
                if request.coverage_map:
                    coverage = coverage or CoverageMap(coverage_order(_side_arcsec(corners)))
                    coverage.add(corners)
                if request.status_votable:
                    spool.add(rows // GROUP_ROWS, np.zeros_like(rows), _batch(rows, corners))
        if request.coverage_map:
            (coverage or CoverageMap(0)).write(directory / COVERAGE_NAME)
            written.append(describe_file(directory, COVERAGE_NAME))
        if request.status_votable:
            with pq.ParquetFile(directory / STATUS_NAME) as status:
                write_status_votable(
                    directory / STATUS_VOTABLE_NAME,
                    status.schema_arrow,
                    _status_rows(status, spool),
                    n_rows=n_rows,
                    infos={"request_id": request.request_id, "dataset_type": request.dataset_type},
                )
            written.append(describe_file(directory, STATUS_VOTABLE_NAME, rows=n_rows))
    finally:
        spool.close()
    return written


def _batch(rows: np.ndarray, corners: np.ndarray) -> pa.RecordBatch:
    values = pa.FixedSizeListArray.from_arrays(pa.array(corners.reshape(-1)), 8)
    return pa.RecordBatch.from_arrays([pa.array(rows), values], schema=_FOOTPRINTS)


def _side_arcsec(corners: np.ndarray) -> float:
    """Side of the first box."""
    here, there = unit_vectors(corners[0, :2, 0], corners[0, :2, 1])
    return math.degrees(2 * math.asin(float(np.linalg.norm(here - there)) / 2)) * 3600.0


def _status_rows(status: pq.ParquetFile, spool: Spool) -> Iterator[tuple[pa.RecordBatch, np.ndarray]]:
    """All rows, with the corners of their cutouts."""
    for batch in status.iter_batches(batch_size=GROUP_ROWS):
        rows = batch.column("row").to_numpy()
        corners = np.full((len(rows), 4, 2), np.nan)
        groups = [(group, 0) for group in np.unique(rows // GROUP_ROWS).tolist()]
        for found in spool.read_together(groups):
            there = found.column("row").to_numpy()
            values = found.column("corners").flatten().to_numpy().reshape(-1, 4, 2)
            here = (there >= rows[0]) & (there <= rows[-1])
            corners[there[here] - rows[0]] = values[here]
        yield batch, corners
