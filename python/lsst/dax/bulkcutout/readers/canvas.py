# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Where decoded pixels go, and what is done to them on the way."""

from __future__ import annotations

import dataclasses

import numpy as np

__all__ = ("Canvas", "Scaling")


@dataclasses.dataclass(frozen=True)
class Scaling:
    """From the numbers of an HDU to pixels."""

    scale: float = 1.0
    """BSCALE; for floating-point pixels."""

    zero: float = 0.0
    """BZERO."""

    factor: float = 1.0
    """What is multiplied last; for floating-point pixels."""

    blank: int | None = None
    """The integer that stands for NaN."""

    @property
    def is_identity(self) -> bool:
        """Whether numbers are pixels."""
        return (self.scale, self.zero, self.factor) == (1.0, 0.0, 1.0)

    @property
    def linear(self) -> np.ndarray:
        """Scale, zero and factor as kernels want them."""
        # Adding -0.0 changes nothing; 0.0 would change the sign of -0.0.
        is_idle = (self.scale, self.zero) == (1.0, 0.0)
        return np.array([self.scale, -0.0 if is_idle else self.zero, self.factor])

    @property
    def whole_zero(self) -> int:
        """BZERO for integers, modulo 2**64 as a number with a sign."""
        return (int(self.zero) + (1 << 63)) % (1 << 64) - (1 << 63)


class Canvas:
    """An array that tiles are drawn on, in the form that kernels want.

    Parameters
    ----------
    pixels
        Two-dimensional; the pixels of a row are contiguous.
    """

    def __init__(self, pixels: np.ndarray) -> None:
        ny, nx = pixels.shape
        step = pixels.strides[0] // pixels.itemsize if ny > 1 else nx
        if nx > 1 and pixels.strides[1] != pixels.itemsize or step < nx:
            raise ValueError(f"Pixels of a row must be contiguous: the strides are {pixels.strides}.")
        self.extent = np.array([ny, nx, step])
        """Rows, columns, and how many pixels rows are apart."""
        length = (ny - 1) * step + nx if ny and nx else 0
        # One type of array for whatever part of an array this is: a kernel is
        # compiled for each.
        self.flat = np.lib.stride_tricks.as_strided(pixels, (length,), (pixels.itemsize,))
        """The same memory, one row after the other."""
