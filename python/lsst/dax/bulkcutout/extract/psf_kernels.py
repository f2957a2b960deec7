# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""PSF kernels of the targets of one band, and how wide they are."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import math
from collections.abc import Callable, Iterator
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
    *,
    most: int,
    retry: Callable[[Callable[[], Any]], Any],
) -> Iterator[tuple[slice, Kernels]]:
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
    most
        How many kernels there may be in memory.
    retry
        Runs something that storage can spoil, and runs it again if it does.

    Yields
    ------
    part, kernels
        Some of the targets, all in turn, and the kernels of the cells of the
        home image that hold them.
    """
    n = len(place.x)
    if not home.has_psf:
        yield slice(0, n), Kernels.none(shape, n)
        return
    own_y, own_x = place.own_pixel()
    cells = home.cell_of(place.first_y + own_y, place.first_x + own_x)
    columns["n_cells"][:] = place.count_cells(home)
    # Each cell is read once, unless there are too many for memory.
    step = n if len(_distinct(cells)[0]) <= most else most
    for start in range(0, n, max(1, step)):
        part = slice(start, min(start + step, n))
        views = {name: values[part] for name, values in columns.items()}
        yield part, _find_kernels(home, cells[part], views, shape, retry)


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


def _find_kernels(
    home: ImageReader,
    cells: np.ndarray,
    columns: dict[str, np.ndarray],
    shape: tuple[int, int],
    retry: Callable[[Callable[[], Any]], Any],
) -> Kernels:
    first, members = _distinct(cells)
    found, damaged = _read_kernels(home, cells[first], retry)
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
    return Kernels(padded, members, damaged[members])


def _distinct(cells: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each distinct cell one that is it, and which of them each is."""
    width = int(cells[:, 1].max(initial=0)) + 2
    _, first, members = np.unique(cells[:, 0] * width + cells[:, 1], return_index=True, return_inverse=True)
    return first, members


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
