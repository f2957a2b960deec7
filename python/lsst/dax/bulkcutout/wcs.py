# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Projections: what all of them can do, and the tangent plane that the coadds
of a sky map share.  `header_wcs` has the others.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, NamedTuple, Protocol

import numpy as np

__all__ = ("TangentTerms", "TangentWcs", "Wcs", "sky_to_tangent_plane", "tangent_plane_to_sky")


class TangentTerms(NamedTuple):
    """A tangent plane for each of ``n`` targets."""

    crval: np.ndarray
    """Tangent points, ICRS degrees, shape ``(n, 2)``."""

    crpix: np.ndarray
    """Pixels ``(x, y)`` of the tangent points, zero-based absolute pixels,
    shape ``(n, 2)``."""

    cd: np.ndarray
    """Degrees per pixel, shape ``(n, 2, 2)``."""


class Wcs(Protocol):
    """Between the sky (ICRS) and the absolute pixels of an image."""

    @property
    def pixel_scale_arcsec(self) -> float:
        """Side of the square that has the area of a pixel, arcsec."""

    @property
    def cards(self) -> str:
        """Header cards, a line each, or empty.

        They are in absolute pixels, and empty where `tangent_terms` says all
        there is to say.
        """

    def sky_to_pixel(self, ra: Any, dec: Any) -> tuple[np.ndarray, np.ndarray]:
        """Pixel positions of points on the sky.

        Parameters
        ----------
        ra, dec
            ICRS degrees, of any one shape.

        Returns
        -------
        x, y
            Zero-based pixels, float64, of the same shape; NaN for points that
            the projection does not reach.
        """

    def pixel_to_sky(self, x: Any, y: Any) -> tuple[np.ndarray, np.ndarray]:
        """Points on the sky of pixel positions.

        Parameters
        ----------
        x, y
            Zero-based pixels, of any one shape.

        Returns
        -------
        ra, dec
            ICRS degrees, float64, of the same shape; ``0 <= ra < 360``; NaN
            for pixels that are not on the sky.
        """

    def tangent_terms(self, ra: np.ndarray, dec: np.ndarray) -> TangentTerms:
        """Tangent planes that describe the projection around targets.

        Parameters
        ----------
        ra, dec
            The targets, ICRS degrees, shape ``(n,)``.

        Returns
        -------
        terms
            Exact if `cards` is empty; otherwise the projection's linear
            terms at each target.
        """


