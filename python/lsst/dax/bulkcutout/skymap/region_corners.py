# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Corners of the regions that a repository has on record."""

from __future__ import annotations

import numpy as np

from lsst.sphgeom import ConvexPolygon, LonLat

__all__ = ("corners_of",)


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
