# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""A Butler repository for plain images: its storage class, dataset types and
records of dimensions.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from lsst.daf.butler import Butler, ButlerConfig, DatasetType, MissingDatasetTypeError
from lsst.sphgeom import ConvexPolygon

from ..errors import UserError
from ..fits_image_formatter import STORAGE_CLASS, repository_config
from .footprints import join_regions

__all__ = ("image_dataset_type", "insert_dimensions", "open_repository")

_LOG = logging.getLogger(__name__)

INSTRUMENT = "FitsImages"
_MOST_TRACTS = 1_000_000


@contextlib.contextmanager
def open_repository(root: Path) -> Iterator[Any]:
    """Open a repository for plain images, or make one.

    Parameters
    ----------
    root
        Its directory.

    Yields
    ------
    butler
        The repository, open for writing; one that is new is taken away again
        if the context ends with an exception.

    Raises
    ------
    UserError
        Raised if something else is there.
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


def image_dataset_type(butler: Any, name: str) -> DatasetType:
    """The dataset type of images or of their companions; made if need be.

    Parameters
    ----------
    butler
        The repository.
    name
        Its name.

    Returns
    -------
    dataset_type
        By tract, patch and band.

    Raises
    ------
    UserError
        Raised if the repository has one of this name for other things.
    """
    try:
        found: DatasetType = butler.get_dataset_type(name)
    except MissingDatasetTypeError:
        found = DatasetType(
            name, ("skymap", "tract", "patch", "band"), STORAGE_CLASS, universe=butler.dimensions
        )
        butler.registry.registerDatasetType(found)
        return found
    if found.storageClass_name != STORAGE_CLASS or set(found.dimensions.required) != {
        "skymap", "tract", "patch", "band",
    }:  # fmt: skip
        raise UserError(
            f"--dataset-type {name}: the repository has a dataset type of this name for other things "
            f"({found.storageClass_name}); choose another name."
        )
    return found


def insert_dimensions(
    butler: Any,
    skymap: str,
    bands: Iterable[str],
    regions: Mapping[int, Mapping[int, ConvexPolygon]],
) -> None:
    """Make the records of the places of images.

    Those that are there stay, but tracts get the region of all their patches.

    Parameters
    ----------
    butler
        The repository.
    skymap
        Name of the sky map.
    bands
        Bands of the images.
    regions
        Region of each patch, by tract.
    """
    registry = butler.registry
    registry.insertDimensionData(
        "instrument",
        {
            "name": INSTRUMENT,
            "class_name": f"{__package__}.repository.{INSTRUMENT}",
            "visit_max": 1,
            "exposure_max": 1,
            "detector_max": 1,
            "visit_system": 0,
        },
        skip_existing=True,
    )
    for band in sorted(set(bands)):
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
    for tract, patches in regions.items():
        registry.insertDimensionData(
            "tract",
            {"skymap": skymap, "id": tract, "region": join_regions(patches.values())},
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
                for patch, region in patches.items()
            ),
            skip_existing=True,
        )
