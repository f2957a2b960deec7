# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Which tract and patch a position belongs to.

Two rules (doc/which-patch.rst says why): the rings formula of the observatory
where a repository's records agree with it, and otherwise the nearest tract
centre and the patch that holds the position deepest.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from lsst.sphgeom import UnitVector3d

from .skymap import RingsSkyMap

__all__ = ("Location", "Locator", "RegionLocator", "RingsLocator", "agrees_with_records")

PROJECTION_TOLERANCE_ARCSEC = 1e-3
"""Largest distance between the formula's patch corners and the recorded ones.
The records of real repositories agree to 4e-10 arcsec."""


@dataclasses.dataclass(frozen=True)
class Location:
    """Where positions are on the sky map; arrays of shape ``(n,)``."""

    tract: np.ndarray
    """Tract identifiers, -1 outside the map."""

    patch: np.ndarray
    """Patch identifiers, -1 outside the map and in tracts that have no
    images at all."""

    x: np.ndarray
    """Zero-based tract pixels, NaN where the rule does not tell."""

    y: np.ndarray
    """Zero-based tract pixels, NaN where the rule does not tell."""


class Locator(Protocol):
    """A rule that gives a patch to each position."""

    def locate(self, ra: np.ndarray, dec: np.ndarray) -> Location:
        """Find the patch of each position.

        Parameters
        ----------
        ra, dec
            ICRS degrees.
        """

    def check(self, tract: np.ndarray, patch: np.ndarray, ra: np.ndarray, dec: np.ndarray) -> Location:
        """Locate positions in patches that are given.

        Parameters
        ----------
        tract, patch
            Where they should be.
        ra, dec
            ICRS degrees.
        """


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
        self._covered = np.array(sorted(covered), dtype=np.int64)

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
        tract = self._skymap.find_tract(ra, dec)
        x, y = self._pixels(np.where(np.isin(tract, self._covered), tract, -1), ra, dec)
        return Location(tract, self._skymap.find_patch(x, y), x, y)

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
        x, y = self._pixels(np.where(known, tract, -1), ra, dec)
        boxes = {p: skymap.patch_outer_box(p) for p in np.unique(patch[known]).tolist()}
        corners = np.array([[b.y0, b.y1, b.x0, b.x1] for b in boxes.values()]).reshape(-1, 4) - 0.5
        y0, y1, x0, x1 = _take(corners, np.searchsorted(list(boxes), patch), known).T
        with np.errstate(invalid="ignore"):
            held = known & (y >= y0) & (y < y1) & (x >= x0) & (x < x1)
        covered = held & np.isin(tract, self._covered)
        return Location(np.where(held, tract, -1), np.where(covered, patch, -1), x, y)

    def _pixels(self, tract: np.ndarray, ra: np.ndarray, dec: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        x, y = np.full(len(tract), np.nan), np.full(len(tract), np.nan)
        for here, members in _groups(tract):
            x[members], y[members] = self._skymap.wcs(here).sky_to_pixel(ra[members], dec[members])
        return x, y


class RegionLocator:
    """The rule for maps without a formula: by the recorded regions.

    The nearest tract centre, then the patch whose region holds the position
    deepest.

    Parameters
    ----------
    tract_regions
        Outer region of each tract of the map, a convex polygon.
    patch_regions
        Gives the outer regions of the patches of a tract, by patch.
    covered
        Tracts that have images; no time is spent on the others.
    """

    def __init__(
        self,
        tract_regions: Mapping[int, Any],
        patch_regions: Callable[[int], Mapping[int, Any]],
        covered: Iterable[int],
    ) -> None:
        self._covered = np.array(sorted(covered), dtype=np.int64)
        self._tracts = np.array(sorted(tract_regions), dtype=np.int64)
        centers = [tract_regions[tract].getCentroid() for tract in self._tracts.tolist()]
        self._centers = np.array([_vector(center) for center in centers]).reshape(-1, 3)
        self._patch_regions = patch_regions
        self._patches: dict[int, tuple[np.ndarray, np.ndarray]] = {}

    def locate(self, ra: np.ndarray, dec: np.ndarray) -> Location:
        """Find the patch of each position.

        Parameters
        ----------
        ra, dec
            ICRS degrees, shape ``(n,)``.

        Returns
        -------
        location
            Tracts and patches; no pixels.
        """
        positions = _unit_vectors(ra, dec)
        tract = np.full(len(ra), -1, dtype=np.int64)
        patch = np.full(len(ra), -1, dtype=np.int64)
        if len(self._tracts):
            block = max(1, 4_000_000 // len(self._tracts))
            for start in range(0, len(ra), block):
                nearest = np.argmax(positions[start : start + block] @ self._centers.T, axis=1)
                tract[start : start + block] = self._tracts[nearest]
        uncovered = ~np.isin(tract, self._covered)
        for here, members in _groups(np.where(uncovered, -1, tract)):
            identifiers, depths = self._depths(here, positions[members])
            if len(identifiers):
                deepest = np.argmax(depths, axis=1)
                inside = depths[np.arange(len(deepest)), deepest] >= 0
                patch[members] = np.where(inside, identifiers[deepest], -1)
        return self._without_pixels(np.where((patch >= 0) | uncovered, tract, -1), patch)

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
            Tracts and patches, -1 where the region of the given patch does
            not hold the position; no pixels.
        """
        positions = _unit_vectors(ra, dec)
        held = np.zeros(len(ra), dtype=bool)
        for here, members in _groups(tract):
            identifiers, depths = self._depths(here, positions[members])
            for column, identifier in enumerate(identifiers.tolist()):
                held[members] |= (patch[members] == identifier) & (depths[:, column] >= 0)
        covered = held & np.isin(tract, self._covered)
        return self._without_pixels(np.where(held, tract, -1), np.where(covered, patch, -1))

    def _depths(self, tract: int, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Patches of a tract, and how deep each position lies in each: the
        sine of the distance to the nearest edge, shape ``(n, n_patches)``.
        """
        if tract not in self._patches:
            regions = dict(sorted(self._patch_regions(tract).items()))
            normals = [_edge_normals(region) for region in regions.values()]
            most = max((len(n) for n in normals), default=0)
            # A repeated edge changes no minimum.
            padded = [np.concatenate([n, np.repeat(n[-1:], most - len(n), axis=0)]) for n in normals]
            self._patches[tract] = (np.array(list(regions), dtype=np.int64), np.array(padded))
        identifiers, edges = self._patches[tract]
        if not len(identifiers):
            return identifiers, np.zeros((len(positions), 0))
        return identifiers, np.einsum("nk,pek->npe", positions, edges).min(axis=2)

    @staticmethod
    def _without_pixels(tract: np.ndarray, patch: np.ndarray) -> Location:
        nowhere = np.full(len(tract), np.nan)
        return Location(tract, patch, nowhere, nowhere)


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
        expected = _unit_vectors(*skymap.wcs(tract).pixel_to_sky(x, y))
        recorded = np.array([_vector(vertex) for vertex in region.getVertices()])
        distance = np.linalg.norm(recorded[:, None, :] - expected[None, :, :], axis=2).min(axis=1)
        if len(recorded) != 4 or np.degrees(distance.max()) * 3600 > PROJECTION_TOLERANCE_ARCSEC:
            return False
    return True


def _groups(keys: np.ndarray) -> Sequence[tuple[int, np.ndarray]]:
    """The distinct non-negative keys and the places where each stands."""
    order = np.argsort(keys, kind="stable")
    values, starts = np.unique(keys[order], return_index=True)
    members = np.split(order, starts[1:])
    return [(int(v), m) for v, m in zip(values, members, strict=False) if v >= 0]


def _take(table: np.ndarray, index: np.ndarray, known: np.ndarray) -> np.ndarray:
    rows = np.full((len(index), table.shape[1]), np.nan)
    rows[known] = table[index[known]]
    return rows


def _unit_vectors(ra: np.ndarray, dec: np.ndarray) -> np.ndarray:
    lon, lat = np.radians(ra), np.radians(dec)
    return np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], axis=-1)


def _vector(point: UnitVector3d) -> list[float]:
    return [point.x(), point.y(), point.z()]


def _edge_normals(region: Any) -> np.ndarray:
    """Inward unit normals of a convex polygon's edges, shape ``(n, 3)``."""
    vertices = np.array([_vector(vertex) for vertex in region.getVertices()])
    normals = np.cross(vertices, np.roll(vertices, -1, axis=0))
    return np.asarray(normals / np.linalg.norm(normals, axis=1, keepdims=True))
