# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""The projections of all tracts of a rings map, for positions of many tracts
at once: a catalog is in no order.
"""

from __future__ import annotations

import math

import numpy as np

from ..wcs import sky_to_tangent_plane
from .rings import RingsSkyMap

__all__ = ("BLOCK_ROWS", "TractPlanes")

BLOCK_ROWS = 16_384
"""Positions that are worked on together: what is in between stays in the
cache of a core."""


class TractPlanes:
    """Tangent planes of the tracts of a rings map.

    They differ in their tangent points alone.

    Parameters
    ----------
    skymap
        The rings map.
    """

    def __init__(self, skymap: RingsSkyMap) -> None:
        self._skymap = skymap
        self._linear = skymap.wcs(0)
        # Only of tracts that were asked for: maps of small tracts have
        # millions of them.
        self._number = np.full(skymap.n_tracts, -1, dtype=np.int32)
        self._terms = np.zeros((3, 0))

    def sky_to_pixel(
        self, tract: np.ndarray, ra: np.ndarray, dec: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Pixel positions of points on the sky.

        Parameters
        ----------
        tract
            Tract in whose pixels each is wanted, shape ``(n,)``; -1 for none.
        ra, dec
            ICRS degrees, shape ``(n,)``.

        Returns
        -------
        x, y
            Zero-based tract pixels; NaN for tract -1, and for points that the
            projection does not reach.  The very numbers of
            `~lsst.dax.bulkcutout.wcs.TangentWcs.sky_to_pixel`.
        """
        x, y = np.full(len(tract), np.nan), np.full(len(tract), np.nan)
        for start in range(0, len(tract), BLOCK_ROWS):
            block = slice(start, start + BLOCK_ROWS)
            here = tract[block]
            if here.min() >= 0:
                x[block], y[block] = self._project(here, ra[block], dec[block])
            elif len(members := start + np.flatnonzero(here >= 0)):
                x[members], y[members] = self._project(tract[members], ra[members], dec[members])
        return x, y

    def _project(self, tract: np.ndarray, ra: np.ndarray, dec: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        number = self._number[tract]
        if number.min() < 0:
            self._learn(np.unique(tract[number < 0]))
            number = self._number[tract]
        return self._linear.plane_to_pixel(*sky_to_tangent_plane(ra, dec, *self._terms[:, number]))

    def _learn(self, tracts: np.ndarray) -> None:
        self._number[tracts] = np.arange(len(tracts)) + self._terms.shape[1]
        ra0, dec0 = np.radians(self._skymap.tract_centers(tracts))
        terms = [ra0, *([function(each) for each in dec0.tolist()] for function in (math.sin, math.cos))]
        self._terms = np.concatenate([self._terms, np.array(terms)], axis=1)
