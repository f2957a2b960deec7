# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Tracts and patches of a test repository: the rings of a real sky map, or
any arrangement of rectangles on tangent planes.

Positions go through astropy's WCS, not through ours: what a test expects must
not come from the code that it tests.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import astropy.wcs
import numpy as np

from lsst.sphgeom import ConvexPolygon, LonLat, UnitVector3d

from ..boxes import Box
from ..skymap.rings import KNOWN_SKYMAPS, RingsSkyMap

__all__ = ("Layout", "Patch", "Tract", "rings_layout", "tangent_layout", "tangent_tract")


@dataclasses.dataclass(frozen=True)
class Patch:
    """One patch: the rectangle that it owns and the one that its image has."""

    id: int
    """Patch identifier."""

    index: tuple[int, int]
    """Row and column of the patch in its tract, ``(y, x)``."""

    inner: Box
    """Pixels that belong to this patch alone."""

    outer: Box
    """Pixels of the patch's image; whole cells."""

    cell_shape: tuple[int, int]
    """Rows and columns of a cell."""

    def __post_init__(self) -> None:
        if any(n % cell for n, cell in zip(self.outer.shape, self.cell_shape, strict=True)):
            raise ValueError(
                f"Patch {self.id}: {self.outer} is not a whole number of {self.cell_shape} cells."
            )

    @property
    def n_cells(self) -> tuple[int, int]:
        """Rows and columns of cells."""
        return (self.outer.shape[0] // self.cell_shape[0], self.outer.shape[1] // self.cell_shape[1])


@dataclasses.dataclass(frozen=True)
class Tract:
    """One tangent plane and its patches."""

    id: int
    """Tract identifier."""

    crval: tuple[float, float]
    """Right ascension and declination of the tangent point, degrees."""

    crpix: tuple[float, float]
    """Pixel ``(x, y)`` of the tangent point, zero-based tract pixels."""

    cd: tuple[tuple[float, float], tuple[float, float]]
    """Degrees per pixel, ``((CD1_1, CD1_2), (CD2_1, CD2_2))``."""

    bbox: Box
    """Pixels of the whole tract."""

    patches: Mapping[int, Patch]
    """All patches of the tract by identifier."""

    @functools.cached_property
    def wcs(self) -> astropy.wcs.WCS:
        """Projection; use it with origin 0 for zero-based tract pixels."""
        wcs = astropy.wcs.WCS(naxis=2)
        wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
        wcs.wcs.cunit = ["deg", "deg"]
        wcs.wcs.crval = self.crval
        wcs.wcs.crpix = [self.crpix[0] + 1.0, self.crpix[1] + 1.0]
        wcs.wcs.cd = np.array(self.cd)
        wcs.wcs.radesys = "ICRS"
        wcs.wcs.set()
        return wcs

    @property
    def pixel_scale_arcsec(self) -> float:
        """Side of a pixel."""
        return 3600.0 * math.sqrt(abs(float(np.linalg.det(np.array(self.cd)))))

    def pixel_to_sky(self, x: Any, y: Any) -> tuple[np.ndarray, np.ndarray]:
        """Sky positions of pixels.

        Parameters
        ----------
        x, y
            Zero-based tract pixels.

        Returns
        -------
        ra, dec
            ICRS degrees.
        """
        ra, dec = self.wcs.all_pix2world(np.asarray(x, dtype=float), np.asarray(y, dtype=float), 0)
        return ra, dec

    def sky_to_pixel(self, ra: Any, dec: Any) -> tuple[np.ndarray, np.ndarray]:
        """Pixels of sky positions; only for the hemisphere of the tract.

        Parameters
        ----------
        ra, dec
            ICRS degrees.

        Returns
        -------
        x, y
            Zero-based tract pixels.
        """
        x, y = self.wcs.wcs_world2pix(np.asarray(ra, dtype=float), np.asarray(dec, dtype=float), 0)
        return x, y

    def region(self, box: Box) -> ConvexPolygon:
        """Sky polygon of a rectangle, to the outer edges of its pixels.

        Parameters
        ----------
        box
            Tract pixels.

        Returns
        -------
        region
            What a Butler registry keeps for a tract or a patch.
        """
        x = np.array([box.x0, box.x1, box.x1, box.x0]) - 0.5
        y = np.array([box.y0, box.y0, box.y1, box.y1]) - 0.5
        corners = zip(*self.pixel_to_sky(x, y), strict=True)
        return ConvexPolygon([UnitVector3d(LonLat.fromDegrees(ra % 360.0, dec)) for ra, dec in corners])


@dataclasses.dataclass(frozen=True)
class Layout:
    """A sky map as a test repository has it."""

    name: str
    """Name of the sky map."""

    tracts: Mapping[int, Tract]
    """Tracts whose records the repository has."""

    images: tuple[tuple[int, int], ...]
    """The ``(tract, patch)`` pairs that get images."""

    tract_max: int
    """Number of tracts of the whole map."""

    rings: RingsSkyMap | None = None
    """The rings map behind it, if there is one."""

    def patch(self, tract: int, patch: int) -> Patch:
        """One patch.

        Parameters
        ----------
        tract, patch
            Identifiers.

        Returns
        -------
        patch
            The patch.
        """
        return self.tracts[tract].patches[patch]


def rings_layout(
    skymap: str | RingsSkyMap, images: Mapping[int, Iterable[int]], *, cell: int | None = None
) -> Layout:
    """Part of a rings sky map.

    Parameters
    ----------
    skymap
        The map, or the name of a known one.
    images
        Patches that get images, by tract; ``()`` for a tract without any.
    cell
        Side of a cell; by default the border of a patch.

    Returns
    -------
    layout
        With the records of all patches of these tracts.
    """
    rings = KNOWN_SKYMAPS[skymap] if isinstance(skymap, str) else skymap
    size = cell or rings.patch_border
    side = rings.n_patches * rings.patch_inner
    patches = {
        patch: Patch(
            id=patch,
            index=divmod(patch, rings.n_patches),
            inner=rings.patch_inner_box(patch),
            outer=rings.patch_outer_box(patch),
            cell_shape=(size, size),
        )
        for patch in range(rings.n_patches**2)
    }
    tracts = {}
    for tract in images:
        wcs = rings.wcs(tract)
        tracts[tract] = Tract(
            tract, rings.tract_center(tract), wcs.crpix, wcs.cd, Box(0, side, 0, side), patches
        )
    pairs = tuple(sorted((tract, patch) for tract, wanted in images.items() for patch in wanted))
    return Layout(rings.name, tracts, pairs, rings.n_tracts, rings)


def tangent_layout(
    tracts: Sequence[Tract], *, name: str = "tangent_test", images: Mapping[int, Iterable[int]] | None = None
) -> Layout:
    """A map of hand-made tracts.

    Parameters
    ----------
    tracts
        The tracts, from `tangent_tract` or any other.
    name
        Name of the sky map.
    images
        Patches that get images, by tract; by default all.

    Returns
    -------
    layout
        With the records of all patches.
    """
    wanted = {t.id: tuple(t.patches) for t in tracts} if images is None else images
    pairs = tuple(sorted((tract, patch) for tract, patches in wanted.items() for patch in patches))
    return Layout(name, {t.id: t for t in tracts}, pairs, max(t.id for t in tracts) + 1)


def tangent_tract(
    tract: int = 0,
    *,
    center: tuple[float, float] = (150.0, 2.2),
    n_patches: tuple[int, int] = (1, 2),
    inner: tuple[int, int] = (150, 200),
    border: tuple[int, int] = (50, 50),
    cell: tuple[int, int] = (50, 50),
    origin: tuple[int, int] = (1200, 300),
    crpix: tuple[float, float] | None = None,
    pixel_scale_arcsec: float = 0.2,
    rotation_deg: float = 0.0,
    clip: bool = False,
) -> Tract:
    """Make one tract of equal rectangular patches.

    Nothing in it is square, or at the origin, unless asked for.

    Parameters
    ----------
    tract
        Identifier.
    center
        Right ascension and declination of the tangent point, degrees.
    n_patches, inner, border, cell
        Number of patches, size of their inner regions, width of their borders
        and size of their cells, each ``(y, x)``; the last three in pixels.
    origin
        First pixel ``(y, x)`` of the inner region of patch 0.
    crpix
        Pixel ``(x, y)`` of the tangent point, zero-based; by default the
        middle of the tract.
    pixel_scale_arcsec
        Side of a pixel.
    rotation_deg
        Angle of the pixel grid, counter-clockwise.
    clip
        Whether the outer patches end at the tract's edge.

    Returns
    -------
    tract
        The tract.
    """
    whole = Box(
        origin[0], origin[0] + n_patches[0] * inner[0], origin[1], origin[1] + n_patches[1] * inner[1]
    )
    patches = {}
    for row in range(n_patches[0]):
        for column in range(n_patches[1]):
            y0, x0 = origin[0] + row * inner[0], origin[1] + column * inner[1]
            own = Box(y0, y0 + inner[0], x0, x0 + inner[1])
            outer = Box(y0 - border[0], own.y1 + border[0], x0 - border[1], own.x1 + border[1])
            if clip:
                outer = outer.intersection(whole) or outer
            patch = row * n_patches[1] + column
            patches[patch] = Patch(patch, (row, column), own, outer, cell)
    scale = pixel_scale_arcsec / 3600.0
    cos, sin = math.cos(math.radians(rotation_deg)), math.sin(math.radians(rotation_deg))
    middle = ((whole.x0 + whole.x1 - 1) / 2, (whole.y0 + whole.y1 - 1) / 2)
    return Tract(
        id=tract,
        crval=center,
        crpix=crpix or middle,
        cd=((-scale * cos, scale * sin), (scale * sin, scale * cos)),
        bbox=whole,
        patches=patches,
    )
