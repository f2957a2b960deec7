# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""New Butler repositories: dimension records, dataset type, files."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path

from lsst.daf.butler import (  # type: ignore[attr-defined] # CollectionType is public all the same
    Butler,
    CollectionType,
    DatasetRef,
    DatasetType,
    FileDataset,
)
from lsst.images.serialization import ButlerInfo

from .layouts import Layout

__all__ = ("ImageKey", "RepositoryWriter")

type ImageKey = tuple[int, int, str]
"""``(tract, patch, band)``."""


class RepositoryWriter:
    """Make a repository with dimension records and, later, its files.

    Parameters
    ----------
    root
        A directory that does not exist yet, or is empty.
    layout
        Sky map.
    bands
        Bands.
    keys
        The images to come.
    dataset_type, collection
        Names.
    storage_class
        Storage class of the dataset type.
    """

    def __init__(
        self,
        root: Path,
        layout: Layout,
        bands: Sequence[str],
        keys: Sequence[ImageKey],
        dataset_type: str = "deep_coadd",
        collection: str = "coadds",
        storage_class: str = "CellCoadd",
    ) -> None:
        Butler.makeRepo(str(root))
        self.run = f"{collection}/run"
        self._butler = Butler.from_config(str(root), writeable=True, run=self.run)
        _insert_dimensions(self._butler, layout, bands)
        self._type = DatasetType(
            dataset_type,
            ("skymap", "tract", "patch", "band"),
            storage_class,
            universe=self._butler.dimensions,
        )
        self._butler.registry.registerDatasetType(self._type)
        self._butler.registry.registerCollection(collection, CollectionType.CHAINED)
        self._butler.registry.setCollectionChain(collection, [self.run])
        self.refs: dict[ImageKey, DatasetRef] = {key: self._ref(layout.name, key) for key in keys}

    def __enter__(self) -> RepositoryWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self._butler.close()

    def info(self, key: ImageKey) -> str:
        """What the file of an image says about its dataset, as JSON.

        Parameters
        ----------
        key
            The image.

        Returns
        -------
        info
            For `lsst.images.serialization.ButlerInfo`.
        """
        return ButlerInfo(dataset=self.refs[key].to_simple()).model_dump_json()

    def ingest(self, files: Mapping[ImageKey, Path], formatter: str | None = None) -> dict[ImageKey, Path]:
        """Move files into the repository.

        Parameters
        ----------
        files
            The files of all images.
        formatter
            Class that is recorded as the one that reads them; that of the
            storage class if not given.

        Returns
        -------
        paths
            Where they are now.
        """
        datasets = [
            FileDataset(path=str(path), refs=[self.refs[key]], formatter=formatter)
            for key, path in files.items()
        ]
        self._butler.ingest(*datasets, transfer="move")
        return {key: Path(self._butler.getURI(self.refs[key]).ospath) for key in files}

    def _ref(self, skymap: str, key: ImageKey) -> DatasetRef:
        tract, patch, band = key
        data_id = self._butler.registry.expandDataId(skymap=skymap, tract=tract, patch=patch, band=band)
        # The same images have the same identifiers in every repository, so
        # that products can be compared byte for byte.
        name = f"{self._type.name}/{self.run}/{skymap}/{tract}/{patch}/{band}"
        return DatasetRef(self._type, data_id, self.run, id=uuid.uuid5(uuid.NAMESPACE_URL, name))


def _insert_dimensions(butler: Butler, layout: Layout, bands: Sequence[str]) -> None:
    registry = butler.registry
    registry.insertDimensionData(
        "instrument",
        {
            "name": "DemoCam",
            "class_name": "lsst.dax.bulkcutout.tests.DemoCam",
            "visit_max": 1000,
            "exposure_max": 1000,
            "detector_max": 10,
            "visit_system": 0,
        },
    )
    filters = [{"instrument": "DemoCam", "name": f"{band}_demo", "band": band} for band in bands]
    registry.insertDimensionData("physical_filter", *filters)
    grids = [patch.index for tract in layout.tracts.values() for patch in tract.patches.values()]
    registry.insertDimensionData(
        "skymap",
        {
            "name": layout.name,
            "hash": hashlib.sha1(layout.name.encode(), usedforsecurity=False).digest(),
            "tract_max": layout.tract_max,
            "patch_nx_max": 1 + max(index[1] for index in grids),
            "patch_ny_max": 1 + max(index[0] for index in grids),
        },
    )
    for tract in layout.tracts.values():
        name = {"skymap": layout.name}
        record = {**name, "id": tract.id, "region": tract.region(tract.bbox)}
        registry.insertDimensionData("tract", record)
        records = [
            {
                **name,
                "tract": tract.id,
                "id": patch.id,
                "cell_x": patch.index[1],
                "cell_y": patch.index[0],
                "region": tract.region(patch.outer),
            }
            for patch in tract.patches.values()
        ]
        registry.insertDimensionData("patch", *records)
