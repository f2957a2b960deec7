# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""The rings sky map: which tract and patch an observatory gives a position.

The formulae are those of ``lsst.skymap.RingsSkyMap`` (version 1) and of its
tract builders.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from typing import Any

import numpy as np

from ..boxes import Box
from ..wcs import TangentWcs

__all__ = ("KNOWN_SKYMAPS", "RingsSkyMap")


@dataclasses.dataclass(frozen=True)
class RingsSkyMap:
    """A sky map whose tracts stand in rings of equal declination.

    Tract 0 is the southern cap; tracts are numbered ring by ring from the
    south and eastward within a ring; the last one is the northern cap.
    """

    name: str
    """Name of the map in Butler repositories."""

    num_rings: int
    """Number of rings, without the two caps."""

    pixel_scale_arcsec: float
    """Pixel size at the tangent point of each tract."""

    tract_overlap_deg: float
    """Minimum overlap of neighbouring tracts."""

    patch_inner: int
    """Side of the inner region of a patch, pixels; inner regions tile the
    tract."""

    patch_border: int
    """Pixels by which a patch's image exceeds the inner region on each
    side."""

    clip: bool = False
    """Whether patch images end at the edge of the tract (the ``legacy`` tract
    builder) or go beyond (the ``cells`` builder)."""

    ra_start_deg: float = 0.0
    """Right ascension of the first tract of each ring."""

    @property
    def n_tracts(self) -> int:
        """Number of tracts on the whole sky."""
        return int(self._ring_first_tract[-1]) + 1

    @property
    def n_patches(self) -> int:
        """Number of patches along a side of a tract."""
        return self._tract_geometry[0]

    def find_tract(self, ra: Any, dec: Any) -> np.ndarray:
        """The tract of each position, as ``RingsSkyMap.findTract`` says.

        Parameters
        ----------
        ra, dec
            ICRS degrees.

        Returns
        -------
        tract
            Tract identifiers, int64.
        """
        ra_rad = np.radians(np.asarray(ra, dtype=np.float64) - self.ra_start_deg)
        # The remainder is slow, and nearly always the number itself.
        if not ((ra_rad >= 0) & (ra_rad < 2 * np.pi)).all():
            ra_rad = ra_rad % (2 * np.pi)
        dec_rad = np.radians(np.asarray(dec, dtype=np.float64))
        step = self._ring_step
        ring = np.floor((dec_rad + np.pi / 2) / step - 0.5).astype(np.int64)
        inside = np.clip(ring, 0, self.num_rings - 1)
        position = np.floor(ra_rad / self._tract_width[inside] + 0.5).astype(np.int64)
        position = np.where(position >= self._tracts_in_ring[inside], 0, position)
        tract = self._ring_first_tract[inside] + position
        tract = np.where(dec_rad < -np.pi / 2 + step / 2, 0, tract)
        return np.where(dec_rad > np.pi / 2 - step / 2, self.n_tracts - 1, tract)

    def tract_center(self, tract: int) -> tuple[float, float]:
        """Centre of a tract.

        Parameters
        ----------
        tract
            Tract identifier.

        Returns
        -------
        ra, dec
            ICRS degrees.

        Raises
        ------
        ValueError
            Raised if the map has no such tract.
        """
        if not 0 <= tract < self.n_tracts:
            raise ValueError(f"Sky map {self.name} has no tract {tract}: 0 to {self.n_tracts - 1} exist.")
        ra, dec = self.tract_centers(np.array([tract]))
        return float(ra[0]), float(dec[0])

    def tract_centers(self, tracts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Centres of tracts.

        Parameters
        ----------
        tracts
            Tract identifiers of the map, shape ``(n,)``.

        Returns
        -------
        ra, dec
            ICRS degrees, shape ``(n,)``.
        """
        ring = np.clip(
            np.searchsorted(self._ring_first_tract, tracts, side="right") - 1, 0, self.num_rings - 1
        )
        position = tracts - self._ring_first_tract[ring]
        dec = np.degrees(self._ring_step * (ring + 1) - np.pi / 2)
        ra = (360.0 * position / self._tracts_in_ring[ring] + self.ra_start_deg) % 360.0
        is_cap = (tracts == 0) | (tracts == self.n_tracts - 1)
        return np.where(is_cap, 0.0, ra), np.where(is_cap, np.where(tracts == 0, -90.0, 90.0), dec)

    def wcs(self, tract: int) -> TangentWcs:
        """Projection of a tract; pixel (0, 0) is the corner of patch 0.

        Parameters
        ----------
        tract
            Tract identifier.

        Returns
        -------
        wcs
            Projection in tract pixels.
        """
        scale = self.pixel_scale_arcsec / 3600.0
        center = float(self._tract_geometry[1])
        return TangentWcs(
            crval=self.tract_center(tract), crpix=(center, center), cd=((-scale, 0.0), (0.0, scale))
        )

    def find_patch(self, x: Any, y: Any) -> np.ndarray:
        """The patch whose inner region holds each pixel position.

        Parameters
        ----------
        x, y
            Zero-based tract pixels.

        Returns
        -------
        patch
            Patch identifiers, int64; -1 outside the tract.
        """
        with np.errstate(invalid="ignore"):
            column = np.floor(np.floor(np.asarray(x) + 0.5) / self.patch_inner)
            row = np.floor(np.floor(np.asarray(y) + 0.5) / self.patch_inner)
            n = self.n_patches
            inside = (column >= 0) & (column < n) & (row >= 0) & (row < n)
            return np.where(inside, row * n + column, -1).astype(np.int64)

    def patches_holding(self, x: Any, y: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """All patches whose image area holds each pixel position.

        Parameters
        ----------
        x, y
            Zero-based tract pixels, shape ``(n,)``; NaN is in no patch.

        Returns
        -------
        index
            Places of the positions, shape ``(k,)``: an entry for each pair of
            a position and a patch that holds it.
        patch
            Patch identifiers, shape ``(k,)``.
        depth
            Distance to the nearest edge of the image, pixels, shape ``(k,)``.
        """
        places = [np.asarray(values, dtype=np.float64) for values in (y, x)]
        found = []
        n, reach = self.n_patches, -(-self.patch_border // self.patch_inner)
        # Positions that are asked about are often far off.
        low, high = -reach * self.patch_inner - 1, (n + reach) * self.patch_inner
        with np.errstate(invalid="ignore"):
            near = np.flatnonzero(
                (places[0] > low) & (places[0] < high) & (places[1] > low) & (places[1] < high)
            )
        places = [place[near] for place in places]
        steps = range(-reach, reach + 1)
        with np.errstate(invalid="ignore"):
            rows, columns = ([self._strip(place, step) for step in steps] for place in places)
            for (row, depth_y), (column, depth_x) in itertools.product(rows, columns):
                index = np.flatnonzero((depth_y >= 0) & (depth_x >= 0))
                depth = np.minimum(depth_y[index], depth_x[index])
                found.append((index, (row[index] * n + column[index]).astype(np.int64), depth))
        index, patch, depth = (np.concatenate(values) for values in zip(*found, strict=True))
        return near[index], patch, depth

    def patch_inner_box(self, patch: int) -> Box:
        """Pixels that belong to one patch alone.

        Parameters
        ----------
        patch
            Patch identifier.

        Returns
        -------
        box
            Tract pixels.
        """
        if not 0 <= patch < self.n_patches**2:
            raise ValueError(f"Sky map {self.name} has no patch {patch}: 0 to {self.n_patches**2 - 1} exist.")
        row, column = divmod(patch, self.n_patches)
        side = self.patch_inner
        return Box(y0=row * side, y1=(row + 1) * side, x0=column * side, x1=(column + 1) * side)

    def patch_outer_box(self, patch: int) -> Box:
        """Pixels of a patch's image.

        Parameters
        ----------
        patch
            Patch identifier.

        Returns
        -------
        box
            Tract pixels.
        """
        inner, border = self.patch_inner_box(patch), self.patch_border
        grown = Box(y0=inner.y0 - border, y1=inner.y1 + border, x0=inner.x0 - border, x1=inner.x1 + border)
        side = self.n_patches * self.patch_inner
        whole = Box(y0=0, y1=side, x0=0, x1=side)
        return (grown.intersection(whole) or grown) if self.clip else grown

    @functools.cached_property
    def patch_edges(self) -> np.ndarray:
        """Edges ``y0, y1, x0, x1`` of the images of all patches, in tract
        pixels whose centres are whole numbers; shape ``(n, 4)``.
        """
        boxes = [self.patch_outer_box(patch) for patch in range(self.n_patches**2)]
        return np.array([[box.y0, box.y1, box.x0, box.x1] for box in boxes]) - 0.5

    @functools.cached_property
    def tract_radius(self) -> float:
        """Distance from a tract's centre to the farthest corner of the images
        of its patches, radians.
        """
        first, last = self.patch_outer_box(0), self.patch_outer_box(self.n_patches**2 - 1)
        center = self._tract_geometry[1]
        farthest = max(center - first.x0, last.x1 - center, center - first.y0, last.y1 - center)
        return math.atan(math.sqrt(2.0) * farthest * math.radians(self.pixel_scale_arcsec / 3600.0))

    def _strip(self, place: np.ndarray, step: int) -> tuple[np.ndarray, np.ndarray]:
        """Row or column of patches so many steps from that of each place, and
        how deep the place lies in their images along that axis; negative
        outside, and where there are no such patches.
        """
        number = np.floor(np.floor(place + 0.5) / self.patch_inner) + step
        low = number * self.patch_inner - self.patch_border
        high = (number + 1) * self.patch_inner + self.patch_border
        if self.clip:
            low, high = np.maximum(low, 0), np.minimum(high, self.n_patches * self.patch_inner)
        above = high - 0.5 - place
        # Boxes are half-open, as in `Box`.
        held = (above > 0) & (number >= 0) & (number < self.n_patches)
        return number, np.where(held, np.minimum(place - (low - 0.5), above), -1.0)

    @property
    def _ring_step(self) -> float:
        return math.pi / (self.num_rings + 1)

    @functools.cached_property
    def _tracts_in_ring(self) -> np.ndarray:
        step = self._ring_step
        start = -np.pi / 2 + step * (np.arange(self.num_rings) + 0.5)
        # The number follows from the longer of the ring's two edges, the one
        # nearer to the equator.
        widest = np.minimum(np.abs(start), np.abs(start + step))
        return (2 * np.pi * np.cos(widest) / step).astype(np.int64) + 1

    @functools.cached_property
    def _tract_width(self) -> np.ndarray:
        """Right ascension from tract to tract in each ring, radians."""
        return 2 * np.pi / self._tracts_in_ring

    @functools.cached_property
    def _ring_first_tract(self) -> np.ndarray:
        """First tract of each ring, then the northern cap."""
        return np.concatenate([[1], 1 + np.cumsum(self._tracts_in_ring)])

    @functools.cached_property
    def _tract_geometry(self) -> tuple[int, int]:
        """Patches along a side, and the pixel of the tangent point."""
        scale = math.radians(self.pixel_scale_arcsec / 3600.0)
        half = math.tan(self._ring_step / 2 + math.radians(self.tract_overlap_deg)) / scale
        low, high = math.floor(-half + 0.5), math.ceil(half - 0.5)
        side = high - low + 1
        n_patches = -(-side // self.patch_inner)
        low -= (n_patches * self.patch_inner - side) // 2
        return n_patches, -low


KNOWN_SKYMAPS = {
    skymap.name: skymap
    for skymap in (
        RingsSkyMap("lsst_cells_v1", 120, 0.2, 1 / 60, patch_inner=3000, patch_border=200),
        RingsSkyMap("lsst_cells_v2", 120, 0.2, 1 / 60, patch_inner=3000, patch_border=150),
        RingsSkyMap("hsc_rings_v1", 120, 0.168, 1 / 60, patch_inner=4000, patch_border=100, clip=True),
        # A map with small patches for the demonstration and the tests.
        RingsSkyMap("bulkcutout_demo_v1", 1200, 0.2, 0.005, patch_inner=400, patch_border=50),
    )
}
"""Rings maps whose formula is known, by name.  A repository's map is taken
for one of them only after its tract and patch records agree with it."""
