# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Images that lie in a folder become a Butler repository.

Tracts and patches follow from the images themselves: images on one grid of
pixels are a tract, and each of its footprints is a patch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lsst.daf.butler import (  # type: ignore[attr-defined] # CollectionType is public all the same
    CollectionType,
    DatasetRef,
    DatasetType,
    FileDataset,
    MissingDatasetTypeError,
)
from lsst.sphgeom import DISJOINT

from ..errors import CorruptInputError, UserError
from ..readers import Companions, open_image
from ..readers.companions import KINDS
from ..tables import in_band_order
from .companion_files import CompanionRule, split_companions
from .footprints import BandRule, Footprint, read_footprint, region_of
from .image_files import find_files
from .image_repository import image_dataset_type, insert_dimensions, open_repository
from .ingest_report import IngestReport

__all__ = ("ingest",)


def ingest(
    paths: Sequence[Path],
    repo: Path,
    *,
    dataset_type: str = "image",
    collection: str = "images",
    skymap: str | None = None,
    bands: BandRule | None = None,
    companions: Mapping[str, str] | None = None,
) -> IngestReport:
    """Make a repository of image files, or add to one.

    Parameters
    ----------
    paths
        Files, and folders that are searched for FITS files. They stay where
        they are.
    repo
        Directory of the repository; made if it does not exist.
    dataset_type
        Dataset type of the images.
    collection
        RUN collection for them.
    skymap
        Name of the sky map for their tracts; that of the dataset type and
        ``_footprints`` if `None`.
    bands
        How to find the band of an image.
    companions
        Pattern for the names of companion files, by kind.

    Returns
    -------
    report
        What came of each file.

    Raises
    ------
    UserError
        Raised if two files would be the same dataset, or the repository is
        not fit for it.
    """
    report = IngestReport(
        Path(repo).absolute(), collection, skymap or f"{dataset_type}_footprints", dataset_type
    )
    rules = [CompanionRule(kind, pattern) for kind, pattern in (companions or {}).items()]
    images, matched = split_companions(find_files(paths, report), rules)
    report.notes += matched.notes
    footprints = []
    for path in images:
        try:
            footprint = read_footprint(path, bands or BandRule())
            _try_companions(path, matched.of(path))
            region_of(footprint)
            footprints.append(footprint)
        except (UserError, CorruptInputError) as error:
            report.refused.append((path, str(error)))
        except OSError as error:
            report.refused.append((path, f"{path}: it cannot be read: {error}"))
    if not footprints:
        return report
    with open_repository(report.repo) as butler:
        _Ingester(butler, report).add(footprints, matched.companions)
    return report


