# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""PSFs that lsst.afw alone can read: coadds of PSFs, Piff.

The one module that knows lsst.afw, which is not on PyPI. Some of these models
are Python pickles: afw unpickles them, as the observatory's own software does
wherever it opens such a file. Without afw nobody does.
"""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np

from .psf_models import MOST_KERNEL_PIXELS

__all__ = ("AfwPsf", "open_afw_psf")


class AfwPsf:
    """A PSF as afw evaluates it.

    Parameters
    ----------
    psf
        An ``lsst.afw.detection.Psf``.
    point
        Makes a position of ``x`` and ``y``: ``lsst.geom.Point2D``.
    position
        Absolute pixel ``(x, y)`` at which the size of the kernels is asked.
    """

    is_constant = False
    """The kernel differs from pixel to pixel."""

    def __init__(self, psf: Any, point: Any, position: tuple[float, float]) -> None:
        self._psf = psf
        self._point = point
        box = psf.computeBBox(point(*position))
        sides = (int(box.getHeight()), int(box.getWidth()))
        if not all(1 <= side <= MOST_KERNEL_PIXELS for side in sides):
            raise ValueError(f"its PSF has kernels of {sides} pixels")
        self.shape = (sides[0] // 2 * 2 + 1, sides[1] // 2 * 2 + 1)

    def kernels(self, y: Any, x: Any) -> np.ndarray:
        """Kernels at positions.

        Parameters
        ----------
        y, x
            Absolute pixels, shape ``(n,)``.

        Returns
        -------
        kernels
            Float32, shape ``(n, ky, kx)``; larger ones are cut off, smaller
            ones padded with zero. NaN where afw has none: no input image
            reaches there.
        """
        positions = list(zip(np.atleast_1d(y).tolist(), np.atleast_1d(x).tolist(), strict=True))
        kernels = np.full((len(positions), *self.shape), np.nan, dtype=np.float32)
        for kernel, (row, column) in zip(kernels, positions, strict=True):
            try:
                image = self._psf.computeKernelImage(self._point(column, row))
            except MemoryError:
                raise
            except Exception:
                # afw says by many kinds of errors that there is no PSF here.
                continue
            kernel[:] = _fitted(np.asarray(image.array), -image.getY0(), -image.getX0(), self.shape)
        return kernels


def open_afw_psf(path: str, position: tuple[float, float]) -> AfwPsf | str:
    """Read the PSF of an Exposure through lsst.afw.

    Parameters
    ----------
    path
        The file.
    position
        An absolute pixel ``(x, y)`` of the image, in its middle.

    Returns
    -------
    psf
        The PSF; or why there is none: lsst.afw is not installed, or does not
        read it.
    """
    try:
        image = importlib.import_module("lsst.afw.image")
        geometry = importlib.import_module("lsst.geom")
    except ImportError:
        return "only lsst.afw can read it, which is not installed here"
    try:
        psf = image.ExposureFitsReader(path).readPsf()
        return "lsst.afw finds none" if psf is None else AfwPsf(psf, geometry.Point2D, position)
    except MemoryError:
        raise
    except Exception as error:
        # Extensions that a model needs may be missing; the pixels are good.
        return f"lsst.afw does not read it ({type(error).__name__})"


def _fitted(kernel: np.ndarray, center_y: int, center_x: int, shape: tuple[int, int]) -> np.ndarray:
    """Bring a kernel to a shape, with its centre at [ky // 2, kx // 2]."""
    fitted = np.zeros(shape, dtype=np.float64)
    here, there = [], []
    for n, center, side in zip(kernel.shape, (center_y, center_x), shape, strict=True):
        first = center - side // 2
        low, high = max(first, 0), min(first + side, n)
        there.append(slice(low, high))
        here.append(slice(low - first, high - first))
    fitted[tuple(here)] = kernel[tuple(there)]
    return fitted
