# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""PSF kernels of the targets of one band, and how wide they are."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..errors import CorruptInputError
from ..readers import ImageReader
from .place import Place

__all__ = ("Kernels", "find_kernels", "psf_fwhm")


def find_kernels(
    home: ImageReader,
    place: Place,
    columns: dict[str, np.ndarray],
    shape: tuple[int, int],
    retry: Callable[[Callable[[], Any]], Any],
) -> Kernels:
    """Find PSF kernels; fills what they and the cells tell.

    Parameters
    ----------
    home
        The patch's own image.
    place
        Where the cutouts are.
    columns
        Columns of the band, from `band_cut.empty_columns`.
    shape
        Rows and columns of the kernels, at least those of the image's.
    retry
        Runs something that storage can spoil, and runs it again if it does.

    Returns
    -------
    kernels
        Those of the cells of the home image that hold the targets.
    """
    if not home.has_psf:
        return Kernels.none(shape, len(place.x))
    own_y, own_x = place.own_pixel()
    cells = home.cell_of(place.first_y + own_y, place.first_x + own_x)
    distinct, members = np.unique(cells, axis=0, return_inverse=True)
    members = members.reshape(-1)
    found, damaged = _read_kernels(home, distinct, retry)
    ky, kx = found.shape[1:]
    # Smaller kernels of other bands keep their centre at [ky//2, kx//2].
    y0, x0 = shape[0] // 2 - ky // 2, shape[1] // 2 - kx // 2
    usable = np.isfinite(found).all(axis=(1, 2))
    padded = np.zeros((len(found), *shape), dtype=np.float32)
    padded[:, y0 : y0 + ky, x0 : x0 + kx] = found
    padded[~usable] = np.nan
    columns["psf_valid"][:] = usable[members]
    columns["psf_cell"][:] = np.where(usable[members, None], cells, -1)
    columns["psf_fwhm"][:] = psf_fwhm(found, home.wcs.pixel_scale_arcsec)[members]
    columns["n_cells"][:] = place.count_cells(home)
    return Kernels(padded, members, damaged[members])


def psf_fwhm(kernels: np.ndarray, pixel_scale_arcsec: float) -> np.ndarray:
    """Width of PSF kernels.

    Parameters
    ----------
    kernels
        Shape ``(..., ky, kx)``.
    pixel_scale_arcsec
        Side of a pixel.

    Returns
    -------
    fwhm
        Full width at half maximum, arcsec, shape ``(...)``, of the Gaussian
        that has the kernel's effective area ``sum(k)**2 / sum(k**2)`` (for a
        Gaussian ``4 pi sigma**2``); NaN where a kernel is not finite.
    """
    flat = kernels.reshape(*kernels.shape[:-2], -1).astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        area = flat.sum(axis=-1) ** 2 / (flat**2).sum(axis=-1)
    fwhm = 2 * math.sqrt(2 * math.log(2)) * np.sqrt(area / (4 * math.pi)) * pixel_scale_arcsec
    return np.asarray(fwhm, dtype=np.float32)


@dataclasses.dataclass(frozen=True)
class Kernels:
    """PSF kernels of some targets."""

    distinct: np.ndarray
    """Kernels of the cells, shape ``(n_cells, ky, kx)``; NaN where there is
    none."""

    members: np.ndarray
    """Which of them is each target's, shape ``(n,)``."""

    lost: np.ndarray
    """Whose kernel is damaged, shape ``(n,)``."""

    @classmethod
    def none(cls, shape: tuple[int, int], n: int) -> Kernels:
        """Make no kernels for so many targets.

        Parameters
        ----------
        shape
            Rows and columns of the kernels.
        n
            Number of targets.

        Returns
        -------
        kernels
            All NaN.
        """
        nothing = np.full((1, *shape), np.nan, dtype=np.float32)
        return cls(nothing, np.zeros(n, dtype=np.intp), np.zeros(n, dtype=bool))


def _read_kernels(
    home: ImageReader, cells: np.ndarray, retry: Callable[[Callable[[], Any]], Any]
) -> tuple[np.ndarray, np.ndarray]:
    """Kernels of cells, shape ``(n, ky, kx)``, and which are damaged."""
    damaged = np.zeros(len(cells), dtype=bool)
    with contextlib.suppress(CorruptInputError):
        return retry(lambda: home.psf_kernels(cells)), damaged
    kernels = np.full((len(cells), *home.psf_shape), np.nan, dtype=np.float32)
    for number, cell in enumerate(cells):
        try:
            kernels[number] = retry(functools.partial(home.psf_kernels, cell[np.newaxis]))[0]
        except CorruptInputError:
            damaged[number] = True
    return kernels, damaged
