# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Images that lie in a folder become a Butler repository.

Tracts and patches follow from the images themselves: images on one grid of
pixels are a tract, and each of its footprints is a patch.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import logging
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lsst.daf.butler import (  # type: ignore[attr-defined] # CollectionType is public all the same
    Butler,
    ButlerConfig,
    CollectionType,
    DatasetRef,
    DatasetType,
    FileDataset,
    MissingDatasetTypeError,
)

from ..errors import CorruptInputError, UserError
from ..fits_image_formatter import STORAGE_CLASS, repository_config
from ..readers import Companions, open_image
from ..readers.companions import KINDS
from ..tables import in_band_order
from .companion_files import CompanionRule, split_companions
from .footprints import BandRule, Footprint, join_regions, read_footprint, region_of

__all__ = ("IngestReport", "ingest", "ingest_named")

_LOG = logging.getLogger(__name__)

SUFFIXES = (".fits", ".fit", ".fts", ".fz", ".psf")
"""What files of a folder are called that are looked at."""

_PACKED = (".gz", ".bz2", ".xz", ".zst", ".z", ".zip")

INSTRUMENT = "FitsImages"
_MOST_TRACTS = 1_000_000


@dataclasses.dataclass
class IngestReport:
    """What came of the files."""

    repo: Path
    """The repository."""

    collection: str
    """RUN collection of the images."""

    skymap: str
    """Name of the sky map that the images' tracts belong to."""

    dataset_type: str
    """Dataset type of the images."""

    companions: dict[str, str] = dataclasses.field(default_factory=dict)
    """Dataset types of companions, by kind."""

    ingested: list[tuple[Path, int, int, str]] = dataclasses.field(default_factory=list)
    """File, tract, patch and band of what is new."""

    present: list[Path] = dataclasses.field(default_factory=list)
    """Files that were in the collection already."""

    refused: list[tuple[Path, str]] = dataclasses.field(default_factory=list)
    """Files that cannot be used, and why not."""

    notes: list[str] = dataclasses.field(default_factory=list)
    """What the user should know."""

    bands: tuple[str, ...] = ()
    """Bands of the images in the collection."""

    @property
    def complaints(self) -> list[str]:
        """Files that are not used, and what else is worth a word."""
        return [f"not used: {reason}" for _, reason in self.refused] + [
            f"note: {text}" for text in self.notes
        ]

    @property
    def summary(self) -> str:
        """What was done, in a line."""
        tracts = {tract for _, tract, _, _ in self.ingested}
        patches = {(tract, patch) for _, tract, patch, _ in self.ingested}
        present = f"; {len(self.present)} were there already" if self.present else ""
        refused = f"; {len(self.refused)} cannot be used" if self.refused else ""
        return (
            f"# {len(self.ingested)} images in {len(patches)} patches of {len(tracts)} "
            f"tracts{present}{refused}.\n"
            "# For the request:"
        )

    @property
    def request(self) -> str:
        """What a request for these images must have, in YAML."""
        lines = [
            f"butler: {self.repo}",
            f"collections: [{self.collection}]",
            f"dataset_type: {self.dataset_type}",
            f"skymap: {self.skymap}",
            f"bands: [{', '.join(self.bands)}]",
        ]
        if self.companions:
            kinds = (f"{kind}: {name}" for kind, name in sorted(self.companions.items()))
            lines.append(f"companions: {{{', '.join(kinds)}}}")
        return "\n".join(lines)


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
    images, matched = split_companions(_find_files(paths, report), rules)
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
    with _repository(report.repo) as butler:
        _Ingester(butler, report).add(footprints, matched.companions)
    return report


def ingest_named(
    paths: Sequence[Path],
    repo: Path,
    *,
    dataset_type: str,
    collection: str,
    skymap: str | None,
    band: str | None,
    band_from: str | None,
    companions: Sequence[str],
) -> IngestReport:
    """Do what the options of the command line say.

    Parameters
    ----------
    paths, repo, dataset_type, collection, skymap
        As for `ingest`.
    band, band_from
        One of the two, or none: see `BandRule`.
    companions
        Items ``KIND=PATTERN``.

    Returns
    -------
    report
        What came of each file.

    Raises
    ------
    UserError
        Raised if an option is wrong; and as for `ingest`.
    """
    for option, value, pattern in (
        ("--dataset-type", dataset_type, r"[A-Za-z_][A-Za-z0-9_]*"),
        ("--collection", collection, r"[A-Za-z0-9_][A-Za-z0-9_.+:@/-]*"),
        ("--skymap", skymap or "default", r"[A-Za-z0-9_][A-Za-z0-9_.+-]*"),
        ("--band", band or "default", r"[A-Za-z0-9_]{1,50}"),
    ):
        if not re.fullmatch(pattern, value):
            raise UserError(f"{option} {value}: must be a name of letters, digits and _.")
    if band is not None and band_from is not None:
        raise UserError("Give --band or --band-from, not both.")
    try:
        re.compile(band_from or "")
    except re.error as error:
        raise UserError(
            f"--band-from {band_from}: is no FITS card and no regular expression: {error}"
        ) from error
    given = {}
    for text in companions:
        kind, sign, pattern = text.partition("=")
        if not sign:
            raise UserError(f"--companion {text}: must be KIND=PATTERN, such as weight='*_wht.fits'.")
        if kind in given:
            raise UserError(f"--companion {text}: {kind} is given twice.")
        given[kind] = pattern
    if {"variance", "weight"} <= given.keys():
        raise UserError("--companion: give variance or weight (its inverse), not both.")
    return ingest(
        paths,
        repo,
        dataset_type=dataset_type,
        collection=collection,
        skymap=skymap,
        bands=BandRule(band, band_from),
        companions=given,
    )


