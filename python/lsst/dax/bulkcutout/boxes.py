# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Rectangles of pixels, and the rule that places one around a target."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

__all__ = ("Box", "first_pixel")


@dataclasses.dataclass(frozen=True)
class Box:
    """A half-open rectangle of pixels.

    All numbers are absolute pixels of the tract (or of whatever frame the
    caller uses throughout): ``y0 <= y < y1`` and ``x0 <= x < x1``.
    """

    y0: int
    """First row."""

    y1: int
    """Row after the last."""

    x0: int
    """First column."""

    x1: int
    """Column after the last."""

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns, ``(ny, nx)``."""
        return (self.y1 - self.y0, self.x1 - self.x0)

    def intersection(self, other: Box) -> Box | None:
        """Pixels in both boxes.

        Parameters
        ----------
        other
            Box in the same pixel frame.

        Returns
        -------
        overlap
            The common pixels, or `None` where there are none.
        """
        overlap = Box(
            y0=max(self.y0, other.y0),
            y1=min(self.y1, other.y1),
            x0=max(self.x0, other.x0),
            x1=min(self.x1, other.x1),
        )
        return overlap if overlap.y0 < overlap.y1 and overlap.x0 < overlap.x1 else None

    def slices(self, within: Box) -> tuple[slice, slice]:
        """Index of this box in an array that covers another one.

        Parameters
        ----------
        within
            Box that the array covers; it must contain this one.

        Returns
        -------
        index
            Slices ``(y, x)``.
        """
        return (
            slice(self.y0 - within.y0, self.y1 - within.y0),
            slice(self.x0 - within.x0, self.x1 - within.x0),
        )


def first_pixel(position: Any, size: Any) -> np.ndarray:
    """First pixel of a cutout along one axis.

    Parameters
    ----------
    position
        Target position along the axis: zero-based pixels, the centre of a
        pixel at a whole number.
    size
        Size of the cutout along the axis in pixels.

    Returns
    -------
    first
        Whole pixels, int64, of the broadcast shape: ``ceil(position - size /
        2)``, which is where `astropy.nddata.utils.overlap_slices` puts it.

    Notes
    -----
    Positions are rounded to 1e-6 px first, so that a target on a pixel
    border goes to the same side on every machine.
    """
    rounded = np.round(np.asarray(position, dtype=np.float64), 6)
    return np.ceil(rounded - np.asarray(size) / 2.0).astype(np.int64)
