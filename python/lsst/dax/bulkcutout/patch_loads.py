# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""How much work each patch of a campaign is: written while the graph is built,
when rows and images are known, and read when quanta become jobs.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from .campaign import Campaign, Plan
from .discovery.source_images import Coverage, SourceImages
from .errors import InternalError
from .estimate.cost import Sample, prices, quantum_seconds
from .request import CutoutRequest
from .target_table import target_counts

__all__ = ("PatchLoads", "read_patch_loads", "write_patch_loads")

VERSION = b"1"
UNKNOWN_IMAGE_BYTES = 25_000_000
"""Size of a DP2 coadd, where the repository knows of no image's size."""

_COLUMNS = ("tract", "patch", "rows", "images", "image_bytes", "product_bytes")


@dataclasses.dataclass(frozen=True)
class PatchLoads:
    """The work of all patches, by number of the patch in the list."""

    places: list[tuple[int, int]]
    """Tract and patch, ascending."""

    rows: np.ndarray
    """Number of targets."""

    images: np.ndarray
    """Number of images to open, those of neighbours included."""

    image_bytes: np.ndarray
    """Size of their files and companions."""

    product_bytes: np.ndarray
    """Size of the cutouts in the product."""

    max_memory_mb: int
    """Memory that a quantum may use for pixels."""

    @property
    def seconds(self) -> np.ndarray:
        """Processor time of each patch."""
        columns = (self.rows, self.images, self.image_bytes, self.product_bytes)
        patches = zip(*(column.tolist() for column in columns), strict=True)
        return np.array(
            [
                quantum_seconds(rows=rows, images=images, image_bytes=read, product_bytes=written)
                for rows, images, read, written in patches
            ]
        )


def write_patch_loads(
    campaign: Campaign,
    request: CutoutRequest,
    plan: Plan,
    coverage: Sequence[Coverage],
    images: SourceImages,
    *,
    max_memory_mb: int,
) -> None:
    """Write down what each patch will cost.

    Parameters
    ----------
    campaign, request, plan
        The campaign.
    coverage
        All patches that have targets, with the images that they need.
    images
        The repository's images.
    max_memory_mb
        Memory that a quantum may use for pixels.

    Notes
    -----
    No target is read: their numbers are in the footers of the target files.
    Where a tract has cutouts of several sizes, each patch is taken to have
    the tract's mixture of them.
    """
    rows: dict[tuple[int, int], int] = {}
    bytes_a_row: dict[int, float] = {}
    sample = Sample(
        n_noise=plan.extra_planes.get("noise", 0), n_fractions=plan.extra_planes.get("mask_fraction", 0)
    )
    for tract in plan.tracts:
        rows.update(target_counts(campaign.targets / tract.path))
        costs = prices(
            request.planes,
            tract.rows_by_size,
            n_bands=len(plan.bands),
            sample=sample,
            precision=request.precision,
        )
        wanted = sum(price.bytes for price in costs if price.wanted)
        bytes_a_row[tract.tract] = wanted / sum(tract.rows_by_size.values())
    files = [
        [*patch.datasets.values(), *patch.neighbors.values(), *patch.all_companions] for patch in coverage
    ]
    sizes = images.file_sizes([ref for refs in files for ref in refs])
    typical = sum(sizes.values()) // len(sizes) if sizes else UNKNOWN_IMAGE_BYTES
    table = []
    for patch, refs in sorted(zip(coverage, files, strict=True), key=lambda pair: _place(pair[0])):
        n = rows[patch.tract, patch.patch]
        table.append(
            (
                patch.tract,
                patch.patch,
                n,
                len(patch.datasets) + len(patch.neighbors),
                sum(sizes.get(ref.id, typical) for ref in refs),
                round(n * bytes_a_row[patch.tract]),
            )
        )
    columns = np.array(table, dtype=np.int64).reshape(-1, len(_COLUMNS)).T
    schema = pa.schema(
        [(name, pa.int64()) for name in _COLUMNS],
        metadata={"version": VERSION, "max_memory_mb": str(max_memory_mb)},
    )
    temporary = campaign.patch_loads.with_name(f".{campaign.patch_loads.name}.{os.getpid()}")
    pq.write_table(pa.table(list(columns), schema=schema), temporary)
    temporary.replace(campaign.patch_loads)


def read_patch_loads(campaign: Campaign) -> PatchLoads:
    """Read what `write_patch_loads` wrote.

    Parameters
    ----------
    campaign
        The campaign.

    Returns
    -------
    loads
        The work of all its patches.

    Raises
    ------
    FileNotFoundError
        Raised if the graph was built by something else than build-graph.
    InternalError
        Raised if it is of another version of this software.
    """
    table = pq.read_table(campaign.patch_loads)
    metadata = table.schema.metadata or {}
    if metadata.get(b"version") != VERSION:
        raise InternalError(
            f"{campaign.patch_loads} is of another version of this software: build the graph anew."
        )
    column = {name: table.column(name).to_numpy() for name in _COLUMNS}
    return PatchLoads(
        places=list(zip(column["tract"].tolist(), column["patch"].tolist(), strict=True)),
        rows=column["rows"],
        images=column["images"],
        image_bytes=column["image_bytes"],
        product_bytes=column["product_bytes"],
        max_memory_mb=int(metadata[b"max_memory_mb"]),
    )


def _place(patch: Coverage) -> tuple[int, int]:
    return patch.tract, patch.patch
