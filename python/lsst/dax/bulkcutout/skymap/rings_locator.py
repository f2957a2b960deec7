# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Which tract and patch a position belongs to, by the rings formula: the rule
for the observatory's maps.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from ..sphere import unit_vectors
from .locate import Covering, Location, vector
from .rings import RingsSkyMap
from .tract_planes import BLOCK_ROWS, TractPlanes

__all__ = ("RingsLocator", "agrees_with_records")

PROJECTION_TOLERANCE_ARCSEC = 1e-3
"""Largest distance between the formula's patch corners and the recorded ones.
The records of real repositories agree to 4e-10 arcsec."""

LARGEST_TABLE = 4_000_000
"""Pairs of tracts that are compared at a time."""

_UNKNOWN, _NO, _YES = -1, 0, 1


class RingsLocator:
    """The observatory's own rule: ``findTract``, then the inner patch.

    Parameters
    ----------
    skymap
        The rings map.
    covered
        Tracts that have images; no time is spent on the others.
    """

    def __init__(self, skymap: RingsSkyMap, covered: Iterable[int]) -> None:
        self._skymap = skymap
        self._planes = TractPlanes(skymap)
        self._covered = np.array(sorted(covered), dtype=np.int64)
        self._is_covered = np.zeros(skymap.n_tracts, dtype=bool)
        self._is_covered[self._covered] = True
        self._near: dict[int, np.ndarray] = {}
        self._has_near = np.full(skymap.n_tracts, _UNKNOWN, dtype=np.int8)

    def locate(self, ra: np.ndarray, dec: np.ndarray) -> Location:
        """Find the patch of each position.

        Parameters
        ----------
        ra, dec
            ICRS degrees, shape ``(n,)``.

        Returns
        -------
        location
            Tracts, patches and pixels.
        """
        place = Location(*(np.empty(len(ra), dtype=kind) for kind in ("i8", "i8", "f8", "f8")))
        for start in range(0, len(ra), BLOCK_ROWS):
            block = slice(start, start + BLOCK_ROWS)
            tract = self._skymap.find_tract(ra[block], dec[block])
            covered = np.where(self._is_covered[tract], tract, -1)
            x, y = self._planes.sky_to_pixel(covered, ra[block], dec[block])
            place.tract[block], place.x[block], place.y[block] = tract, x, y
            place.patch[block] = self._skymap.find_patch(x, y)
        return place

    def check(self, tract: np.ndarray, patch: np.ndarray, ra: np.ndarray, dec: np.ndarray) -> Location:
        """Locate positions in patches that are given.

        Parameters
        ----------
        tract, patch
            What the catalog says, shape ``(n,)``.
        ra, dec
            ICRS degrees, shape ``(n,)``.

        Returns
        -------
        location
            Tracts, patches and pixels; -1 where the image of the given patch
            does not hold the position.
        """
        skymap = self._skymap
        known = (tract >= 0) & (tract < skymap.n_tracts) & (patch >= 0) & (patch < skymap.n_patches**2)
        x, y = self._planes.sky_to_pixel(np.where(known, tract, -1), ra, dec)
        y0, y1, x0, x1 = skymap.patch_edges[np.where(known, patch, 0)].T
        with np.errstate(invalid="ignore"):
            held = known & (y >= y0) & (y < y1) & (x >= x0) & (x < x1)
        covered = held & self._is_covered[np.where(known, tract, 0)]
        return Location(np.where(held, tract, -1), np.where(covered, patch, -1), x, y)

    def covering(self, ra: np.ndarray, dec: np.ndarray) -> Covering:
        """Find all patches whose image area holds each position.

        Parameters
        ----------
        ra, dec
            ICRS degrees, shape ``(n,)``.

        Returns
        -------
        covering
            Patches of tracts that have images; depths in pixels.
        """
        parts = []
        for start in range(0, len(ra), BLOCK_ROWS):
            block = slice(start, start + BLOCK_ROWS)
            member, tract = self._pairs(self._skymap.find_tract(ra[block], dec[block]))
            member += start
            x, y = self._planes.sky_to_pixel(tract, ra[member], dec[member])
            index, patch, depth = self._skymap.patches_holding(x, y)
            parts.append(Covering(member[index], tract[index], patch, x[index], y[index], np.round(depth, 6)))
        return Covering.joined(parts)

    def _pairs(self, home: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Places of positions, and tracts with images that can hold them, for
        each pair of both; ``home`` are the positions' own tracts.
        """
        if len(unknown := np.unique(home[self._has_near[home] == _UNKNOWN])):
            self._look_around(unknown)
        # On most of the sky that is none.
        member = np.flatnonzero(self._has_near[home] == _YES)
        homes, place = np.unique(home[member], return_inverse=True)
        near = [self._near[each] for each in homes.tolist()]
        lengths = np.array([len(tracts) for tracts in near], dtype=np.int64)
        n = lengths[place]
        ends = np.cumsum(n)
        inside = np.arange(int(n.sum())) - np.repeat(ends - n, n)
        begin = np.cumsum(lengths) - lengths
        tracts = np.concatenate([np.zeros(0, dtype=np.int64), *near])
        return np.repeat(member, n), tracts[np.repeat(begin[place], n) + inside]

    def _look_around(self, homes: np.ndarray) -> None:
        """Find the tracts with images that can hold a position whose own
        tract is one of ``homes``.
        """
        # A position is within a tract's radius of its own tract's centre, and
        # of that of any other that holds it.
        reach = np.cos(min(2.0 * self._skymap.tract_radius, np.pi))
        step = max(1, LARGEST_TABLE // max(1, len(self._covered)))
        for start in range(0, len(homes), step):
            some = homes[start : start + step]
            near = self._centers(some) @ self._covered_centers.T >= reach
            has_near = near.any(axis=1)
            self._has_near[some] = np.where(has_near, _YES, _NO)
            for place in np.flatnonzero(has_near).tolist():
                self._near[int(some[place])] = self._covered[near[place]]

    @functools.cached_property
    def _covered_centers(self) -> np.ndarray:
        return self._centers(self._covered)

    def _centers(self, tracts: np.ndarray) -> np.ndarray:
        return unit_vectors(*self._skymap.tract_centers(tracts))


def agrees_with_records(skymap: RingsSkyMap, patch_regions: Mapping[tuple[int, int], Any]) -> bool:
    """Tell whether a rings formula reproduces a repository's patch records.

    Parameters
    ----------
    skymap
        The formula.
    patch_regions
        Outer regions of patches, by tract and patch.

    Returns
    -------
    agrees
        Whether every corner is where the formula puts it.
    """
    n_patches = skymap.n_patches**2
    for tract, patch in patch_regions:
        if not (0 <= tract < skymap.n_tracts and 0 <= patch < n_patches):
            return False
    for (tract, patch), region in patch_regions.items():
        box = skymap.patch_outer_box(patch)
        x = np.array([box.x0, box.x1, box.x1, box.x0]) - 0.5
        y = np.array([box.y0, box.y0, box.y1, box.y1]) - 0.5
        expected = unit_vectors(*skymap.wcs(tract).pixel_to_sky(x, y))
        recorded = np.array([vector(vertex) for vertex in region.getVertices()])
        distance = np.linalg.norm(recorded[:, None, :] - expected[None, :, :], axis=2).min(axis=1)
        if len(recorded) != 4 or np.degrees(distance.max()) * 3600 > PROJECTION_TOLERANCE_ARCSEC:
            return False
    return True
