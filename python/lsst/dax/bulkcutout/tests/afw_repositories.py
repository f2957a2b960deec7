# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Butler repositories of afw Exposures, as DP1 and HSC have them."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from .afw_files import DP1_BITS, AfwFile
from .layouts import Layout
from .repositories import SkyRepository
from .repository_writer import ImageKey, RepositoryWriter

__all__ = ("make_afw_repo",)

FORMATTER = "lsst.obs.base.formatters.fitsExposure.FitsExposureFormatter"
"""What the observatory's repositories record, and what needs afw."""


def make_afw_repo(
    root: str | Path,
    layout: Layout,
    *,
    bands: Sequence[str] = ("g", "r"),
    bits: Mapping[ImageKey, Mapping[str, int]] | None = None,
    make: Callable[[ImageKey, AfwFile], AfwFile] = lambda _, file: file,
    write: Callable[[ImageKey], Mapping[str, Any]] = lambda _: {},
) -> tuple[SkyRepository, dict[ImageKey, AfwFile]]:
    """Make a repository whose dataset type has the storage class ExposureF.

    Parameters
    ----------
    root
        A directory that does not exist yet, or is empty.
    layout
        Sky map and patches.
    bands
        Bands.
    bits
        Bits of the mask planes, by image; others have those of DP1.
    make
        Changes what is in an image before it is written.
    write
        Options of `AfwFile.write`, by image.

    Returns
    -------
    repository
        The repository.
    files
        What is in each image: pixels tell image and place.
    """
    root = Path(root).absolute()
    keys = [(tract, patch, band) for tract, patch in layout.images for band in bands]
    files: dict[ImageKey, AfwFile] = {}
    with RepositoryWriter(root, layout, bands, keys, storage_class="ExposureF") as target:
        written = {}
        for number, key in enumerate(keys):
            where, box = layout.tracts[key[0]], layout.patch(*key[:2]).outer
            file = AfwFile.coded(
                box.shape,
                x0=box.x0,
                y0=box.y0,
                code=number + 1,
                bits=(bits or {}).get(key, DP1_BITS),
                crval=where.crval,
                crpix=where.crpix,
                cd=where.cd,
            )
            files[key] = make(key, file)
            written[key] = files[key].write(root / "{}_{}_{}.fits".format(*key), **write(key))
        paths = target.ingest(written, formatter="lsst.images.formatters.GenericFormatter")
    # The class of the records cannot be imported here, as in most places where
    # such a repository is used without afw.
    with sqlite3.connect(root / "gen3.sqlite3") as database:
        database.execute("UPDATE file_datastore_records SET formatter = ?", (FORMATTER,))
    database.close()
    repository = SkyRepository(
        root=root,
        collection="coadds",
        run=target.run,
        dataset_type="deep_coadd",
        layout=layout,
        bands=tuple(bands),
        paths=paths,
        refs=target.refs,
        missing_cells={key: frozenset() for key in keys},
    )
    return repository, files
