# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""The map of a picture of the sky.

North is up and right ascension runs to the left, as on the sky.  The
projection is of equal areas: Lambert's around the middle of what is shown, or
Hammer's where that is spread over more than a quarter of the sky.
"""

from __future__ import annotations

import math

import numpy as np

from ..sphere import unit_vectors

__all__ = ("FRAME", "HEIGHT", "WIDTH", "SkyView")

WIDTH, HEIGHT = 1100, 880
"""Size of the picture, pixels."""

FRAME = (90, 60, 1070, 720)
"""Left, top, right and bottom of the map, picture pixels."""

WIDE_DEG = 55.0
"""From this radius on, the map is one of the whole sky."""


class SkyView:
    """The map: from the sky to pixels of the picture.

    Parameters
    ----------
    ra, dec
        What it has to show, ICRS degrees, shape ``(n,)``.
    """

    middle: np.ndarray
    """Unit vector to the middle of the map."""

    is_wide: bool
    """Whether it is a map of the whole sky."""

    scale: float
    """Radians of the sky in a pixel of the picture."""

    def __init__(self, ra: np.ndarray, dec: np.ndarray) -> None:
        corners = unit_vectors(ra, dec)
        middle = corners.mean(axis=0)
        length = np.linalg.norm(middle)
        self.middle = middle / length if length > 1e-6 else np.array([1.0, 0.0, 0.0])
        radius = math.degrees(math.acos(float(np.clip((corners @ self.middle).min(), -1.0, 1.0))))
        self.is_wide = radius > WIDE_DEG
        if self.is_wide:
            self.middle = unit_vectors(np.degrees(np.arctan2(self.middle[1], self.middle[0])), 0.0)
        self._basis = _basis(self.middle)
        x, y = self._project(corners)
        if self.is_wide:
            low, high = (
                np.array([-2 * math.sqrt(2), -math.sqrt(2)]),
                np.array([2 * math.sqrt(2), math.sqrt(2)]),
            )
        else:
            low, high = np.array([x.min(), y.min()]), np.array([x.max(), y.max()])
        span = np.array([FRAME[2] - FRAME[0], FRAME[3] - FRAME[1]])
        # With some room around.
        self.scale = float((1.06 * (high - low) / span).max())
        self._origin = (low + high) / 2

    def pixels(self, ra: np.ndarray, dec: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Find places in the picture.

        Parameters
        ----------
        ra, dec
            ICRS degrees, of any one shape.

        Returns
        -------
        column, row
            Picture pixels, of the same shape, which may be outside of the
            frame; not finite for the back of the sky.
        """
        x, y = self._project(unit_vectors(ra, dec))
        column = (FRAME[0] + FRAME[2]) / 2 + (x - self._origin[0]) / self.scale
        row = (FRAME[1] + FRAME[3]) / 2 - (y - self._origin[1]) / self.scale
        return column, row

    def _project(self, vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Map plane, radians: x to the west, y to the north."""
        east, north, towards = (vectors @ self._basis.T).T
        if self.is_wide:
            lon, lat = np.arctan2(east, towards), np.arcsin(np.clip(north, -1.0, 1.0))
            factor = np.sqrt(2.0 / (1.0 + np.cos(lat) * np.cos(lon / 2)))
            return -2.0 * factor * np.cos(lat) * np.sin(lon / 2), factor * np.sin(lat)
        with np.errstate(invalid="ignore", divide="ignore"):
            factor = np.sqrt(2.0 / (1.0 + towards))
        return -factor * east, factor * north


def _basis(middle: np.ndarray) -> np.ndarray:
    """Unit vectors to the east, to the north and towards a point."""
    pole = (
        np.array([0.0, 0.0, 1.0])
        if abs(middle[2]) < 1 - 1e-9
        else np.array([-math.copysign(1, middle[2]), 0.0, 0.0])
    )
    east = np.cross(pole, middle)
    east /= np.linalg.norm(east)
    return np.stack([east, np.cross(middle, east), middle])
