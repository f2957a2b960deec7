# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""PSF models that are plain tables: a Gaussian, and PSFEx's.

A model says what the kernel is at a pixel. Kernels are centred at
``[ky // 2, kx // 2]``, whatever the place within the pixel.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from ..psf_shift import lanczos

__all__ = ("GaussianPsf", "PsfModel", "PsfexPsf")

MOST_KERNEL_PIXELS = 512
"""Largest side of a kernel that is taken for one."""

_MOST_DEGREE = 20
_LOBES = 4


class PsfModel(Protocol):
    """What is known of the PSF of an image."""

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of a kernel."""

    @property
    def is_constant(self) -> bool:
        """Whether the kernel is the same everywhere."""

    def kernels(self, y: Any, x: Any) -> np.ndarray:
        """Kernels at positions.

        Parameters
        ----------
        y, x
            Absolute pixels, shape ``(n,)``.

        Returns
        -------
        kernels
            Float32, shape ``(n, ky, kx)``; NaN where there is none.
        """


class GaussianPsf:
    """A round Gaussian, the same everywhere.

    Parameters
    ----------
    sigma
        Standard deviation, pixels.
    shape
        Rows and columns of the kernel, odd numbers.

    Raises
    ------
    ValueError
        Raised if a number is out of range.
    """

    is_constant = True
    """Always."""

    def __init__(self, sigma: float, shape: tuple[int, int]) -> None:
        if not (np.isfinite(sigma) and sigma > 0):
            raise ValueError(f"its Gaussian PSF has a sigma of {sigma} pixels")
        if not all(1 <= n <= MOST_KERNEL_PIXELS and n % 2 for n in shape):
            raise ValueError(f"its Gaussian PSF has kernels of {shape} pixels (odd numbers are allowed)")
        self.shape = shape
        y, x = (np.arange(n) - n // 2 for n in shape)
        kernel = np.exp(-0.5 * (y[:, np.newaxis] ** 2 + x**2) / sigma**2)
        self._kernel = (kernel / kernel.sum()).astype(np.float32)

    def kernels(self, y: Any, x: Any) -> np.ndarray:
        """The kernel, for each position.

        Parameters
        ----------
        y, x
            Absolute pixels, shape ``(n,)``.

        Returns
        -------
        kernels
            Float32, shape ``(n, ky, kx)``.
        """
        n = len(np.broadcast_arrays(np.atleast_1d(y), x)[0])
        return np.repeat(self._kernel[np.newaxis], n, axis=0)


class PsfexPsf:
    """PSFEx's model: pixel masks times a polynomial in the position.

    Parameters
    ----------
    masks
        One mask for each term of the polynomial, shape ``(n, h, w)``; terms
        are ``1, u, u^2, ..., v, u v, ..., v^2, ...``.
    degree
        Degree of the polynomial.
    zero, scale
        Offset and scale of the position: ``u = (x - zero[0]) / scale[0]``,
        ``v = (y - zero[1]) / scale[1]``.
    step
        Size of a mask's pixel in image pixels (PSF_SAMP).
    origin
        Absolute pixel ``(x, y)`` at which x and y of the model are zero.

    Raises
    ------
    ValueError
        Raised if the numbers contradict each other.
    """

    is_constant = False
    """The kernel differs from pixel to pixel."""

    def __init__(
        self,
        masks: np.ndarray,
        *,
        degree: int,
        zero: tuple[float, float],
        scale: tuple[float, float],
        step: float,
        origin: tuple[float, float] = (0.0, 0.0),
    ) -> None:
        if not 0 <= degree <= _MOST_DEGREE or masks.shape[0] != (degree + 1) * (degree + 2) // 2:
            raise ValueError(f"its PSFEx model has {masks.shape[0]} terms of a polynomial of degree {degree}")
        if not (np.isfinite([*zero, *scale, step]).all() and min(*map(abs, scale)) > 0 and step > 0):
            raise ValueError(f"its PSFEx model has scales of {scale} and a step of {step} pixels")
        if not np.isfinite(masks).all() or max(masks.shape[1:]) > MOST_KERNEL_PIXELS:
            raise ValueError(f"its PSFEx model has masks of {masks.shape[1:]} pixels, or not only numbers")
        self._degree, self._zero, self._scale, self._origin = degree, zero, scale, origin
        # Odd, so that there is a pixel in the middle; as afw has it.
        ky, kx = (int(n * step) // 2 * 2 + 1 for n in masks.shape[1:])
        if max(ky, kx) > MOST_KERNEL_PIXELS:
            raise ValueError(f"its PSFEx model has kernels of {(ky, kx)} pixels")
        self.shape = (ky, kx)
        rows, columns = (_resampling(n, k, step) for n, k in zip(masks.shape[1:], (ky, kx), strict=True))
        # Linear in the masks, so it can be done once for all positions.
        self._terms = np.einsum("ya,nab,xb->nyx", rows, masks.astype(np.float64), columns)

    def kernels(self, y: Any, x: Any) -> np.ndarray:
        """Kernels at positions, with a sum of one.

        Parameters
        ----------
        y, x
            Absolute pixels, shape ``(n,)``.

        Returns
        -------
        kernels
            Float32, shape ``(n, ky, kx)``; NaN where the model adds up to
            nothing.
        """
        u = (np.atleast_1d(x) - self._origin[0] - self._zero[0]) / self._scale[0]
        v = (np.atleast_1d(y) - self._origin[1] - self._zero[1]) / self._scale[1]
        powers = [(i, j) for j in range(self._degree + 1) for i in range(self._degree + 1 - j)]
        basis = np.stack([u**i * v**j for i, j in powers], axis=-1)
        kernels = np.tensordot(basis, self._terms, axes=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            kernels /= kernels.sum(axis=(1, 2), keepdims=True)
        kernels[~np.isfinite(kernels).all(axis=(1, 2))] = np.nan
        return np.asarray(kernels, dtype=np.float32)


def _resampling(n_in: int, n_out: int, step: float) -> np.ndarray:
    """Weights that interpolate a mask at the image's pixels, along one axis:
    Lanczos' with four lobes, which PSFEx uses; shape ``(n_out, n_in)``.
    """
    places = n_in // 2 + (np.arange(n_out) - n_out // 2) / step
    weights = lanczos(places[:, np.newaxis] - np.arange(n_in), _LOBES)
    # Those of a whole neighbourhood, also at the edge of the mask.
    around = np.round(places)[:, np.newaxis] + np.arange(-_LOBES, _LOBES + 1) - places[:, np.newaxis]
    return np.asarray(weights / lanczos(around, _LOBES).sum(axis=1, keepdims=True))
