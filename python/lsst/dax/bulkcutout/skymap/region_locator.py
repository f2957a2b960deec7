# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Which tract and patch a position belongs to, by recorded regions: the rule
for maps without a formula.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from lsst.sphgeom import ConvexPolygon

from ..errors import UserError
from ..sphere import unit_vectors
from .locate import Covering, Location, groups_of, vector

__all__ = ("RegionLocator",)

BORDER = 1e-12
"""Sine of the distance (0.2 microarcseconds) by which a position may lie
outside a region and still be held: what is on a border is in."""

REACH = 2.0
"""A tract is looked at for positions up to so many times the radius of its
region: the images of its patches may go beyond it, but not as far as that."""

BLOCK = 4_000_000
"""Numbers that are worked out at a time."""


class RegionLocator:
    """The rule for maps without a formula: by the recorded regions.

    Of the tracts with a patch that holds the position, the one with the
    nearest centre; in it the patch whose region holds the position deepest,
    and of patches that hold it equally deep the first.

    Parameters
    ----------
    tract_regions
        Outer region of each tract of the map, a convex polygon.
    patch_regions
        Gives the outer regions of the patches of some tracts, by tract and
        patch.
    covered
        Tracts that have images; little time is spent on the others.
    """

    def __init__(
        self,
        tract_regions: Mapping[int, Any],
        patch_regions: Callable[[Sequence[int]], Mapping[tuple[int, int], Any]],
        covered: Iterable[int],
    ) -> None:
        self._tracts = np.array(sorted(tract_regions), dtype=np.int64)
        self._covered = np.array(sorted(covered), dtype=np.int64)
        self._is_covered = np.isin(self._tracts, self._covered)
        centers, reach = [], []
        for tract in self._tracts.tolist():
            corners, center = (
                _corners(tract_regions[tract], f"tract {tract}"),
                tract_regions[tract].getCentroid(),
            )
            centers.append(vector(center))
            reach.append(REACH * np.arccos(np.clip(corners @ centers[-1], -1.0, 1.0)).max())
        self._centers = np.array(centers).reshape(-1, 3)
        self._reach_cosine = np.cos(np.minimum(reach, np.pi))
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
            Tracts and patches; no pixels.  The tract is -1 where no patch of
            it or of a neighbour holds the position.
        """
        positions = unit_vectors(ra, dec)
        tract = np.full(len(ra), -1, dtype=np.int64)
        for part in self._blocks(len(ra)):
            tract[part] = self._tracts[np.argmax(positions[part] @ self._centers.T, axis=1)]
        uncovered = ~np.isin(tract, self._covered)
        patch, held = self._deepest(np.where(uncovered, -1, tract), positions)
        # For nearly all positions that was it.
        hard = np.flatnonzero(~held)
        tract[hard[~uncovered[hard]]] = -1
        for part in self._blocks(len(hard)):
            self._locate_hard(hard[part], positions, tract, patch)
        return self._without_pixels(tract, patch)

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
        positions = unit_vectors(ra, dec)
        held = np.zeros(len(ra), dtype=bool)
        for members, identifiers, depths in self._depths(tract, positions):
            column = np.minimum(np.searchsorted(identifiers, patch[members]), len(identifiers) - 1)
            depth = depths[np.arange(len(members)), column]
            held[members] = (identifiers[column] == patch[members]) & (depth >= -BORDER)
        covered = held & np.isin(tract, self._covered)
        return self._without_pixels(np.where(held, tract, -1), np.where(covered, patch, -1))

    def covering(self, ra: np.ndarray, dec: np.ndarray) -> Covering:
        """Find all patches whose region holds each position.

        Parameters
        ----------
        ra, dec
            ICRS degrees, shape ``(n,)``.

        Returns
        -------
        covering
            Patches of tracts that have images; no pixels.  Depths are the
            sines of distances.
        """
        positions = unit_vectors(ra, dec)
        parts = []
        for part in self._blocks(len(ra)):
            near = (positions[part] @ self._centers.T >= self._reach_cosine) & self._is_covered
            members, tracts = np.nonzero(near)
            members += part.start
            for pairs, identifiers, depths in self._depths(self._tracts[tracts], positions[members]):
                index, column = np.nonzero(depths >= -BORDER)
                nowhere = np.full(len(index), np.nan)
                parts.append(
                    Covering(
                        member=members[pairs[index]],
                        tract=self._tracts[tracts[pairs[index]]],
                        patch=identifiers[column],
                        x=nowhere,
                        y=nowhere,
                        depth=np.round(depths[index, column], 12),
                    )
                )
        return Covering.joined(parts)

    def _locate_hard(
        self, index: np.ndarray, positions: np.ndarray, tract: np.ndarray, patch: np.ndarray
    ) -> None:
        """Go from tract to tract, the nearest first, where no patch of the
        nearest holds the position, or it has no images.
        """
        cosines = positions[index] @ self._centers.T
        near = cosines >= self._reach_cosine
        # Far from all images it does not matter whose patch it would be.
        wanted = (near & self._is_covered).any(axis=1)
        index, cosines, near = index[wanted], cosines[wanted], near[wanted]
        order = np.argsort(np.where(near, -cosines, 9.0), axis=1, kind="stable")
        left = np.arange(len(index))
        for column in range(near.sum(axis=1).max(initial=0)):
            left = left[near[left, order[left, column]]]
            candidate = self._tracts[order[left, column]]
            found, held = self._deepest(candidate, positions[index[left]])
            here = index[left[held]]
            tract[here] = candidate[held]
            patch[here] = np.where(np.isin(candidate[held], self._covered), found[held], -1)
            left = left[~held]

    def _deepest(self, tract: np.ndarray, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The deepest patch of each position in its tract, and whether there
        is one that holds it; tract -1 has none.
        """
        patch = np.full(len(tract), -1, dtype=np.int64)
        for members, identifiers, depths in self._depths(tract, positions):
            deepest = np.argmax(np.round(depths, 12), axis=1)
            inside = depths[np.arange(len(deepest)), deepest] >= -BORDER
            patch[members] = np.where(inside, identifiers[deepest], -1)
        return patch, patch >= 0

    def _depths(
        self, tract: np.ndarray, positions: np.ndarray
    ) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """How deep positions lie in the patches of their tracts.

        Yields places of positions, ``(n,)``, patch identifiers, ``(p,)``, and
        sines of the distance to the nearest edge, ``(n, p)``.
        """
        groups = groups_of(tract)
        self._load([here for here, _ in groups])
        for here, members in groups:
            identifiers, edges = self._patches[here]
            if not len(identifiers):
                continue
            step = max(1, BLOCK // (edges.shape[0] * edges.shape[1]))
            flat = edges.reshape(-1, 3).T
            for start in range(0, len(members), step):
                part = members[start : start + step]
                sines = (positions[part] @ flat).reshape(len(part), *edges.shape[:2])
                yield part, identifiers, sines.min(axis=2)

    def _load(self, tracts: Sequence[int]) -> None:
        """Get the patches of tracts: identifiers, and edges as their inward
        normals, shape ``(n_patches, n_edges, 3)``.
        """
        missing = [tract for tract in tracts if tract not in self._patches]
        if not missing:
            return
        found: dict[int, list[tuple[int, np.ndarray]]] = {tract: [] for tract in missing}
        for (tract, patch), region in sorted(self._patch_regions(missing).items()):
            found[tract].append((patch, _edge_normals(region, f"patch {patch} of tract {tract}")))
        for tract, patches in found.items():
            most = max((len(normals) for _, normals in patches), default=0)
            # A repeated edge changes no minimum.
            padded = [np.concatenate([n, np.repeat(n[-1:], most - len(n), axis=0)]) for _, n in patches]
            identifiers = np.array([patch for patch, _ in patches], dtype=np.int64)
            self._patches[tract] = (identifiers, np.array(padded))

    def _blocks(self, n: int) -> Iterator[slice]:
        """Ranges of positions that can be compared with all tracts."""
        step = max(1, BLOCK // max(1, len(self._tracts)))
        for start in range(0, n if len(self._tracts) else 0, step):
            yield slice(start, min(n, start + step))

    @staticmethod
    def _without_pixels(tract: np.ndarray, patch: np.ndarray) -> Location:
        nowhere = np.full(len(tract), np.nan)
        return Location(tract, patch, nowhere, nowhere)


def _corners(region: Any, what: str) -> np.ndarray:
    """Corners of a convex polygon, shape ``(n, 3)``."""
    if not isinstance(region, ConvexPolygon):
        raise UserError(
            f"The repository's region of {what} is a {type(region).__name__}; positions are found in convex "
            "polygons alone. Ask those who made the sky map to register polygons."
        )
    return np.array([vector(vertex) for vertex in region.getVertices()])


def _edge_normals(region: Any, what: str) -> np.ndarray:
    """Inward unit normals of a convex polygon's edges, shape ``(n, 3)``."""
    vertices = _corners(region, what)
    normals = np.cross(vertices, np.roll(vertices, -1, axis=0))
    return np.asarray(normals / np.linalg.norm(normals, axis=1, keepdims=True))
