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
from collections.abc import Callable

import numpy as np
import pyarrow as pa

from .. import tables
from ..campaign import Campaign, TractPlan
from ..catalog import Catalog
from ..request import CutoutRequest
from ..row_order import merged
from ..skymap.locate import Location, Locator
from ..spool import Spool
from ..target_table import TargetTableWriter
from .fallback import GIVEN, NO_IMAGE_IN_TRACT, find_fallbacks
from .refused_rows import RefusedRows
from .source_images import Coverage, SourceImages
from .tract_geometry import TractGeometry
from .tract_sizes import TractSizes

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
    images: SourceImages,
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
    images
        The images of the source repository.
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
    locator, skymap = images.locator()
    spool = Spool(campaign.scratch / "targets", _with_given(located_schema(catalog.schema)))
    moved = Spool(campaign.scratch / "moved", located_schema(catalog.schema), order_by="row")
    refused = RefusedRows(campaign, catalog.schema)
    try:
        for batch in catalog.batches():
            _locate_batch(batch, locator, spool, refused)
            progress(batch.num_rows)
        groups = spool.groups()
        found = images.found(groups)
        strays = [group for group in groups if group not in found]
        found |= find_fallbacks(strays, spool, locator, images, moved, refused)
        writer = TargetTableWriter(campaign.targets)
        sizes = TractSizes(catalog.sizes, TractGeometry(images), refused)
        places = sorted(found)
        for (place, own), (_, others) in zip(spool.read(places), moved.read(places), strict=True):
            own = (rows.drop_columns([GIVEN]) for rows in own)
            rows = sizes.settle(place[0], merged([own, others], "row"))
            if not writer.write(*place, rows):
                del found[place]
        written = writer.close()
    finally:
        spool.close()
        moved.close()
        counts = refused.close()
    coverage = [Coverage(*place, datasets) for place, datasets in sorted(found.items())]
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
        The same without status and reason, with ``fallback`` (bool, whether
        another patch stands in for that of the rule), ``x`` and ``y``
        (float64, zero-based tract pixels; NaN where only the image's own WCS
        tells).
    """
    fields = [field for field in schema if field.name not in ("status", "reason")]
    after = 1 + [field.name for field in fields].index("patch")
    place = [pa.field("fallback", pa.bool_()), pa.field("x", pa.float64()), pa.field("y", pa.float64())]
    return pa.schema([*fields[:after], *place, *fields[after:]])


def _with_given(schema: pa.Schema) -> pa.Schema:
    return schema.append(pa.field(GIVEN, pa.bool_()))


def _locate_batch(batch: pa.RecordBatch, locator: Locator, spool: Spool, refused: RefusedRows) -> None:
    good = batch.column("status").is_null().to_numpy(zero_copy_only=False)
    if not good.all():
        refused.add(batch.filter(pa.array(~good)))
        batch = batch.filter(pa.array(good))
    ra, dec = batch.column("ra").to_numpy(), batch.column("dec").to_numpy()
    given_tract = batch.column("tract").fill_null(-1).to_numpy().astype(np.int64)
    given_patch = batch.column("patch").fill_null(-1).to_numpy().astype(np.int64)
    given = (given_tract >= 0) & (given_patch >= 0)
    if given.any():
        place = Location(*(np.full(len(ra), filler) for filler in (-1, -1, np.nan, np.nan)))
        for members, located in (
            (given, locator.check(given_tract[given], given_patch[given], ra[given], dec[given])),
            (~given, locator.locate(ra[~given], dec[~given])),
        ):
            for name in ("tract", "patch", "x", "y"):
                getattr(place, name)[members] = getattr(located, name)
    else:
        place = locator.locate(ra, dec)
    on_map = place.patch >= 0
    nowhere = place.tract < 0
    # Another tract's images may reach over one that has none.
    lost = np.flatnonzero(~given & ~nowhere & ~on_map)
    reached = np.zeros(len(ra), dtype=bool)
    if len(lost):
        reached[lost[locator.covering(ra[lost], dec[lost]).member]] = True
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
        (~given & ~nowhere & ~on_map & ~reached, tables.OUTSIDE_FOOTPRINT, NO_IMAGE_IN_TRACT),
    ):
        if members.any():
            refused.add_with(batch.filter(pa.array(members)), status, reason)
    kept = on_map | reached
    if not kept.any():
        return
    columns = {name: pa.array(getattr(place, name)) for name in ("tract", "patch", "x", "y")}
    columns |= {"fallback": pa.array(np.zeros(len(ra), dtype=bool)), GIVEN: pa.array(given)}
    schema = _with_given(located_schema(batch.schema))
    arrays = [
        columns[field.name].cast(field.type) if field.name in columns else batch.column(field.name)
        for field in schema
    ]
    rows = pa.RecordBatch.from_arrays(arrays, schema=schema)
    if kept.all():
        spool.add(place.tract, place.patch, rows)
    else:
        spool.add(place.tract[kept], place.patch[kept], rows.filter(pa.array(kept)))


def _band_axis(request: CutoutRequest, present: set[str]) -> tuple[str, ...]:
    return tables.in_band_order(present if request.bands == "all" else request.bands)
