# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Which tract and patch a position belongs to: what a rule for it tells.

There are two (doc/which-patch.rst says why): the rings formula of the
observatory where a repository's records agree with it, in `rings_locator`, and
otherwise the recorded regions, in `region_locator`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from lsst.sphgeom import UnitVector3d

__all__ = ("Covering", "Location", "Locator", "groups_of", "vector")


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
