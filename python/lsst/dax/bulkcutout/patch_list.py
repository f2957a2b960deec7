# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""The patches of a campaign: how many targets each has, and where it is.

For those who watch: neither graph nor registry need be read.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lsst.sphgeom import ConvexPolygon, Region

from .sphere import corners_of
from .target_table import target_counts

__all__ = ("CampaignPatch", "read_patches", "write_patches")


@dataclasses.dataclass(frozen=True)
class CampaignPatch:
    """A patch that has targets."""

    tract: int
    """Tract identifier."""

    patch: int
    """Patch identifier."""

    rows: int
    """Number of targets."""

    corners: np.ndarray
    """Right ascension and declination of the corners, ICRS degrees, shape
    ``(k, 2)``; no corners if they are not known."""


_SCHEMA = pa.schema(
    {
        "tract": pa.int64(),
        "patch": pa.int64(),
        "rows": pa.int64(),
        "corners_ra": pa.list_(pa.float64()),
        "corners_dec": pa.list_(pa.float64()),
    }
)


def write_patches(
    path: Path, target_files: Sequence[Path], regions: Mapping[tuple[int, int], Region]
) -> None:
    """Write the list of patches.

    Parameters
    ----------
    path
        File to write (Parquet).
    target_files
        The target table.
    regions
        Region on the sky by tract and patch, as far as they are known.
    """
    rows = []
    for target_file in target_files:
        for (tract, patch), n_rows in sorted(target_counts(target_file).items()):
            region = regions.get((tract, patch))
            ra, dec = corners_of(region) if isinstance(region, ConvexPolygon) else ((), ())
            rows.append((tract, patch, n_rows, list(ra), list(dec)))
    columns = list(zip(*rows, strict=True)) or [[] for _ in _SCHEMA]
    pq.write_table(pa.table(columns, schema=_SCHEMA), path)


def read_patches(path: Path) -> list[CampaignPatch]:
    """Read what `write_patches` wrote.

    Parameters
    ----------
    path
        The file.

    Returns
    -------
    patches
        By tract and patch, ascending.
    """
    table = pq.read_table(path)
    return [
        CampaignPatch(tract, patch, rows, np.stack([ra, dec], axis=-1).astype(np.float64))
        for tract, patch, rows, ra, dec in zip(
            *(table.column(name).to_pylist() for name in _SCHEMA.names), strict=True
        )
    ]