@dataclasses.dataclass(frozen=True)
class TangentWcs:
    """A gnomonic (FITS ``TAN``) projection with a linear part.

    Formulae are those of Calabretta and Greisen (2002), sections 2 and 5.1.3,
    with the native pole at its default (``LONPOLE = 180``).
    """

    crval: tuple[float, float]
    """Right ascension and declination of the tangent point, degrees."""

    crpix: tuple[float, float]
    """Pixel ``(x, y)`` of the tangent point, zero-based tract pixels."""

    cd: tuple[tuple[float, float], tuple[float, float]]
    """Degrees per pixel, ``((CD1_1, CD1_2), (CD2_1, CD2_2))``."""

    @property
    def pixel_scale_arcsec(self) -> float:
        """Side of the square that has the area of a pixel, arcsec."""
        (a, b), (c, d) = self.cd
        return math.sqrt(abs(a * d - b * c)) * 3600.0

    @property
    def cards(self) -> str:
        """Empty: the terms say all there is to say."""
        return ""

    def tangent_terms(self, ra: np.ndarray, dec: np.ndarray) -> TangentTerms:
        """The terms of this projection, for each of some targets.

        Parameters
        ----------
        ra, dec
            The targets, ICRS degrees, shape ``(n,)``.

        Returns
        -------
        terms
            The same for all.
        """
        n = len(ra)
        return TangentTerms(
            np.broadcast_to(np.array(self.crval), (n, 2)),
            np.broadcast_to(np.array(self.crpix), (n, 2)),
            np.broadcast_to(np.array(self.cd), (n, 2, 2)),
        )

    def sky_to_pixel(self, ra: Any, dec: Any) -> tuple[np.ndarray, np.ndarray]:
        """Pixel positions of points on the sky.

        Parameters
        ----------
        ra, dec
            ICRS degrees, of any one shape.

        Returns
        -------
        x, y
            Zero-based pixels, float64, of the same shape; NaN for points that
            are 90 degrees or more from the tangent point.
        """
        ra0, dec0 = np.radians(self.crval)
        return self.plane_to_pixel(*sky_to_tangent_plane(ra, dec, ra0, math.sin(dec0), math.cos(dec0)))

    def plane_to_pixel(self, xi: np.ndarray, eta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Pixel positions of points on the tangent plane.

        Parameters
        ----------
        xi, eta
            To the east and to the north of the tangent point, degrees.

        Returns
        -------
        x, y
            Zero-based pixels, of the same shape.
        """
        (a, b), (c, d) = self.cd
        determinant = a * d - b * c
        x = (d * xi - b * eta) / determinant + self.crpix[0]
        y = (a * eta - c * xi) / determinant + self.crpix[1]
        return x, y

    def pixel_to_sky(self, x: Any, y: Any) -> tuple[np.ndarray, np.ndarray]:
        """Points on the sky of pixel positions.

        Parameters
        ----------
        x, y
            Zero-based pixels, of any one shape.

        Returns
        -------
        ra, dec
            ICRS degrees, float64, of the same shape; ``0 <= ra < 360``.
        """
        dx = np.asarray(x, dtype=np.float64) - self.crpix[0]
        dy = np.asarray(y, dtype=np.float64) - self.crpix[1]
        (a, b), (c, d) = self.cd
        xi, eta = np.radians(a * dx + b * dy), np.radians(c * dx + d * dy)
        return tangent_plane_to_sky(xi, eta, *self.crval)


def sky_to_tangent_plane(
    ra: Any, dec: Any, ra0_rad: Any, sin_dec0: Any, cos_dec0: Any
) -> tuple[np.ndarray, np.ndarray]:
    """Points on planes that touch the sky of points on the sky.

    Parameters
    ----------
    ra, dec
        Degrees, of any one shape.
    ra0_rad, sin_dec0, cos_dec0
        Where the planes touch the sky, of a shape that broadcasts.

    Returns
    -------
    xi, eta
        Places on the planes, to the east and to the north, degrees; NaN for
        points that are 90 degrees or more from there.
    """
    d_ra = np.radians(np.asarray(ra, dtype=np.float64)) - ra0_rad
    dec_rad = np.radians(np.asarray(dec, dtype=np.float64))
    sin_dec, cos_dec = np.sin(dec_rad), np.cos(dec_rad)
    cos_d_ra = np.cos(d_ra)
    depth = sin_dec0 * sin_dec + cos_dec0 * cos_dec * cos_d_ra
    with np.errstate(divide="ignore", invalid="ignore"):
        depth = np.where(depth > 0, depth, np.nan)
        xi = np.degrees(cos_dec * np.sin(d_ra) / depth)
        eta = np.degrees((cos_dec0 * sin_dec - sin_dec0 * cos_dec * cos_d_ra) / depth)
    return xi, eta


def tangent_plane_to_sky(xi: Any, eta: Any, ra0: Any, dec0: Any) -> tuple[np.ndarray, np.ndarray]:
    """Points on the sky of points on planes that touch it.

    Parameters
    ----------
    xi, eta
        Places on the planes, to the east and to the north, radians.
    ra0, dec0
        Where the planes touch the sky, degrees, of a shape that broadcasts.

    Returns
    -------
    ra, dec
        Degrees, float64, of the broadcast shape; ``0 <= ra < 360``.
    """
    ra0, dec0 = np.radians(ra0), np.radians(dec0)
    forward = np.cos(dec0) - eta * np.sin(dec0)
    ra = np.degrees(ra0 + np.arctan2(xi, forward)) % 360.0
    dec = np.degrees(np.arctan2(np.sin(dec0) + eta * np.cos(dec0), np.hypot(xi, forward)))
    # What is a hair below 0 is rounded to 360 itself.
    return np.where(ra < 360.0, ra, 0.0), dec
