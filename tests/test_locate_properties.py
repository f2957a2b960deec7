# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Every position has one patch, and its image holds it: everywhere on the sky,
against sphgeom and against the rings formula written down a second time.
"""

from __future__ import annotations

import functools
import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lsst.dax.bulkcutout.errors import UserError
from lsst.dax.bulkcutout.skymap.region_locator import RegionLocator
from lsst.dax.bulkcutout.skymap.rings import KNOWN_SKYMAPS, RingsSkyMap
from lsst.dax.bulkcutout.skymap.rings_locator import RingsLocator
from lsst.dax.bulkcutout.tests import Layout, tangent_layout, tangent_tract
from lsst.sphgeom import Circle, ConvexPolygon, LonLat, UnitVector3d

NAMES = ("lsst_cells_v1", "lsst_cells_v2", "hsc_rings_v1", "bulkcutout_demo_v1")
CLOSE_PIXELS = 1e-4
"""Nearer to a border than this, either side is right."""


def unit(ra: float, dec: float) -> UnitVector3d:
    return UnitVector3d(LonLat.fromDegrees(ra % 360.0, dec))


def gnomonic(skymap: RingsSkyMap, tract: int, ra: float, dec: float) -> tuple[float, float] | None:
    """Pixels by products of vectors."""
    ra0, dec0 = map(math.radians, center_of(skymap, tract))
    towards = unit(math.degrees(ra0), math.degrees(dec0))
    east = (-math.sin(ra0), math.cos(ra0), 0.0)
    north = (-math.sin(dec0) * math.cos(ra0), -math.sin(dec0) * math.sin(ra0), math.cos(dec0))
    v = unit(ra, dec)
    depth = v.dot(towards)
    if depth < 0.1:
        return None
    xi, eta = (sum(a * b for a, b in zip(axis, (v.x(), v.y(), v.z()), strict=True)) for axis in (east, north))
    scale = math.radians(skymap.pixel_scale_arcsec / 3600)
    middle = {"lsst_cells_v1": 14999, "lsst_cells_v2": 14999, "hsc_rings_v1": 17999}.get(skymap.name)
    if middle is None:
        middle = skymap.wcs(tract).crpix[0]
    return middle - xi / depth / scale, middle + eta / depth / scale


@functools.cache
def rings_of(skymap: RingsSkyMap) -> tuple[tuple[float, float, int, int], ...]:
    """Southern and northern edge (rad), first tract and number of tracts of
    each ring, by the definition, in plain Python.
    """
    step, first, rings = math.pi / (skymap.num_rings + 1), 1, []
    for ring in range(skymap.num_rings):
        south = -math.pi / 2 + step * (ring + 0.5)
        n = int(2 * math.pi * math.cos(min(abs(south), abs(south + step))) / step) + 1
        rings.append((south, south + step, first, n))
        first += n
    return tuple(rings)


def center_of(skymap: RingsSkyMap, tract: int) -> tuple[float, float]:
    for south, north, first, n in rings_of(skymap):
        if first <= tract < first + n:
            return 360.0 * (tract - first) / n, math.degrees((south + north) / 2)
    return 0.0, -90.0 if tract == 0 else 90.0


def tracts_of(skymap: RingsSkyMap, ra: float, dec: float) -> set[int]:
    """The tract of a position; several where rounding decides."""
    found = set()
    for d_dec in (-1e-12, 1e-12):
        angle = math.radians(dec) + d_dec
        ring = next((r for r in rings_of(skymap) if r[0] <= angle < r[1]), None)
        if ring is None:
            found.add(0 if dec < 0 else rings_of(skymap)[-1][2] + rings_of(skymap)[-1][3])
            continue
        for d_ra in (-1e-9, 1e-9):
            found.add(ring[2] + math.floor((ra + d_ra) % 360.0 / 360.0 * ring[3] + 0.5) % ring[3])
    return found


@st.composite
def positions(draw: st.DrawFn, names: tuple[str, ...] = NAMES) -> tuple[RingsSkyMap, float, float]:
    """Anywhere; or where something begins: poles, right ascension 0, borders
    of rings and tracts, corners of tracts and patches.
    """
    skymap = KNOWN_SKYMAPS[draw(st.sampled_from(names))]
    kind = draw(st.sampled_from(["any", "pole", "zero", "ring", "pixel"]))
    ra = draw(st.floats(0, 360, exclude_max=True))
    dec = math.degrees(math.asin(draw(st.floats(-1, 1))))
    if kind == "pole":
        dec = draw(st.sampled_from([-1, 1])) * (
            90.0 - draw(st.sampled_from([0.0, 1e-9, 1e-4, 0.3, 0.74, 0.75, 2]))
        )
    elif kind == "zero":
        ra = draw(st.sampled_from([0.0, 1e-12, 359.9999999999, 360.0 - 1e-6]))
    elif kind == "ring":
        south, _, first, n = draw(st.sampled_from(rings_of(skymap)))
        dec = math.degrees(south) + draw(st.sampled_from([0.0, 1e-7, -1e-7]))
        ra = (
            360.0 * (draw(st.integers(0, n - 1)) + 0.5) / n + draw(st.sampled_from([0.0, 1e-7, -1e-7]))
        ) % 360.0
    elif kind == "pixel":
        tract = draw(st.integers(0, skymap.n_tracts - 1))
        corner = st.integers(0, skymap.n_patches).map(lambda k: skymap.patch_inner * k)
        shift = st.sampled_from(
            [-0.5, -0.501, -0.499, 0.0, skymap.patch_border - 0.5, -skymap.patch_border - 0.5]
        )
        x, y = (draw(corner) + draw(shift) for _ in "xy")
        ra, dec = (float(value) for value in skymap.wcs(tract).pixel_to_sky(x, y))
    return skymap, ra, dec


@functools.cache
def locator_of(skymap: RingsSkyMap) -> RingsLocator:
    return RingsLocator(skymap, range(skymap.n_tracts))


@settings(max_examples=250, deadline=None)
@given(positions())
@example((KNOWN_SKYMAPS["lsst_cells_v2"], 0.0, 90.0))
@example((KNOWN_SKYMAPS["lsst_cells_v2"], 77.0, -90.0))
@example((KNOWN_SKYMAPS["hsc_rings_v1"], 360.0 - 1e-12, 0.0))
def test_rings_formula_gives_each_position_the_patch_of_its_definition(
    case: tuple[RingsSkyMap, float, float],
) -> None:
    skymap, ra, dec = case
    place = locator_of(skymap).locate(np.array([ra]), np.array([dec]))
    tract, patch = int(place.tract[0]), int(place.patch[0])
    assert tract in tracts_of(skymap, ra, dec)
    x, y = gnomonic(skymap, tract, ra, dec)
    assert (place.x[0], place.y[0]) == pytest.approx((x, y), abs=1e-5)
    column, row = patch % skymap.n_patches, patch // skymap.n_patches
    for number, pixel in ((column, x), (row, y)):
        low = number * skymap.patch_inner - 0.5
        assert low - CLOSE_PIXELS <= pixel <= low + skymap.patch_inner + CLOSE_PIXELS
    again = locator_of(skymap).check(place.tract, place.patch, np.array([ra]), np.array([dec]))
    assert (again.tract[0], again.patch[0]) == (tract, patch)


@settings(max_examples=60, deadline=None)
@given(positions(NAMES[:3]))
@example((KNOWN_SKYMAPS["lsst_cells_v2"], 0.0, 90.0))
def test_all_covering_patches_are_found(case: tuple[RingsSkyMap, float, float]) -> None:
    """Against every patch of every tract near by."""
    skymap, ra, dec = case
    half = {"legacy": 0, "cells": skymap.patch_border}["legacy" if skymap.clip else "cells"]
    end = skymap.n_patches * skymap.patch_inner
    found = locator_of(skymap).covering(np.array([ra]), np.array([dec]))
    pairs = dict(zip(zip(found.tract.tolist(), found.patch.tolist(), strict=True), found.depth, strict=True))
    assert len(pairs) == len(found.depth)
    sure, perhaps = {}, set()
    v = unit(ra, dec)
    # Tracts are at most 1.2 degrees from corner to centre.
    step = 180.0 / (skymap.num_rings + 1)
    near = [
        first + k
        for south, north, first, n in rings_of(skymap)
        if abs(math.degrees((south + north) / 2) - dec) < 2 * step
        for k in range(n)
        if v.dot(unit(*center_of(skymap, first + k))) > math.cos(math.radians(1.5 * step))
    ]
    for tract in (*near, 0, skymap.n_tracts - 1):
        if (pixel := gnomonic(skymap, tract, ra, dec)) is None:
            continue
        for patch in range(skymap.n_patches**2):
            depth = math.inf
            for number, place in zip(divmod(patch, skymap.n_patches), pixel[::-1], strict=True):
                low = max(number * skymap.patch_inner - skymap.patch_border, -half) - 0.5
                high = min((number + 1) * skymap.patch_inner + skymap.patch_border, end + half) - 0.5
                depth = min(depth, place - low, high - place)
            if depth > CLOSE_PIXELS:
                sure[tract, patch] = depth
            elif depth > -CLOSE_PIXELS:
                perhaps.add((tract, patch))
    assert sure.keys() <= pairs.keys() <= sure.keys() | perhaps
    for pair, depth in sure.items():
        assert pairs[pair] == pytest.approx(depth, abs=1e-4)


def polygon(layout: Layout, tract: int, patch: int) -> ConvexPolygon:
    return layout.tracts[tract].region(layout.tracts[tract].patches[patch].outer)


def depth_of(region: ConvexPolygon, v: UnitVector3d) -> float:
    """Distance to the nearest edge, rad, negative outside."""
    corners = region.getVertices()
    edges = zip(corners, [*corners[1:], corners[0]], strict=True)
    return min(math.asin(UnitVector3d(a.robustCross(b)).dot(v)) for a, b in edges)


@st.composite
def maps(draw: st.DrawFn) -> tuple[Layout, set[int], float, float]:
    """Two overlapping tracts anywhere, one perhaps without images, first
    pixels that can be negative; and a position in, on the border of, or
    beside a patch.
    """
    dec = draw(st.sampled_from([0.0, -31.0, 89.99, 90.0, -90.0, -89.995]))
    ra = draw(st.sampled_from([0.0, 359.99, 180.0, 45.0]))
    tracts = []
    for number, shift in ((3, 0.0), (8, draw(st.sampled_from([0.006, 0.012, 0.03])))):
        tracts.append(
            tangent_tract(
                number,
                center=((ra + shift / max(0.2, math.cos(math.radians(dec)))) % 360.0, dec),
                n_patches=draw(st.sampled_from([(1, 2), (2, 3), (3, 1)])),
                inner=(100, 150),
                rotation_deg=draw(st.sampled_from([0.0, 25.0, 190.0])),
                origin=draw(st.sampled_from([(1200, 300), (-130, -50), (-50, 4000)])),
            )
        )
    layout = tangent_layout(tracts)
    tract = layout.tracts[draw(st.sampled_from([3, 8]))]
    box = tract.patches[draw(st.sampled_from(sorted(tract.patches)))].outer
    place = {}
    for axis, low, high in (("x", box.x0, box.x1), ("y", box.y0, box.y1)):
        place[axis] = draw(
            st.one_of(
                st.floats(low - 40, high + 40), st.sampled_from([low - 0.5, high - 0.5, (low + high) / 2])
            )
        )
    sky = [float(value) for value in tract.pixel_to_sky(place["x"], place["y"])]
    covered = draw(st.sampled_from([{3, 8}, {3}, {8}]))
    return layout, covered, sky[0] % 360.0, sky[1]


@settings(max_examples=150, deadline=None)
@given(maps())
def test_regions_give_each_position_one_patch_that_holds_it(
    case: tuple[Layout, set[int], float, float],
) -> None:
    """The nearest tract that holds it, and in it the deepest patch, as sphgeom
    sees it; and all that cover it, of the tracts with images.
    """
    layout, covered, ra, dec = case
    locator = RegionLocator(
        {number: tract.region(tract.bbox) for number, tract in layout.tracts.items()},
        lambda numbers: {(n, p): polygon(layout, n, p) for n in numbers for p in layout.tracts[n].patches},
        covered,
    )
    place = locator.locate(np.array([ra]), np.array([dec]))
    tract, patch = int(place.tract[0]), int(place.patch[0])
    v = unit(ra, dec)
    depths = {
        (n, p): depth_of(polygon(layout, n, p), v) for n, each in layout.tracts.items() for p in each.patches
    }
    for pair, depth in depths.items():
        if abs(depth) > 1e-11:
            assert polygon(layout, *pair).contains(v) == (depth > 0)
    holders = {pair for pair, depth in depths.items() if depth > 1e-11}
    perhaps = {pair for pair, depth in depths.items() if abs(depth) <= 1e-11}
    cosines = {n: t.region(t.bbox).getCentroid().dot(v) for n, t in layout.tracts.items()}
    if not perhaps and abs(cosines[3] - cosines[8]) > 1e-14:
        nearest = max({n for n, _ in holders}, key=cosines.__getitem__, default=None)
        if nearest is None or nearest not in covered:
            assert patch == -1
        else:
            assert tract == nearest and (tract, patch) in holders
    if patch >= 0:
        assert tract in covered and (tract, patch) in holders | perhaps
        best = max(depth for (n, _), depth in depths.items() if n == tract)
        assert depths[tract, patch] >= best - 1e-11
        again = locator.check(place.tract, place.patch, np.array([ra]), np.array([dec]))
        assert (again.tract[0], again.patch[0]) == (tract, patch)
    covering = locator.covering(np.array([ra]), np.array([dec]))
    pairs = set(zip(covering.tract.tolist(), covering.patch.tolist(), strict=True))
    assert {pair for pair in holders if pair[0] in covered} <= pairs <= holders | perhaps
    assert all(n in covered for n, _ in pairs)


def test_exact_corner_of_four_patches_belongs_to_the_lowest() -> None:
    """Equally deep in all of them; and the corner of an image is held."""
    tract = tangent_tract(5, center=(0.0, 0.0), n_patches=(2, 2), inner=(100, 150), crpix=(449.5, 1299.5))
    layout = tangent_layout([tract])
    locator = RegionLocator(
        {5: tract.region(tract.bbox)},
        lambda numbers: {(5, p): polygon(layout, 5, p) for p in tract.patches},
        [5],
    )
    ra, dec = tract.pixel_to_sky(449.5, 1299.5)
    assert locator.locate(np.array([ra % 360.0]), np.array([dec])).patch.tolist() == [0]
    box = tract.patches[3].outer
    ra, dec = tract.pixel_to_sky([box.x1 - 0.5, box.x1 - 0.4], [box.y1 - 0.5, box.y1 - 0.4])
    assert locator.locate(ra % 360.0, dec).patch.tolist() == [3, -1]


def test_region_that_is_no_polygon_is_named() -> None:
    """Depth would mean nothing there."""
    with pytest.raises(UserError, match="region of tract 4 is a Circle"):
        RegionLocator({4: Circle(unit(1.0, 2.0))}, lambda numbers: {}, [4])