class _Ingester:
    """Puts footprints into a repository."""

    def __init__(self, butler: Any, report: IngestReport) -> None:
        self._butler = butler
        self._report = report
        self._type = self._dataset_type(report.dataset_type)
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
        self._insert_dimensions()
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
        dataset_type = self._dataset_type(name)
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
            self._type, collections="*", find_first=False, limit=None, explain=False
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

    def _insert_dimensions(self) -> None:
        registry, skymap = self._butler.registry, self._report.skymap
        registry.insertDimensionData(
            "instrument",
            {
                "name": INSTRUMENT,
                "class_name": f"{__name__}.{INSTRUMENT}",
                "visit_max": 1,
                "exposure_max": 1,
                "detector_max": 1,
                "visit_system": 0,
            },
            skip_existing=True,
        )
        for band in sorted({band for _, _, band in self._taken}):
            registry.insertDimensionData(
                "physical_filter",
                {"instrument": INSTRUMENT, "name": band, "band": band},
                skip_existing=True,
            )
        registry.insertDimensionData(
            "skymap",
            {
                "name": skymap,
                "hash": hashlib.sha1(skymap.encode(), usedforsecurity=False).digest(),
                "tract_max": _MOST_TRACTS,
                "patch_nx_max": _MOST_TRACTS,
                "patch_ny_max": 1,
            },
            skip_existing=True,
        )
        for tract, patches in self._tracts.items():
            regions = {patch: region_of(footprint) for patch, footprint in patches}
            registry.insertDimensionData(
                "tract",
                {"skymap": skymap, "id": tract, "region": join_regions(regions.values())},
                replace=True,
            )
            registry.insertDimensionData(
                "patch",
                *(
                    {
                        "skymap": skymap,
                        "tract": tract,
                        "id": patch,
                        "cell_x": patch,
                        "cell_y": 0,
                        "region": region,
                    }
                    for patch, region in regions.items()
                ),
                skip_existing=True,
            )

    def _dataset_type(self, name: str) -> DatasetType:
        try:
            found: DatasetType = self._butler.get_dataset_type(name)
        except MissingDatasetTypeError:
            found = DatasetType(
                name, ("skymap", "tract", "patch", "band"), STORAGE_CLASS, universe=self._butler.dimensions
            )
            self._butler.registry.registerDatasetType(found)
            return found
        if found.storageClass_name != STORAGE_CLASS or set(found.dimensions.required) != {
            "skymap", "tract", "patch", "band",
        }:  # fmt: skip
            raise UserError(
                f"--dataset-type {name}: the repository has a dataset type of this name for other things "
                f"({found.storageClass_name}); choose another name."
            )
        return found

    def _dataset(
        self, dataset_type: DatasetType, path: Path, tract: int, patch: int, band: str
    ) -> FileDataset:
        data_id = self._butler.registry.expandDataId(
            skymap=self._report.skymap, tract=tract, patch=patch, band=band
        )
        ref = DatasetRef(dataset_type, data_id, run=self._report.collection)
        return FileDataset(path=str(path), refs=[ref])


def _find_files(paths: Iterable[Path], report: IngestReport) -> list[Path]:
    found: dict[Path, None] = {}
    for path in paths:
        path = Path(path).absolute()
        if path.is_dir():
            everything = sorted(each for each in path.rglob("*") if each.is_file())
            inside = [each for each in everything if each.suffix.lower() in SUFFIXES]
            for each in everything:
                if each.suffix.lower() in _PACKED and Path(each.stem).suffix.lower() in SUFFIXES:
                    report.refused.append((each, f"{each}: it is packed: unpack it first."))
            if not inside:
                report.notes.append(f"{path} holds no FITS files ({', '.join(SUFFIXES)}).")
            found |= dict.fromkeys(inside)
        elif path.exists():
            found[path] = None
        else:
            report.refused.append((path, f"{path}: there is no such file."))
    return list(found)


def _try_companions(path: Path, companions: Mapping[str, Path]) -> None:
    """Refuse an image whose companions do not belong to it."""
    if companions:
        given = Companions({kind: str(each) for kind, each in companions.items()})
        with open_image(str(path), companions=given):
            pass


@contextlib.contextmanager
def _repository(root: Path) -> Iterator[Any]:
    """The repository, open; one that is new is taken away again if it cannot
    be filled.
    """
    was_there, is_new = root.exists(), not (root / "butler.yaml").exists()
    if is_new:
        if was_there and (not root.is_dir() or any(root.iterdir())):
            raise UserError(f"--repo {root}: it is neither a Butler repository nor an empty directory.")
        Butler.makeRepo(str(root), config=repository_config())
        _LOG.info("Made a repository in %s.", root)
    if STORAGE_CLASS not in ButlerConfig(str(root)).get("storageClasses", {}):
        raise UserError(
            f"--repo {root}: this repository was not made by `bulkcutout ingest`: it does not know how to "
            "store plain FITS images. Choose a new directory."
        )
    try:
        with Butler.from_config(str(root), writeable=True) as butler:
            yield butler
    except BaseException:
        if is_new:
            shutil.rmtree(root, ignore_errors=True)
            if was_there:
                root.mkdir(exist_ok=True)
        raise
