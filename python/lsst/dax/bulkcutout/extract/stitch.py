# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Cutouts that leave their patch's image are completed from its neighbours.

A pixel inside the home image's box is the home image's, data or not; of the
others each is the first neighbour's that has it; beyond them there is no
data.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..boxes import Box, hull, visible_parts
from ..errors import CorruptInputError
from .cut import CutBlock

if TYPE_CHECKING:
    from ..readers import ImageReader
    from .background_swap import BackgroundSwap

__all__ = ("EVERYWHERE", "Neighbor", "Stitched", "find_shift", "stitch")

EVERYWHERE = Box(y0=-(2**40), y1=2**40, x0=-(2**40), x1=2**40)
"""Box of an image that may be anywhere."""

GRID_TOLERANCE_PIXELS = 0.01
"""How far the pixels of two images may lie apart on the sky and yet be the
same pixels."""


@dataclasses.dataclass(frozen=True)
class Neighbor:
    """The image of another patch, as far as it can be used."""

    patch: int
    """Patch identifier."""

    reader: ImageReader | None
    """The image; `None` if it is damaged."""

    box: Box
    """Where its pixels are, or would be, in pixels of the home image."""

    shift: tuple[int, int] = (0, 0)
    """Its own pixels ``(y, x)`` less those of the home image."""

    background: BackgroundSwap | None = None
    """What is done to its background before it gives pixels."""


@dataclasses.dataclass(frozen=True)
class Stitched:
    """What came of a block, one element each in every array."""

    damaged: np.ndarray
    """Whether pixels that were wanted are damaged in any image; all pixels
    are fill then."""

    n_patches: np.ndarray
    """Number of patches that gave pixels, int16."""

    stitched: np.ndarray
    """Whether any but the home patch gave some."""


Cutter = Callable[[Neighbor, np.ndarray, np.ndarray, Sequence[Box]], Iterator[CutBlock]]


def stitch(
    block: CutBlock,
    *,
    first_y: np.ndarray,
    first_x: np.ndarray,
    home: Box,
    neighbors: Sequence[Neighbor],
    cut_neighbor: Cutter,
    fill: Mapping[str, np.generic],
) -> Stitched:
    """Complete cutouts of the home image.

    Parameters
    ----------
    block
        Cutouts from the home image; pixels beyond it are filled in place.
    first_y, first_x
        First pixel of each cutout of the block, shape ``(n,)``.
    home
        Pixels that the home image has.
    neighbors
        Other images, the first one first.
    cut_neighbor
        Cuts some targets out of a neighbour: called with the neighbour, the
        first pixels ``y`` and ``x`` of the cutouts in pixels of the home
        image, and for each the box of pixels that are wanted.
    fill
        Value of pixels without data, for each plane.

    Returns
    -------
    stitched
        What came of it.
    """
    size = next(iter(block.pixels.values())).shape[1]
    touches = (first_y < home.y1) & (first_y + size > home.y0)
    touches &= (first_x < home.x1) & (first_x + size > home.x0)
    inside = (first_y >= home.y0) & (first_y + size <= home.y1)
    inside &= (first_x >= home.x0) & (first_x + size <= home.x1)
    damaged, n_patches = block.damaged.copy(), touches.astype(np.int16)
    stitched = np.zeros(len(damaged), dtype=bool)
    outer = np.flatnonzero(~inside & ~damaged) if neighbors else np.zeros(0, dtype=np.intp)
    boxes = {
        k: Box(y0=y, y1=y + size, x0=x, x1=x + size)
        for k, y, x in zip(outer.tolist(), first_y[outer].tolist(), first_x[outer].tolist(), strict=True)
    }
    images = [home, *(neighbor.box for neighbor in neighbors)]
    parts = {k: visible_parts(box, images)[1:] for k, box in boxes.items()}
    for number, neighbor in enumerate(neighbors):
        members = np.array([k for k in boxes if parts[k][number]], dtype=np.intp)
        if not len(members):
            continue
        n_patches[members] += 1
        stitched[members] = True
        if neighbor.reader is None:
            damaged[members] = True
            continue
        clips = [hull(parts[k][number]) or neighbor.box for k in members.tolist()]
        try:
            for piece in cut_neighbor(neighbor, first_y[members], first_x[members], clips):
                for place, k in enumerate(members[piece.index].tolist()):
                    for part in parts[k][number]:
                        where = part.slices(boxes[k])
                        for plane, pixels in piece.pixels.items():
                            block.pixels[plane][k][where] = pixels[place][where]
                damaged[members[piece.index[piece.damaged]]] = True
        except CorruptInputError:
            # What belongs to the whole image is damaged.
            damaged[members] = True
    if damaged.any():
        for plane, pixels in block.pixels.items():
            pixels[damaged] = fill[plane]
    n_patches[damaged] = 0
    stitched[damaged] = False
    return Stitched(damaged, n_patches, stitched)


def find_shift(home: ImageReader, other: ImageReader) -> tuple[int, int] | None:
    """Find out how the pixels of two images correspond.

    Parameters
    ----------
    home, other
        The images.

    Returns
    -------
    shift
        Whole pixels ``(y, x)`` to add to pixels of ``home`` to get those of
        ``other``; `None` where these are not the same pixels, so that one
        image cannot complete the other without resampling.
    """
    if home.wcs == other.wcs:
        return (0, 0)
    # Between the two images, where the pixels of both are wanted.
    box = other.bbox
    x, y = (grid.ravel() for grid in np.meshgrid([box.x0, box.x1 - 1], [box.y0, box.y1 - 1]))
    there_x, there_y = home.wcs.sky_to_pixel(*other.wcs.pixel_to_sky(x, y))
    dy, dx = y - there_y, x - there_x
    if not np.isfinite([dy, dx]).all():
        return None
    shift = (round(float(dy.mean())), round(float(dx.mean())))
    if np.hypot(dy - shift[0], dx - shift[1]).max() > GRID_TOLERANCE_PIXELS:
        return None
    return shift
