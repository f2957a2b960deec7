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
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lsst.daf.butler import Butler, DatasetRef, MissingCollectionError, MissingDatasetTypeError

from . import tables
from .campaign import Campaign, TractPlan
from .catalog import Catalog
from .errors import UserError, did_you_mean
from .locate import Location, Locator, RegionLocator, RingsLocator, agrees_with_records
from .request import CutoutRequest
from .skymap import KNOWN_SKYMAPS
from .spool import Spool
from .target_table import TargetTableWriter, target_patches

__all__ = ("Coverage", "Discovery", "discover")

_LOG = logging.getLogger(__name__)

TRACTS_PER_QUERY = 50


@dataclasses.dataclass(frozen=True)
class Coverage:
    """The datasets of one patch."""

    tract: int
    """Tract identifier."""

    patch: int
    """Patch identifier."""

    datasets: dict[str, DatasetRef]
    """Dataset of each band that has one."""


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
        for tracts in _chunks(sorted({tract for tract, _ in groups}), TRACTS_PER_QUERY):
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


class SourceImages:
    """The images of a repository that a request asks for.

    Parameters
    ----------
    butler
        The source repository, read only.
    request
        What the user asked for.

    Raises
    ------
    UserError
        Raised if the repository does not have what the request names.
    """

    def __init__(self, butler: Butler, request: CutoutRequest) -> None:
        self._butler = butler
        self._request = request
        self._check_names()
        self._skymap = self._find_skymap()

    @property
    def description(self) -> str:
        """The images in words, for messages."""
        bands = "any band" if self._request.bands == "all" else f"band {', '.join(self._request.bands)}"
        return f"{self._request.dataset_type} in {bands}"

    def locator(self) -> tuple[Locator, str]:
        """The rule that gives positions to patches, and the map's name."""
        covered = self._covered_tracts()
        if not covered:
            raise UserError(
                f"Request field 'collections': no {self.description} on sky map {self._skymap!r} is in "
                f"{', '.join(self._request.collections)}."
            )
        regions = self._patch_regions(covered[:1])
        candidates = sorted(KNOWN_SKYMAPS.values(), key=lambda known: known.name != self._skymap)
        for known in candidates:
            if agrees_with_records(known, regions):
                _LOG.info("Sky map %s follows the rings formula of %s.", self._skymap, known.name)
                return RingsLocator(known, covered), self._skymap
        _LOG.info("Sky map %s follows no known formula: its recorded regions decide.", self._skymap)
        tracts = self._butler.query_dimension_records(
            "tract", where=f"skymap = '{self._skymap}'", limit=None, explain=False
        )
        locator = RegionLocator(
            {int(record.id): record.region for record in tracts if record.region is not None},
            lambda tract: {patch: r for (_, patch), r in self._patch_regions([tract]).items()},
            covered,
        )
        return locator, self._skymap

    def datasets(self, tracts: Sequence[int]) -> dict[tuple[int, int], dict[str, DatasetRef]]:
        """Datasets of some tracts, by tract and patch, then band."""
        where = f"{self._where()} AND tract IN ({', '.join(map(str, tracts))})"
        found: dict[tuple[int, int], dict[str, DatasetRef]] = {}
        # limit=None: the default of 20,000 drops the rest with no more than a
        # warning.
        for ref in self._butler.query_datasets(
            self._request.dataset_type,
            collections=self._request.collections,
            where=where,
            with_dimension_records=True,
            limit=None,
            explain=False,
        ):
            place = int(ref.dataId["tract"]), int(ref.dataId["patch"])
            found.setdefault(place, {})[str(ref.dataId["band"])] = ref
        return found

    def coverage(self, target_files: Sequence[Path]) -> list[Coverage]:
        """Datasets of all patches that a target table has, ascending."""
        places = sorted(place for path in target_files for place in target_patches(path))
        found: list[Coverage] = []
        for tracts in _chunks(sorted({tract for tract, _ in places}), TRACTS_PER_QUERY):
            datasets = self.datasets(tracts)
            found += [Coverage(*place, datasets[place]) for place in places if place in datasets]
        return found

    def _covered_tracts(self) -> list[int]:
        """Tracts that have any image that is asked for, ascending."""
        with self._butler.query() as query:
            found = query.join_dataset_search(
                self._request.dataset_type, collections=list(self._request.collections)
            )
            return sorted({int(d["tract"]) for d in found.where(self._where()).data_ids(["tract"])})

    def _where(self) -> str:
        """What all queries have in common.  The names in it were checked to
        be of safe characters when the request was read.
        """
        where = f"skymap = '{self._skymap}'"
        if self._request.bands != "all":
            names = ", ".join(f"'{band}'" for band in self._request.bands)
            where += f" AND band IN ({names})"
        return where

    def _patch_regions(self, tracts: Sequence[int]) -> dict[tuple[int, int], object]:
        records = self._butler.query_dimension_records(
            "patch",
            where=f"skymap = '{self._skymap}' AND tract IN ({', '.join(map(str, tracts))})",
            limit=None,
            explain=False,
        )
        return {(int(r.tract), int(r.id)): r.region for r in records if r.region is not None}

    def _check_names(self) -> None:
        request, butler = self._request, self._butler
        try:
            dataset_type = butler.get_dataset_type(request.dataset_type)
        except MissingDatasetTypeError:
            known = [found.name for found in butler.registry.queryDatasetTypes(...)]
            raise _unknown("dataset_type", request.dataset_type, known) from None
        dimensions = set(dataset_type.dimensions.required)
        if dimensions != {"band", "skymap", "tract", "patch"}:
            raise UserError(
                f"Request field 'dataset_type': {request.dataset_type!r} has dimensions "
                f"{', '.join(sorted(dimensions))}; cutouts need a coadd, with band, skymap, tract and patch."
            )
        for collection in request.collections:
            try:
                butler.collections.get_info(collection)
            except MissingCollectionError:
                known = list(butler.collections.query("*"))
                raise _unknown("collections", collection, known) from None
        if request.bands != "all":
            records = butler.query_dimension_records("band", limit=None, explain=False)
            known = [str(record.name) for record in records]
            for band in request.bands:
                if band not in known:
                    raise _unknown("bands", band, known)

    def _find_skymap(self) -> str:
        records = self._butler.query_dimension_records("skymap", limit=None, explain=False)
        known = sorted(str(record.name) for record in records)
        if (asked := self._request.skymap) is not None:
            if asked not in known:
                raise _unknown("skymap", asked, known)
            return asked
        if len(known) != 1:
            raise UserError(
                f"Request field 'skymap': the repository has {len(known)} sky maps "
                f"({', '.join(known) or 'none'}); name the one that the images are on."
            )
        return known[0]


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
        (~nowhere & ~on_map, tables.OUTSIDE_FOOTPRINT, "The position is in a tract without such images."),
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


def _unknown(field: str, value: str, known: Iterable[str]) -> UserError:
    known = sorted(known)
    shown = ", ".join(known[:20]) + (", ..." if len(known) > 20 else "")
    return UserError(
        f"Request field {field!r}: the repository has no {value!r}{did_you_mean(value, known)}. "
        f"It has: {shown or 'none'}."
    )


def _chunks(items: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
