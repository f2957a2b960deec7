# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Which tract and patch a position belongs to.

Two rules (doc/which-patch.rst says why): the rings formula of the observatory
where a repository's records agree with it, here, and otherwise the recorded
regions, in `region_locator`.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from lsst.sphgeom import UnitVector3d

from ..sphere import unit_vectors
from .rings import RingsSkyMap

__all__ = (
    "Covering",
    "Location",
    "Locator",
    "RingsLocator",
    "agrees_with_records",
    "groups_of",
    "vector",
)

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


@dataclasses.dataclass(frozen=True)
class Covering:
    """Which patches hold which positions; arrays of shape ``(k,)``.

    There is an entry for each pair.
    """

    member: np.ndarray
    """Place of the position among those that were asked for."""

    tract: np.ndarray
    """Tract identifiers, only of tracts that have images."""

    patch: np.ndarray
    """Patch identifiers; whether the patch itself has an image is another
    matter."""

    x: np.ndarray
    """Zero-based pixels of that tract, NaN where the rule does not tell."""

    y: np.ndarray
    """Zero-based pixels of that tract, NaN where the rule does not tell."""

    depth: np.ndarray
    """Distance to the nearest edge of the patch's image, rounded to less than
    can matter, so that ties are the same on every machine.  Comparable within
    one map alone."""

    @classmethod
    def joined(cls, parts: Sequence[Covering]) -> Covering:
        """Join several.

        Parameters
        ----------
        parts
            Any number of them.

        Returns
        -------
        covering
            One after the other.
        """
        empty = cls(*(np.zeros(0, dtype=kind) for kind in ("i8", "i8", "i8", "f8", "f8", "f8")))
        names = [field.name for field in dataclasses.fields(cls)]
        return cls(*(np.concatenate([getattr(part, name) for part in (empty, *parts)]) for name in names))


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

    def covering(self, ra: np.ndarray, dec: np.ndarray) -> Covering:
        """Find all patches whose image area holds each position.

        Parameters
        ----------
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
        self._neighbours: dict[int, list[int]] = {}

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
        for home, members in groups_of(self._skymap.find_tract(ra, dec)):
            for tract in self._near(home):
                x, y = self._skymap.wcs(tract).sky_to_pixel(ra[members], dec[members])
                index, patch, depth = self._skymap.patches_holding(x, y)
                parts.append(
                    Covering(
                        member=members[index],
                        tract=np.full(len(index), tract),
                        patch=patch,
                        x=x[index],
                        y=y[index],
                        depth=np.round(depth, 6),
                    )
                )
        return Covering.joined(parts)

    def _near(self, home: int) -> list[int]:
        """Tracts with images that can hold a position whose own tract is
        ``home``, ascending.
        """
        if home not in self._neighbours:
            # A position is within a tract's radius of its own tract's centre,
            # and of that of any other that holds it.
            reach = 2.0 * self._skymap.tract_radius
            center = unit_vectors(*np.array([self._skymap.tract_center(home)]).T)[0]
            near = self._covered_centers @ center >= np.cos(min(reach, np.pi))
            self._neighbours[home] = self._covered[near].tolist()
        return self._neighbours[home]

    @functools.cached_property
    def _covered_centers(self) -> np.ndarray:
        centers = [self._skymap.tract_center(tract) for tract in self._covered.tolist()]
        return unit_vectors(*np.array(centers).reshape(-1, 2).T)

    def _pixels(self, tract: np.ndarray, ra: np.ndarray, dec: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        x, y = np.full(len(tract), np.nan), np.full(len(tract), np.nan)
        for here, members in groups_of(tract):
            x[members], y[members] = self._skymap.wcs(here).sky_to_pixel(ra[members], dec[members])
        return x, y


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


def groups_of(keys: np.ndarray) -> Sequence[tuple[int, np.ndarray]]:
    """Sort places by key.

    Parameters
    ----------
    keys
        Whole numbers, shape ``(n,)``.

    Returns
    -------
    groups
        The distinct keys that are not negative, and the places of each.
    """
    order = np.argsort(keys, kind="stable")
    values, starts = np.unique(keys[order], return_index=True)
    members = np.split(order, starts[1:])
    return [(int(v), m) for v, m in zip(values, members, strict=False) if v >= 0]


def _take(table: np.ndarray, index: np.ndarray, known: np.ndarray) -> np.ndarray:
    rows = np.full((len(index), table.shape[1]), np.nan)
    rows[known] = table[index[known]]
    return rows


def vector(point: UnitVector3d) -> list[float]:
    """Components of a point.

    Parameters
    ----------
    point
        A point of the unit sphere.

    Returns
    -------
    components
        Three of them.
    """
    return [point.x(), point.y(), point.z()]
