# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Rectangles of pixels, and the rule that places one around a target."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

__all__ = ("Box", "first_pixel", "hull", "visible_parts")


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

    def minus(self, other: Box) -> list[Box]:
        """Pixels of this box that another one does not have.

        Parameters
        ----------
        other
            Box in the same pixel frame.

        Returns
        -------
        rest
            Boxes that do not overlap, at most four; this box where the two
            have nothing in common.
        """
        common = self.intersection(other)
        if common is None:
            return [self]
        candidates = (
            Box(y0=self.y0, y1=common.y0, x0=self.x0, x1=self.x1),
            Box(y0=common.y1, y1=self.y1, x0=self.x0, x1=self.x1),
            Box(y0=common.y0, y1=common.y1, x0=self.x0, x1=common.x0),
            Box(y0=common.y0, y1=common.y1, x0=common.x1, x1=self.x1),
        )
        return [box for box in candidates if box.y0 < box.y1 and box.x0 < box.x1]

    def shifted(self, y: int, x: int) -> Box:
        """Move the box to another frame.

        Parameters
        ----------
        y, x
            Whole pixels to add.

        Returns
        -------
        box
            A box of the same shape.
        """
        return Box(y0=self.y0 + y, y1=self.y1 + y, x0=self.x0 + x, x1=self.x1 + x)

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


def hull(boxes: Iterable[Box | None]) -> Box | None:
    """The smallest box that holds several.

    Parameters
    ----------
    boxes
        Boxes in one pixel frame; `None` counts for nothing.

    Returns
    -------
    hull
        `None` if there are none.
    """
    there = [box for box in boxes if box is not None]
    if not there:
        return None
    return Box(
        y0=min(box.y0 for box in there),
        y1=max(box.y1 for box in there),
        x0=min(box.x0 for box in there),
        x1=max(box.x1 for box in there),
    )


def visible_parts(box: Box, images: Sequence[Box]) -> list[list[Box]]:
    """Which pixels of a box each of several images gives.

    Parameters
    ----------
    box
        Pixels that are wanted.
    images
        Pixels that the images have; they may overlap, and the first that has
        a pixel gives it.

    Returns
    -------
    parts
        For each image the boxes that it gives, which do not overlap; none
        where others give everything.
    """
    parts: list[list[Box]] = []
    left = [box]
    for image in images:
        found = (piece.intersection(image) for piece in left)
        parts.append([piece for piece in found if piece is not None])
        left = [rest for piece in left for rest in piece.minus(image)]
    return parts


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
