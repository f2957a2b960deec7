# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""PSF models that are plain tables: a Gaussian.

A model says what the kernel is at a pixel. Kernels are centred at
``[ky // 2, kx // 2]``, whatever the place within the pixel.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

__all__ = ("GaussianPsf", "PsfModel")

MOST_KERNEL_PIXELS = 512
"""Largest side of a kernel that is taken for one."""


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
