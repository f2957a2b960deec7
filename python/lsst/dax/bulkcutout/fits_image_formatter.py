# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""How the Butler knows plain FITS images: as files that astropy opens."""

from __future__ import annotations

from typing import Any

import astropy.io.fits

from lsst.daf.butler import Config, FormatterV2

__all__ = ("STORAGE_CLASS", "FitsImageFormatter", "repository_config")

STORAGE_CLASS = "BulkCutoutFitsImage"
"""Storage class of images that `ingest` puts into a repository."""


class FitsImageFormatter(FormatterV2):
    """Reads FITS files of any layout; they are never written."""

    default_extension = ".fits"
    supported_extensions = frozenset({".fits", ".fit", ".fts", ".fz"})
    can_read_from_local_file = True

    def read_from_local_file(self, path: str, component: str | None = None, expected_size: int = -1) -> Any:
        """Open a file.

        Parameters
        ----------
        path
            The file.
        component
            Not used.
        expected_size
            Not used.

        Returns
        -------
        hdus
            An `astropy.io.fits.HDUList`, in memory.
        """
        return astropy.io.fits.open(path, memmap=False, lazy_load_hdus=False)


def repository_config() -> Config:
    """What a repository must know to hold such images.

    Returns
    -------
    config
        Seed for `lsst.daf.butler.Butler.makeRepo`.
    """
    formatter = f"{FitsImageFormatter.__module__}.{FitsImageFormatter.__qualname__}"
    return Config(
        {
            "storageClasses": {STORAGE_CLASS: {"pytype": "astropy.io.fits.HDUList"}},
            "datastore": {"formatters": {STORAGE_CLASS: formatter}},
        }
    )
