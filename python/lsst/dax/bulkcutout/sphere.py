# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Points on the sky as unit vectors, and corners of polygons."""

from __future__ import annotations

import numpy as np

from lsst.sphgeom import ConvexPolygon, LonLat

__all__ = ("corners_of", "sky_positions", "unit_vectors")


def unit_vectors(ra: np.ndarray | float, dec: np.ndarray | float) -> np.ndarray:
    """Points of the unit sphere.

    Parameters
    ----------
    ra, dec
        Degrees, of any one shape.

    Returns
    -------
    vectors
        Shape ``(..., 3)``.
    """
    lon, lat = np.radians(ra), np.radians(dec)
    return np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], axis=-1)


def sky_positions(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Right ascension and declination of directions.

    Parameters
    ----------
    vectors
        Shape ``(..., 3)``, of any length but 0.

    Returns
    -------
    ra, dec
        Degrees, ``ra`` from -180 to 180.
    """
    x, y, z = np.moveaxis(vectors, -1, 0)
    return np.degrees(np.arctan2(y, x)), np.degrees(np.arctan2(z, np.hypot(x, y)))


def corners_of(region: ConvexPolygon) -> tuple[np.ndarray, np.ndarray]:
    """Look up the corners of a polygon on the sky.

    Parameters
    ----------
    region
        The polygon.

    Returns
    -------
    ra, dec
        ICRS degrees, ``ra`` from 0 to 360, each of shape ``(n,)``.
    """
    corners = [LonLat(vertex) for vertex in region.getVertices()]
    return (
        np.array([corner.getLon().asDegrees() for corner in corners]),
        np.array([corner.getLat().asDegrees() for corner in corners]),
    )