class _Ingester:
    """Puts footprints into a repository."""

    def __init__(self, butler: Any, report: IngestReport) -> None:
        self._butler = butler
        self._report = report
        self._type = image_dataset_type(self._butler, report.dataset_type)
        butler.registry.registerCollection(report.collection, CollectionType.RUN)
        self._tracts: dict[int, list[tuple[int, Footprint]]] = {}
        """Patches of each tract, with an image of each."""
        self._taken: dict[tuple[int, int, str], Path] = {}
        """Files in the collection, by tract, patch and band."""
        self._read_present()

    def add(self, footprints: Sequence[Footprint], companions: Mapping[Path, Mapping[str, Path]]) -> None:
        """Add images and their companions."""
        places: dict[Path, tuple[int, int]] = {}
        new: list[Footprint] = []
        old: list[Footprint] = []
        known = {path.resolve() for path in self._taken.values()}
        for footprint in footprints:
            tract, patch = places[footprint.path] = self._place(footprint)
            key = (tract, patch, footprint.band)
            if footprint.path.resolve() in known:
                self._report.present.append(footprint.path)
                old.append(footprint)
                continue
            if key in self._taken:
                raise UserError(
                    f"{self._taken[key]} and {footprint.path} have the same pixels on the sky in the same "
                    "band "
                    f"({footprint.band}): a collection holds one of them. Ingest one with --collection of "
                    "another "
                    "name, or say with --band-from how their bands differ. Nothing was ingested."
                )
            self._taken[key] = footprint.path
            new.append(footprint)
        insert_dimensions(
            self._butler,
            self._report.skymap,
            (band for _, _, band in self._taken),
            {
                tract: {patch: region_of(footprint) for patch, footprint in patches}
                for tract, patches in self._tracts.items()
            },
        )
        datasets = []
        for footprint in new:
            tract, patch = places[footprint.path]
            datasets.append(self._dataset(self._type, footprint.path, tract, patch, footprint.band))
            self._report.ingested.append((footprint.path, tract, patch, footprint.band))
        for footprint in (*new, *old):
            for kind, path in companions.get(footprint.path, {}).items():
                tract, patch = places[footprint.path]
                datasets += self._companion(kind, path, tract, patch, footprint)
        if datasets:
            self._butler.ingest(*datasets, transfer="direct")
        self._report.bands = in_band_order({band for _, _, band in self._taken})

    def _companion(
        self, kind: str, path: Path, tract: int, patch: int, image: Footprint
    ) -> list[FileDataset]:
        """The dataset of a companion; none if the collection has it."""
        name = self._report.companions.setdefault(kind, f"{self._report.dataset_type}_{kind}")
        dataset_type = image_dataset_type(self._butler, name)
        dataset = self._dataset(dataset_type, path, tract, patch, image.band)
        found = self._butler.find_dataset(
            dataset_type, dataset.refs[0].dataId, collections=self._report.collection
        )
        if found is None:
            return [dataset]
        before = Path(self._butler.getURI(found).ospath)
        if before.resolve() != path.resolve():
            self._report.notes.append(
                f"{path} is not taken: {image.path} has the {kind} {before} in collection "
                f"{self._report.collection}. `butler prune-datasets` takes that out."
            )
        return []

    def _place(self, footprint: Footprint) -> tuple[int, int]:
        """Tract and patch of an image; new ones where need be."""
        for tract, patches in self._tracts.items():
            if not patches[0][1].shares_grid(footprint):
                continue
            for patch, other in patches:
                if other.bbox == footprint.bbox:
                    return tract, patch
            patch = max(patch for patch, _ in patches) + 1
            patches.append((patch, footprint))
            return tract, patch
        tract = self._next_tract
        self._next_tract += 1
        self._tracts[tract] = [(0, footprint)]
        return tract, 0

    def _read_present(self) -> None:
        """Tracts and patches of the images that are there already."""
        records = self._butler.query_dimension_records(
            "tract", where=f"skymap = '{self._report.skymap}'", limit=None, explain=False
        )
        self._next_tract = max((int(record.id) for record in records), default=-1) + 1
        refs = self._butler.query_datasets(
            self._type,
            collections="*",
            find_first=False,
            with_dimension_records=True,
            limit=None,
            explain=False,
        )
        for ref in sorted(refs, key=lambda ref: (ref.dataId["tract"], ref.dataId["patch"], ref.run)):
            if ref.dataId["skymap"] != self._report.skymap:
                continue
            tract, patch = int(ref.dataId["tract"]), int(ref.dataId["patch"])
            path = Path(self._butler.getURI(ref).ospath)
            if ref.run == self._report.collection:
                self._taken[tract, patch, str(ref.dataId["band"])] = path
            patches = self._tracts.setdefault(tract, [])
            if patch not in [known for known, _ in patches]:
                try:
                    patches.append((patch, read_footprint(path)))
                    if region_of(patches[-1][1]).relate(ref.dataId.region) & DISJOINT:
                        self._report.notes.append(
                            f"{path} lies elsewhere than when it was ingested: no target finds it. Take it "
                            "out with `butler prune-datasets`, and ingest it again."
                        )
                except (UserError, CorruptInputError, OSError) as error:
                    raise UserError(
                        f"--repo {self._report.repo}: an image that was ingested before cannot be read any "
                        "more: "
                        f"{error} `butler remove-runs` or `butler prune-datasets` takes it out."
                    ) from error
        self._read_companion_types()

    def _read_companion_types(self) -> None:
        """Companions that the collection has from before."""
        for kind in KINDS:
            name = f"{self._report.dataset_type}_{kind}"
            try:
                found = self._butler.query_datasets(
                    name, collections=self._report.collection, limit=1, explain=False
                )
            except MissingDatasetTypeError:
                continue
            if found:
                self._report.companions[kind] = name

    def _dataset(
        self, dataset_type: DatasetType, path: Path, tract: int, patch: int, band: str
    ) -> FileDataset:
        data_id = self._butler.registry.expandDataId(
            skymap=self._report.skymap, tract=tract, patch=patch, band=band
        )
        ref = DatasetRef(dataset_type, data_id, run=self._report.collection)
        return FileDataset(path=str(path), refs=[ref])


def _try_companions(path: Path, companions: Mapping[str, Path]) -> None:
    """Refuse an image whose companions do not belong to it."""
    if companions:
        given = Companions({kind: str(each) for kind, each in companions.items()})
        with open_image(str(path), companions=given):
            pass
