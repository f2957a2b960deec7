# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Patches and tracts on a picture of the sky."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from PIL import ImageDraw, ImageFont

from ..sphere import sky_positions, unit_vectors
from .sky_view import FRAME, SkyView

__all__ = ("Outline", "darker", "draw_outlines", "draw_tract_names", "mixed")

MOST_TRACTS_NAMED = 40

POINTS = 6
"""Points along each edge of an outline."""

_WHITE, _INK = (255, 255, 255), (40, 40, 40)


@dataclasses.dataclass(frozen=True)
class Outline:
    """The image of a patch on the sky."""

    tract: int
    """Tract identifier."""

    corners: np.ndarray
    """Right ascension and declination, degrees, shape ``(k, 2)``."""

    n_bands: int = 0
    """Number of bands in which there is an image."""


def draw_outlines(
    draw: ImageDraw.ImageDraw,
    view: SkyView,
    outlines: Sequence[Outline],
    colours: Sequence[tuple[int, int, int]],
) -> None:
    """Draw patches, the last ones on top.

    Parameters
    ----------
    draw
        The picture.
    view
        Its map.
    outlines
        The patches, one at least.
    colours
        Colour of each.
    """
    columns, rows = view.pixels(*np.concatenate([_along(outline.corners) for outline in outlines]).T)
    ends = np.cumsum([POINTS * len(outline.corners) for outline in outlines])[:-1]
    # What goes around the back of the sky has no shape here.
    most = (FRAME[2] - FRAME[0]) * (0.1 if view.is_wide else 10.0)
    for colour, column, row in zip(colours, np.split(columns, ends), np.split(rows, ends), strict=True):
        if np.isfinite(column).all() and np.ptp(column) < most:
            points = list(zip(column.tolist(), row.tolist(), strict=True))
            draw.polygon(points, fill=colour, outline=darker(colour))


def draw_tract_names(draw: ImageDraw.ImageDraw, view: SkyView, outlines: Sequence[Outline]) -> None:
    """Write the number of each tract into its middle, if they are not many.

    Parameters
    ----------
    draw
        The picture.
    view
        Its map.
    outlines
        The patches.
    """
    corners: dict[int, list[np.ndarray]] = {}
    for outline in outlines:
        corners.setdefault(outline.tract, []).append(unit_vectors(*outline.corners.T))
    if len(corners) > MOST_TRACTS_NAMED:
        return
    font = ImageFont.load_default(size=15)
    for tract, vectors in corners.items():
        column, row = view.pixels(*sky_positions(np.concatenate(vectors).mean(axis=0)))
        draw.text(
            (float(column), float(row)), str(tract), fill=_INK, font=font, anchor="mm", stroke_width=3,
            stroke_fill=_WHITE,
        )  # fmt: skip


def mixed(first: Sequence[int], second: Sequence[int], part: float) -> tuple[int, int, int]:
    """Mix two colours.

    Parameters
    ----------
    first, second
        Red, green and blue, 0 to 255.
    part
        How much of the second, 0 to 1.

    Returns
    -------
    colour
        Red, green and blue.
    """
    red, green, blue = (round(a + part * (b - a)) for a, b in zip(first, second, strict=True))
    return red, green, blue


def darker(colour: Sequence[int]) -> tuple[int, int, int]:
    """Darken a colour a bit, as for the edge of a shape.

    Parameters
    ----------
    colour
        Red, green and blue, 0 to 255.

    Returns
    -------
    colour
        Red, green and blue.
    """
    return mixed(colour, (0, 0, 0), 0.15)


def _along(corners: np.ndarray) -> np.ndarray:
    """Points on the edges of a polygon, which are great circles."""
    vectors = unit_vectors(*corners.T)
    parts = np.arange(POINTS)[:, np.newaxis] / POINTS
    points = vectors[:, np.newaxis] + parts * (np.roll(vectors, -1, axis=0) - vectors)[:, np.newaxis]
    return np.stack(sky_positions(points.reshape(-1, 3)), axis=-1)
