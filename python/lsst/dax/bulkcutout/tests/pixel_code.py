# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Pixel values that say which pixel they are."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from ..boxes import Box

__all__ = ("MASK_PLANES", "PixelCode", "PixelName")

MASK_PLANES = (
    "NO_DATA",
    "INTERPOLATED",
    "COSMIC_RAY",
    "SATURATED",
    "DETECTION_EDGE",
    "CLIPPED",
    "REJECTED",
    "DETECTED",
    "INEXACT_PSF",
)
"""Mask planes of DP2 coadds in the order of their bits."""

_LIMIT = 2**24
"""Whole numbers up to here are exact in float32."""

_VARIANCE_SCALE = 2.0**-30
"""Factor of the variance plane, a power of two so that nothing is rounded;
with it no variance value equals an image value."""


@dataclasses.dataclass(frozen=True)
class PixelName:
    """The pixel that a value belongs to."""

    plane: str
    """``image`` or ``variance``."""

    tract: int
    """Tract identifier."""

    patch: int
    """Patch identifier."""

    band: str
    """Band."""

    y: int
    """Row, tract pixels."""

    x: int
    """Column, tract pixels."""


@dataclasses.dataclass(frozen=True)
class PixelCode:
    """A number for every pixel of every image of a repository.

    Image values count the pixels through all images, variance values are
    image values times 2**-30, both exact in float32; each value occurs once.
    Mask values are a pattern in the eight planes above NO_DATA that changes
    with x, y and image.
    """

    images: tuple[tuple[int, int, str], ...]
    """``(tract, patch, band)`` of the images."""

    boxes: tuple[Box, ...]
    """Pixels of each of the images."""

    def __post_init__(self) -> None:
        if self._stride * len(self.images) >= _LIMIT:
            raise ValueError(
                f"{len(self.images)} images of {self._stride} px have more pixels than float32 has whole "
                f"numbers ({_LIMIT}); use smaller or fewer images."
            )

    @property
    def _stride(self) -> int:
        return max((box.shape[0] * box.shape[1] for box in self.boxes), default=0)

    def expected_pixel(self, plane: str, tract: int, patch: int, band: str, y: Any, x: Any) -> np.ndarray:
        """Values of pixels.

        Parameters
        ----------
        plane
            ``image``, ``variance``, or ``mask`` (bits as in `MASK_PLANES`).
        tract, patch, band
            The image.
        y, x
            Tract pixels.

        Returns
        -------
        values
            Of the broadcast shape, float32, or int32 for the mask.
        """
        rank = self.images.index((tract, patch, band))
        box = self.boxes[rank]
        row, column = np.asarray(y) - box.y0, np.asarray(x) - box.x0
        if np.any((row < 0) | (row >= box.shape[0]) | (column < 0) | (column >= box.shape[1])):
            raise ValueError(f"Pixels outside the image {tract}, {patch}, {band}: {box}.")
        if plane == "mask":
            return np.asarray(((37 * row + column + 101 * rank) % 256) << 1, dtype=np.int32)
        number = 1 + rank * self._stride + row * box.shape[1] + column
        return np.asarray(number * (_VARIANCE_SCALE if plane == "variance" else 1.0), dtype=np.float32)

    def decode(self, value: float) -> PixelName:
        """The pixel of an image or variance value.

        Parameters
        ----------
        value
            A pixel value.

        Returns
        -------
        name
            Where the value is.

        Raises
        ------
        ValueError
            Raised if no pixel has this value.
        """
        plane = "variance" if 0 < value < 0.5 else "image"
        number = float(value) / (_VARIANCE_SCALE if plane == "variance" else 1.0) - 1.0
        rank, local = divmod(number, self._stride)
        if number != int(number) or not 0 <= rank < len(self.images):
            raise ValueError(f"{value!r} is not the value of any pixel.")
        box = self.boxes[int(rank)]
        row, column = divmod(int(local), box.shape[1])
        if row >= box.shape[0]:
            raise ValueError(f"{value!r} is not the value of any pixel.")
        return PixelName(plane, *self.images[int(rank)], box.y0 + row, box.x0 + column)
