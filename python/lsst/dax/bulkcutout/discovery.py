# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Targets meet the sky map and the Butler: a patch and its datasets for each
target, or a reason why not.

This is the only place where the registry is asked anything.
"""

from __future__ import annotations

import dataclasses
import logging
from collections import Counter
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lsst.daf.butler import Butler

from . import tables
from .campaign import Campaign, TractPlan
from .catalog import Catalog
from .locate import Location, Locator
from .request import CutoutRequest
from .source_images import Coverage, SourceImages, chunks_of_tracts
from .spool import Spool
from .target_table import TargetTableWriter

__all__ = ("Discovery", "discover", "located_schema")

_LOG = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Discovery:
    """What was found."""

    skymap: str
    """Sky map that tract and patch numbers belong to."""

    bands: tuple[str, ...]
    """Band axis: what was asked for, or all bands that any target has."""

    coverage: list[Coverage]
    """Patches that have targets and datasets, ascending."""

    refused: dict[str, int]
    """Rows refused, by status."""

    tracts: tuple[TractPlan, ...]
    """The target files that were written."""

    warnings: tuple[str, ...]
    """What the user should know."""


def discover(
    request: CutoutRequest,
    catalog: Catalog,
    butler: Butler,
    campaign: Campaign,
    *,
    progress: Callable[[int], None] = lambda rows: None,
) -> Discovery:
    """Give every target its patch and datasets, or a reason why not.

    Parameters
    ----------
    request
        What the user asked for.
    catalog
        The user's rows.
    butler
        The source repository, read only.
    campaign
        Where to write the target table and the refused rows.
    progress
        Called with the number of rows of each batch that was located.

    Returns
    -------
    discovery
        Patches with their datasets, and counts.

    Raises
    ------
    UserError
        Raised if the repository does not have what the request names.
    """
    images = SourceImages(butler, request)
    locator, skymap = images.locator()
    spool = Spool(campaign.scratch / "targets", located_schema(catalog.schema))
    refused = RefusedRows(campaign, catalog.schema)
    try:
        for batch in catalog.batches():
            _locate_batch(batch, locator, spool, refused)
            progress(batch.num_rows)
        writer = TargetTableWriter(campaign.targets)
        coverage: list[Coverage] = []
        groups = spool.groups()
        for tracts in chunks_of_tracts(sorted({tract for tract, _ in groups})):
            datasets = images.datasets(tracts)
            for tract, patch in (group for group in groups if tracts[0] <= group[0] <= tracts[-1]):
                if found := datasets.get((tract, patch)):
                    writer.write(tract, patch, spool.read((tract, patch)))
                    coverage.append(Coverage(tract, patch, found))
                else:
                    reason = f"Patch {patch} of tract {tract} has no {images.description}."
                    for rows in spool.read((tract, patch)):
                        refused.add_with(rows, tables.NO_DATASET, reason)
        written = writer.close()
    finally:
        spool.close()
        counts = refused.close()
    present = {band for patch in coverage for band in patch.datasets}
    bands = _band_axis(request, present)
    warnings = [*catalog.warnings]
    if missing := [band for band in bands if band not in present]:
        warnings.append(
            f"No target has an image in band {', '.join(missing)}: these bands will be empty in the product."
        )
    return Discovery(
        skymap=skymap,
        bands=bands,
        coverage=coverage,
        refused=counts,
        tracts=written,
        warnings=tuple(warnings),
    )


def located_schema(schema: pa.Schema) -> pa.Schema:
    """Columns of the target table: the catalog's, with the pixel position.

    Parameters
    ----------
    schema
        Columns of the catalog's batches.

    Returns
    -------
    schema
        The same without status and reason, with ``x`` and ``y`` (float64,
        zero-based tract pixels; NaN where only the image's own WCS tells).
    """
    fields = [field for field in schema if field.name not in ("status", "reason")]
    after = 1 + [field.name for field in fields].index("patch")
    pixels = [pa.field("x", pa.float64()), pa.field("y", pa.float64())]
    return pa.schema([*fields[:after], *pixels, *fields[after:]])


class RefusedRows:
    """Rows that no quantum will see, written as they are met.

    Parameters
    ----------
    campaign
        Where to write them.
    schema
        Columns of the catalog's batches.
    """

    def __init__(self, campaign: Campaign, schema: pa.Schema) -> None:
        self._schema = schema
        self._writer = pq.ParquetWriter(campaign.refused, schema, compression="zstd")
        self._counts: Counter[str] = Counter()

    def add(self, rows: pa.RecordBatch) -> None:
        """Take rows that have a status and a reason."""
        if rows.num_rows:
            self._counts.update(rows.column("status").to_pylist())
            self._writer.write_batch(rows)

    def add_with(self, rows: pa.RecordBatch, status: str, reason: str) -> None:
        """Take rows that share a status and a reason."""
        n = rows.num_rows
        columns = {
            "status": pa.array([status] * n, self._schema.field("status").type),
            "reason": pa.array([reason] * n, self._schema.field("reason").type),
        }
        arrays = [columns.get(field.name, None) for field in self._schema]
        arrays = [
            rows.column(field.name) if array is None else array
            for field, array in zip(self._schema, arrays, strict=True)
        ]
        self.add(pa.RecordBatch.from_arrays(arrays, schema=self._schema))

    def close(self) -> dict[str, int]:
        """Finish the file; gives the number of rows by status."""
        self._writer.close()
        return dict(sorted(self._counts.items()))


def _locate_batch(batch: pa.RecordBatch, locator: Locator, spool: Spool, refused: RefusedRows) -> None:
    good = batch.column("status").is_null().to_numpy(zero_copy_only=False)
    refused.add(batch.filter(pa.array(~good)))
    batch = batch.filter(pa.array(good))
    ra, dec = batch.column("ra").to_numpy(), batch.column("dec").to_numpy()
    given_tract = batch.column("tract").fill_null(-1).to_numpy().astype(np.int64)
    given_patch = batch.column("patch").fill_null(-1).to_numpy().astype(np.int64)
    given = (given_tract >= 0) & (given_patch >= 0)
    place = Location(*(np.full(len(ra), filler) for filler in (-1, -1, np.nan, np.nan)))
    for members, located in (
        (given, locator.check(given_tract[given], given_patch[given], ra[given], dec[given])),
        (~given, locator.locate(ra[~given], dec[~given])),
    ):
        for name in ("tract", "patch", "x", "y"):
            getattr(place, name)[members] = getattr(located, name)
    on_map = place.patch >= 0
    nowhere = place.tract < 0
    for members, status, reason in (
        (
            given & nowhere,
            tables.INVALID_POSITION,
            "The catalog's tract and patch do not hold this position.",
        ),
        (~given & nowhere, tables.OUTSIDE_FOOTPRINT, "The position is in no patch of the sky map."),
        (
            given & ~nowhere & ~on_map,
            tables.OUTSIDE_FOOTPRINT,
            "The catalog puts this row into a tract without such images.",
        ),
        (
            ~given & ~nowhere & ~on_map,
            tables.OUTSIDE_FOOTPRINT,
            "The position is in a tract without such images.",
        ),
    ):
        refused.add_with(batch.filter(pa.array(members)), status, reason)
    columns = {name: pa.array(getattr(place, name)) for name in ("tract", "patch", "x", "y")}
    schema = located_schema(batch.schema)
    arrays = [
        columns[field.name].cast(field.type) if field.name in columns else batch.column(field.name)
        for field in schema
    ]
    located_rows = pa.RecordBatch.from_arrays(arrays, schema=schema).filter(pa.array(on_map))
    spool.add(place.tract[on_map], place.patch[on_map], located_rows)


def _band_axis(request: CutoutRequest, present: set[str]) -> tuple[str, ...]:
    return tables.in_band_order(present if request.bands == "all" else request.bands)
