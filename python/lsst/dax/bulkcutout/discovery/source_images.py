# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""The images of a repository that a request asks for.

This is the only place where the registry is asked anything about them.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import uuid
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

from lsst.daf.butler import Butler, DatasetRef, MissingDatasetTypeError
from lsst.resources import ResourcePath

from ..catalog import ObjectTables
from ..errors import UserError
from ..readers import Companions, ImageReader, open_image
from ..request import CutoutRequest
from ..skymap.locate import Locator
from ..skymap.region_locator import RegionLocator
from ..skymap.rings import KNOWN_SKYMAPS, RingsSkyMap
from ..skymap.rings_locator import RingsLocator, agrees_with_records
from ..target_table import target_patches
from .requested_names import check_names, find_skymap

__all__ = ("Coverage", "SourceImages", "chunks_of_tracts")

_LOG = logging.getLogger(__name__)

TRACTS_PER_QUERY = 50
FILES_PER_QUERY = 20_000

MOST_HELD = 200_000
"""Datasets that are kept in memory for the next who asks for their tracts;
400 bytes each."""


type Found = dict[tuple[int, int], dict[str, DatasetRef]]
"""Datasets by tract and patch, then by band."""


@dataclasses.dataclass(frozen=True)
class Coverage:
    """The datasets of one patch."""

    tract: int
    """Tract identifier."""

    patch: int
    """Patch identifier."""

    datasets: dict[str, DatasetRef]
    """Dataset of each band that has one."""

    neighbors: dict[tuple[int, str], DatasetRef] = dataclasses.field(default_factory=dict)
    """Datasets of other patches of the tract, by patch and band, which
    cutouts of this one are completed from."""

    companions: dict[str, dict[tuple[int, str], DatasetRef]] = dataclasses.field(default_factory=dict)
    """Datasets of what belongs to all these images, by kind, then by patch
    and band."""

    @property
    def all_companions(self) -> list[DatasetRef]:
        """Companions of all kinds."""
        return [ref for refs in self.companions.values() for ref in refs.values()]


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
        check_names(butler, request)
        self._skymap = find_skymap(butler, request)
        self._rings: tuple[RingsSkyMap | None] | None = None
        self._held: dict[int, Found] = {}
        self._n_held = 0

    @property
    def description(self) -> str:
        """The images in words, for messages."""
        bands = "any band" if self._request.bands == "all" else f"band {', '.join(self._request.bands)}"
        return f"{self._request.dataset_type} in {bands}"

    def locator(self) -> tuple[Locator, str]:
        """Choose the rule that gives patches to positions.

        Returns
        -------
        locator
            The rings formula if the records agree with it.
        skymap
            Name of the sky map.
        """
        covered = self._covered_tracts()
        if not covered:
            raise UserError(
                f"Request field 'collections': no {self.description} on sky map {self._skymap!r} is in "
                f"{', '.join(self._request.collections)}."
            )
        if (rings := self.rings_map(covered[0])) is not None:
            _LOG.info("Sky map %s follows the rings formula of %s.", self._skymap, rings.name)
            return RingsLocator(rings, covered), self._skymap
        _LOG.info("Sky map %s follows no known formula: its recorded regions decide.", self._skymap)
        tracts = self._butler.query_dimension_records(
            "tract", where=f"skymap = '{self._skymap}'", limit=None, explain=False
        )
        locator = RegionLocator(
            {int(record.id): record.region for record in tracts if record.region is not None},
            self.regions,
            covered,
        )
        return locator, self._skymap

    def rings_map(self, tract: int) -> RingsSkyMap | None:
        """Find the rings formula that the sky map's records agree with.

        Parameters
        ----------
        tract
            Tract whose records are compared.

        Returns
        -------
        rings
            The formula; `None` if there is none that is known.
        """
        # All tracts of a map follow its formula, or none.
        if self._rings is None:
            regions = self.regions([tract])
            candidates = sorted(KNOWN_SKYMAPS.values(), key=lambda known: known.name != self._skymap)
            self._rings = (next((m for m in candidates if agrees_with_records(m, regions)), None),)
        return self._rings[0]

    def patch_regions(self, tract: int) -> dict[int, Any]:
        """Look up the patches of a tract.

        Parameters
        ----------
        tract
            Tract identifier.

        Returns
        -------
        regions
            Outer region on the sky of each patch, a convex polygon.
        """
        return {patch: region for (_, patch), region in self.regions([tract]).items()}

    def open(
        self, ref: DatasetRef, *, psf: DatasetRef | None = None
    ) -> contextlib.AbstractContextManager[ImageReader]:
        """Open an image.

        Parameters
        ----------
        ref
            Its dataset.
        psf
            Dataset of its PSF, where that is one of its companions.

        Returns
        -------
        image
            Context manager that gives the open image.
        """

        @contextlib.contextmanager
        def opened() -> Iterator[ImageReader]:
            with contextlib.ExitStack() as stack:
                path = stack.enter_context(self._butler.getURI(ref).as_local()).ospath
                companions = None
                if psf is not None:
                    own = stack.enter_context(self._butler.getURI(psf).as_local())
                    companions = Companions({"psf": own.ospath})
                yield stack.enter_context(open_image(path, companions=companions))

        return opened()

    def with_companions(self, coverage: Sequence[Coverage]) -> list[Coverage]:
        """Find what belongs to images.

        Parameters
        ----------
        coverage
            Patches with their images.

        Returns
        -------
        coverage
            The same with their companions; an image may lack some.
        """
        if not (types := self._request.companions.types):
            return list(coverage)
        found: dict[tuple[int, int, str], dict[str, DatasetRef]] = {}
        for tracts in chunks_of_tracts(sorted({patch.tract for patch in coverage})):
            for kind, name in types.items():
                for (tract, patch_id), band, ref in self._refs(name, tracts):
                    found.setdefault((tract, patch_id, band), {})[kind] = ref
        completed = []
        for patch in coverage:
            places = [*((patch.patch, band) for band in patch.datasets), *patch.neighbors]
            companions: dict[str, dict[tuple[int, str], DatasetRef]] = {kind: {} for kind in types}
            for place in places:
                for kind, ref in found.get((patch.tract, *place), {}).items():
                    companions[kind][place] = ref
            completed.append(dataclasses.replace(patch, companions=companions))
        return completed

    def uri(self, ref: DatasetRef) -> ResourcePath:
        """Where an image is.

        Parameters
        ----------
        ref
            Its dataset.

        Returns
        -------
        uri
            The file.
        """
        return self._butler.getURI(ref)

    def datasets(self, tracts: Sequence[int]) -> Found:
        """Find the images of some tracts.

        The registry is asked for a tract once, as long as no more than
        `MOST_HELD` datasets are found.

        Parameters
        ----------
        tracts
            Tract identifiers.

        Returns
        -------
        datasets
            By tract and patch, then by band.
        """
        new: dict[int, Found] = {tract: {} for tract in tracts if tract not in self._held}
        if new:
            for place, band, ref in self._refs(self._request.dataset_type, list(new)):
                new[place[0]].setdefault(place, {})[band] = ref
        known = self._held | new
        n_new = sum(len(refs) for images in new.values() for refs in images.values())
        if self._n_held + n_new > MOST_HELD:
            self._held, self._n_held = {}, 0
        if n_new <= MOST_HELD:
            self._held |= new
            self._n_held += n_new
        return {place: refs for tract in tracts for place, refs in known[tract].items()}

    def object_tables(self, name: str) -> ObjectTables | None:
        """Find tables that have positions by identifier.

        Parameters
        ----------
        name
            Their dataset type.

        Returns
        -------
        tables
            The tables; `None` if there are none with the dimensions skymap
            and tract.
        """
        try:
            dataset_type = self._butler.get_dataset_type(name)
        except MissingDatasetTypeError:
            return None
        if set(dataset_type.dimensions.required) != {"skymap", "tract"}:
            return None
        refs = self._butler.query_datasets(
            name,
            collections=self._request.collections,
            where=f"skymap = '{self._skymap}'",
            limit=None,
            explain=False,
        )
        files = {int(ref.dataId["tract"]): self._butler.getURI(ref) for ref in refs}
        return ObjectTables(name, files) if files else None

    def coverage(self, target_files: Sequence[Path]) -> list[Coverage]:
        """Find the images of all patches that have targets.

        Parameters
        ----------
        target_files
            Files of a target table.

        Returns
        -------
        coverage
            Patches with at least one image, ascending.
        """
        places = [place for path in target_files for place in target_patches(path)]
        return [Coverage(*place, datasets) for place, datasets in sorted(self.found(places).items())]

    def found(self, places: Collection[tuple[int, int]]) -> Found:
        """Find the images of some patches.

        Parameters
        ----------
        places
            Tracts and patches.

        Returns
        -------
        datasets
            By band, for each of the patches that has any.
        """
        wanted = frozenset(places)
        found: Found = {}
        for tracts in chunks_of_tracts(sorted({tract for tract, patch in wanted if patch >= 0})):
            found |= {place: refs for place, refs in self.datasets(tracts).items() if place in wanted}
        return found

    def file_sizes(self, refs: Sequence[DatasetRef]) -> dict[uuid.UUID, int]:
        """Look up the sizes of files.

        Parameters
        ----------
        refs
            Their datasets.

        Returns
        -------
        sizes
            Bytes by dataset, where the repository has them on record.
        """
        sizes: dict[uuid.UUID, int] = {}
        for start in range(0, len(refs), FILES_PER_QUERY):
            some = refs[start : start + FILES_PER_QUERY]
            for data in self._butler._datastore.export_records(some).values():
                for dataset_id, tables in data.records.items():
                    infos = [info for table in tables.values() for info in table]
                    # A negative number says that the size is not known.
                    found = [size for info in infos if (size := getattr(info, "file_size", -1)) >= 0]
                    if found:
                        sizes[dataset_id] = sum(found)
        return sizes

    def _covered_tracts(self) -> list[int]:
        """Tracts that have any image that is asked for, ascending."""
        with self._butler.query() as query:
            found = query.join_dataset_search(
                self._request.dataset_type, collections=list(self._request.collections)
            )
            return sorted({int(d["tract"]) for d in found.where(self._where()).data_ids(["tract"])})

    def _refs(self, name: str, tracts: Sequence[int]) -> Iterator[tuple[tuple[int, int], str, DatasetRef]]:
        """Tract and patch, band and dataset of all that is in some tracts."""
        # limit=None: the default of 20,000 drops the rest with no more than a
        # warning.
        for ref in self._butler.query_datasets(
            name,
            collections=self._request.collections,
            where=f"{self._where()} AND tract IN ({', '.join(map(str, tracts))})",
            limit=None,
            explain=False,
        ):
            yield (int(ref.dataId["tract"]), int(ref.dataId["patch"])), str(ref.dataId["band"]), ref

    def _where(self) -> str:
        """What all queries have in common.  The names in it were checked to
        be of safe characters when the request was read.
        """
        where = f"skymap = '{self._skymap}'"
        if self._request.bands != "all":
            names = ", ".join(f"'{band}'" for band in self._request.bands)
            where += f" AND band IN ({names})"
        return where

    def regions(self, tracts: Sequence[int]) -> dict[tuple[int, int], Any]:
        """Look up the patches of some tracts.

        Parameters
        ----------
        tracts
            Tract identifiers.

        Returns
        -------
        regions
            Outer region on the sky, by tract and patch.
        """
        found: dict[tuple[int, int], Any] = {}
        for some in chunks_of_tracts(tracts):
            records = self._butler.query_dimension_records(
                "patch",
                where=f"skymap = '{self._skymap}' AND tract IN ({', '.join(map(str, some))})",
                limit=None,
                explain=False,
            )
            found |= {(int(r.tract), int(r.id)): r.region for r in records if r.region is not None}
        return found


def chunks_of_tracts(tracts: Sequence[int]) -> Iterator[Sequence[int]]:
    """Divide tracts into as many as are asked for in one query.

    Parameters
    ----------
    tracts
        Tract identifiers, ascending.

    Yields
    ------
    tracts
        Some of them.
    """
    for start in range(0, len(tracts), TRACTS_PER_QUERY):
        yield tracts[start : start + TRACTS_PER_QUERY]
