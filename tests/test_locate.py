# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Which patch: maps without a formula, and tract and patch of the catalog."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from lsst.dax.bulkcutout.skymap.region_locator import RegionLocator
from lsst.dax.bulkcutout.skymap.rings import KNOWN_SKYMAPS
from lsst.dax.bulkcutout.skymap.rings_locator import RingsLocator, agrees_with_records
from lsst.dax.bulkcutout.tests import Layout, rings_layout, tangent_layout, tangent_tract
from lsst.sphgeom import LonLat, UnitVector3d

DEMO = KNOWN_SKYMAPS["bulkcutout_demo_v1"]


def region_locator(layout: Layout) -> RegionLocator:
    return RegionLocator(
        {number: tract.region(tract.bbox) for number, tract in layout.tracts.items()},
        lambda numbers: {
            (number, patch): layout.tracts[number].region(each.outer)
            for number in numbers
            if number in layout.tracts
            for patch, each in layout.tracts[number].patches.items()
        },
        layout.tracts,
    )


def test_regions_give_the_patch_that_holds_a_position_deepest() -> None:
    """Depth in pixels, from astropy's projection; 2 x 3 patches of a rotated
    tract, and positions beyond its edges.
    """
    tract = tangent_tract(n_patches=(2, 3), rotation_deg=30.0, pixel_scale_arcsec=2.0)
    layout = tangent_layout([tract])
    rng = np.random.default_rng(2)
    x = rng.uniform(tract.bbox.x0 - 100, tract.bbox.x1 + 100, 500)
    y = rng.uniform(tract.bbox.y0 - 100, tract.bbox.y1 + 100, 500)
    place = region_locator(layout).locate(*tract.pixel_to_sky(x, y))
    depth = np.stack(
        [
            np.min([x - b.x0 + 0.5, b.x1 - 0.5 - x, y - b.y0 + 0.5, b.y1 - 0.5 - y], axis=0)
            for b in (tract.patches[patch].outer for patch in sorted(tract.patches))
        ]
    )
    expected = np.where(depth.max(axis=0) > 0, np.array(sorted(tract.patches))[depth.argmax(axis=0)], -1)
    # Two patches that hold a position equally deep may be told either way.
    ordered = np.sort(depth, axis=0)
    clear = (ordered[-1] - ordered[-2] > 0.01) & (abs(ordered[-1]) > 0.01)
    assert clear.sum() > 400 and (expected[clear] == -1).any()
    np.testing.assert_array_equal(place.patch[clear], expected[clear])
    assert np.isnan(place.x).all() and set(place.tract.tolist()) == {-1, tract.id}


def test_regions_take_the_nearest_tract() -> None:
    """Across RA 0, with the tracts overlapping."""
    tracts = [
        tangent_tract(3, center=(359.99, 5.0), pixel_scale_arcsec=1.0),
        tangent_tract(8, center=(0.02, 5.0), pixel_scale_arcsec=1.0),
    ]
    layout = tangent_layout(tracts)
    locator = region_locator(layout)
    centers = {t.id: t.region(t.bbox).getCentroid() for t in tracts}
    ra = np.array([359.985, 359.999, 0.001, 0.004, 0.03])
    place = locator.locate(ra, np.full(5, 5.0))
    for number, tract in zip(ra, place.tract, strict=True):
        vector = UnitVector3d(LonLat.fromDegrees(number, 5.0))
        nearest = max(centers, key=lambda t: centers[t].dot(vector))
        assert tract in (nearest, -1)
    assert {3, 8} <= set(place.tract.tolist())


def test_rings_and_regions_agree_inside_patches() -> None:
    """Away from the overlaps both rules must say the same."""
    layout = rings_layout(DEMO, {500_000: [27]})
    tract = layout.tracts[500_000]
    box = DEMO.patch_inner_box(27)
    rng = np.random.default_rng(3)
    x = rng.uniform(box.x0 + 60, box.x1 - 60, 50)
    y = rng.uniform(box.y0 + 60, box.y1 - 60, 50)
    ra, dec = tract.pixel_to_sky(x, y)
    assert set(RingsLocator(DEMO, [500_000]).locate(ra, dec).patch) == {27}
    assert set(region_locator(layout).locate(ra, dec).patch) == {27}
    place = RingsLocator(DEMO, [500_000]).locate(ra, dec)
    np.testing.assert_allclose([place.x, place.y], [x, y], atol=1e-6)


@pytest.mark.parametrize("kind", ["rings", "regions"])
def test_patch_of_the_catalog_is_checked(kind: str) -> None:
    """A neighbour that holds the position too is accepted, as the catalog
    says; one that does not hold it, or does not exist, is not.
    """
    layout = rings_layout(DEMO, {500_000: [27, 28]})
    box = DEMO.patch_inner_box(27)
    # In the inner region of 27, and in the border of 28 to the right of it.
    ra, dec = layout.tracts[500_000].pixel_to_sky(np.full(5, box.x1 - 10.0), np.full(5, box.y0 + 200.0))
    tract = np.array([500_000, 500_000, 500_000, 500_000, 499_990])
    patch = np.array([27, 28, 30, 5000, 27])
    locator = RingsLocator(DEMO, [500_000]) if kind == "rings" else region_locator(layout)
    if kind == "regions":
        tract, patch, ra, dec = tract[:4], patch[:4], ra[:4], dec[:4]
    place = locator.check(tract, patch, ra, dec)
    assert place.patch.tolist() == [27, 28, -1, -1, -1][: len(patch)]
    if kind == "rings":
        assert DEMO.find_patch(place.x[:1], place.y[:1]) == [27]


def test_another_pixel_scale_is_another_map() -> None:
    layout = rings_layout(DEMO, {500_000: [27]})
    tract = layout.tracts[500_000]
    regions = {(500_000, patch): tract.region(each.outer) for patch, each in tract.patches.items()}
    assert agrees_with_records(DEMO, regions)
    for change in ({"pixel_scale_arcsec": 0.2001}, {"num_rings": 1201}, {"patch_border": 51}):
        assert not agrees_with_records(dataclasses.replace(DEMO, **change), regions)


def test_tracts_without_images_are_told_from_the_edge_of_the_map() -> None:
    """Nothing is worked out for them, but their number is known."""
    layout = rings_layout(DEMO, {500_000: [27]})
    ra, dec = layout.tracts[500_000].pixel_to_sky(np.array([1500.0, 1700.0]), np.array([1400.0, 1650.0]))
    tract = layout.tracts[500_000]
    for locator in (
        RingsLocator(DEMO, [7]),
        RegionLocator(
            {500_000: tract.region(tract.bbox)},
            lambda _: {(500_000, patch): tract.region(each.outer) for patch, each in tract.patches.items()},
            [7],
        ),
    ):
        place = locator.locate(ra, dec)
        assert place.tract.tolist() == [500_000] * 2 and place.patch.tolist() == [-1] * 2
        # The first is in patch 27; the second is nowhere near 60.
        given = locator.check(place.tract, np.array([27, 60]), ra, dec)
        assert given.tract.tolist() == [500_000, -1] and given.patch.tolist() == [-1] * 2
