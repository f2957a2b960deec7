# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""The PSF of an afw Exposure, or why there is none."""

from __future__ import annotations

from .afw_archive import AfwArchive
from .psf_models import GaussianPsf, PsfModel

__all__ = ("read_psf",)


def read_psf(archive: AfwArchive, path: str, *, is_images: bool = False) -> tuple[PsfModel | None, str]:
    """Read the PSF of an Exposure.

    Parameters
    ----------
    archive
        Components of the Exposure.
    path
        The file.
    is_images
        Whether lsst.images wrote it, which has its PSF elsewhere.

    Returns
    -------
    model
        The PSF; `None` if there is none that can be read.
    note
        Why not, to follow "absent, because"; empty if there is one.

    Raises
    ------
    CorruptInputError
        Raised if its tables contradict themselves.
    """
    if is_images:
        return None, "the PSF model of this lsst.images file is not read here"
    name = archive.name("PSF")
    if name is None:
        if archive.refers_to("PSF"):
            return None, "the file's archive, which held the PSF, was cut off"
        return None, "the file has none"
    if name == "GaussianPsf":
        return _gaussian(archive), ""
    return None, f"{name} can be read where lsst.afw is installed only"


def _gaussian(archive: AfwArchive) -> PsfModel:
    (row,) = archive.tables("PSF")[0][:1]
    try:
        return GaussianPsf(float(row["sigma"]), (int(row["dimensions_y"]), int(row["dimensions_x"])))
    except ValueError as error:
        raise archive.corrupt(str(error)) from None
