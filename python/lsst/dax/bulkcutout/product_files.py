# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Which targets go into which file of the product.

The answer follows from request and target table alone: it is the same however
many quanta have failed.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from .campaign import Campaign, Plan
from .formats import FORMATS
from .request import CutoutRequest

__all__ = ("Piece", "ProductFilePlan", "plan_files", "rows_per_file")

PSF_SIDE_ALLOWANCE = 51
"""Side of the PSF kernels that is assumed where file sizes are planned, which
is before any file was read."""


@dataclasses.dataclass(frozen=True)
class Piece:
    """Consecutive targets of one patch and size."""

    patch: int
    """Patch identifier."""

    start: int
    """First target, counted among those of the patch and size."""

    stop: int
    """Target after the last."""


@dataclasses.dataclass(frozen=True)
class ProductFilePlan:
    """What may go into one data file."""

    path: str
    """Path relative to the product."""

    tract: int
    """Tract identifier."""

    size: int
    """Side of the cutouts in pixels."""

    pieces: tuple[Piece, ...]
    """Targets, in the order of the file."""


def rows_per_file(request: CutoutRequest, *, size: int, n_bands: int) -> int:
    """Most rows that a data file may have.

    Parameters
    ----------
    request
        What the user asked for.
    size
        Side of the cutouts in pixels.
    n_bands
        Length of the band axis.

    Returns
    -------
    rows
        At least one.
    """
    planes = sum(plane in request.planes for plane in ("image", "variance", "mask"))
    psf = PSF_SIDE_ALLOWANCE**2 if "psf" in request.planes else 0
    row_bytes = 4 * n_bands * (planes * size * size + psf)
    limits = request.partition
    return max(1, min(limits.max_rows_per_file, limits.max_bytes_per_file // row_bytes))


def plan_files(request: CutoutRequest, plan: Plan, campaign: Campaign) -> Iterator[ProductFilePlan]:
    """Divide the targets of a campaign among files.

    Parameters
    ----------
    request
        What the user asked for.
    plan
        The campaign's plan.
    campaign
        The campaign, for its target table.

    Yields
    ------
    file
        Files by tract, then size, then number.
    """
    suffix = FORMATS[request.formats[0]].suffix
    for tract in plan.tracts:
        counts = _count_by_patch(campaign.targets / tract.path)
        for size in sorted(tract.rows_by_size):
            limit = rows_per_file(request, size=size, n_bands=len(plan.bands))
            patches = [(patch, n) for (patch, this), n in sorted(counts.items()) if this == size]
            for number, pieces in enumerate(_divide(patches, limit)):
                name = f"cutouts_size{size}_tract{tract.tract}_{number:04d}{suffix}"
                yield ProductFilePlan(f"size={size}/{name}", tract.tract, size, pieces)


def _count_by_patch(path: Path) -> Counter[tuple[int, int]]:
    """Number of targets by patch and size."""
    counts: Counter[tuple[int, int]] = Counter()
    with pq.ParquetFile(path) as file:
        for group in range(file.num_row_groups):
            columns = file.read_row_group(group, columns=["patch", "size_pixels"])
            patch = columns["patch"][0].as_py()
            sizes, n = np.unique(columns["size_pixels"].to_numpy(), return_counts=True)
            counts.update(
                {(patch, size): many for size, many in zip(sizes.tolist(), n.tolist(), strict=True)}
            )
    return counts


def _divide(patches: Sequence[tuple[int, int]], limit: int) -> Iterator[tuple[Piece, ...]]:
    """Cut the row of all patches' targets into lengths of ``limit``."""
    pieces: list[Piece] = []
    room = limit
    for patch, n in patches:
        start = 0
        while start < n:
            stop = min(n, start + room)
            pieces.append(Piece(patch, start, stop))
            room -= stop - start
            start = stop
            if room == 0:
                yield tuple(pieces)
                pieces, room = [], limit
    if pieces:
        yield tuple(pieces)
