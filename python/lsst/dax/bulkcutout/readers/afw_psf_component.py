# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""The PSF of an afw Exposure, or why there is none."""

from __future__ import annotations

import numpy as np

from .afw_archive import AfwArchive
from .afw_psf import open_afw_psf
from .psf_models import GaussianPsf, PsfexPsf, PsfModel

__all__ = ("read_psf",)


def read_psf(
    archive: AfwArchive, path: str, position: tuple[float, float], *, is_images: bool = False
) -> tuple[PsfModel | None, str]:
    """Read the PSF of an Exposure.

    Parameters
    ----------
    archive
        Components of the Exposure.
    path
        The file.
    position
        Absolute pixel ``(x, y)`` in the middle of the image.
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
    if name == "PsfexPsf":
        return _psfex(archive), ""
    psf = open_afw_psf(path, position)
    return (None, f"it is a {name}: {psf}") if isinstance(psf, str) else (psf, "")


def _gaussian(archive: AfwArchive) -> PsfModel:
    (row,) = archive.tables("PSF")[0][:1]
    try:
        return GaussianPsf(float(row["sigma"]), (int(row["dimensions_y"]), int(row["dimensions_x"])))
    except ValueError as error:
        raise archive.corrupt(str(error)) from None


def _psfex(archive: AfwArchive) -> PsfModel:
    tables = archive.tables("PSF")
    if len(tables) != 2 or any(len(table) != 1 for table in tables):
        raise archive.corrupt("its PsfexPsf is not two tables of one row")
    (numbers,), (arrays,) = tables
    try:
        sizes = [int(n) for n in np.ravel(arrays["_size"])]
        degree = int(np.ravel(arrays["degree"])[0]) if int(numbers["ngroup"]) else 0
        if len(sizes) < 2 or int(numbers["ndim"]) not in (0, 2) or int(numbers["ngroup"]) > 1:
            raise ValueError(f"its PsfexPsf has {numbers['ndim']} dimensions in {numbers['ngroup']} groups")
        w, h, n = *sizes[:2], sizes[2] if len(sizes) > 2 else 1
        masks = np.ravel(arrays["_comp"]).astype(np.float64)
        if min(w, h, n) < 1 or masks.size != w * h * n:
            raise ValueError(f"its PsfexPsf has {masks.size} values for masks of {sizes} pixels")
        zero, scale = (np.ravel(arrays[f"_context_{end}"]).astype(float) for end in ("first", "second"))
        return PsfexPsf(
            masks.reshape(n, h, w),
            degree=degree,
            zero=(float(zero[0]), float(zero[1])),
            scale=(float(scale[0]), float(scale[1])),
            step=float(numbers["_pixstep"]),
        )
    except (ValueError, KeyError, IndexError) as error:
        raise archive.corrupt(str(error)) from None
