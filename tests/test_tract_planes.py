# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Positions of many tracts at once: against WCSLIB, against sphgeom, and
against one position after the other.
"""

from __future__ import annotations

import astropy.wcs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lsst.dax.bulkcutout.skymap import rings_locator, tract_planes
from lsst.dax.bulkcutout.skymap.rings import KNOWN_SKYMAPS
from lsst.dax.bulkcutout.skymap.rings_locator import RingsLocator
from lsst.dax.bulkcutout.skymap.tract_planes import TractPlanes
from lsst.dax.bulkcutout.sphere import unit_vectors
from lsst.dax.bulkcutout.tests import rings_layout
from lsst.sphgeom import LonLat, UnitVector3d

LSST = KNOWN_SKYMAPS["lsst_cells_v2"]


def near(tracts: np.ndarray, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Positions within two degrees of the centres of tracts."""
    x, y = generator.uniform(-20_000, 50_000, (2, len(tracts)))
    sky = [LSST.wcs(t).pixel_to_sky(a, b) for t, a, b in zip(tracts.tolist(), x, y, strict=True)]
    ra, dec = np.array(sky).T
    return ra, dec


def wcslib(tract: int) -> astropy.wcs.WCS:
    """The projection of a tract of the observatory's map, as its images state
    it: 0.2 arcsec, pixel (14999, 14999) at the centre.
    """
    wcs = astropy.wcs.WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval = LSST.tract_center(tract)
    wcs.wcs.crpix = [15000.0, 15000.0]
    # By default the axes would be turned at the northern pole alone.
    wcs.wcs.lonpole = 180.0
    wcs.wcs.cd = np.diag([-0.2 / 3600, 0.2 / 3600])
    return wcs


@settings(max_examples=25, deadline=None)
@given(
    tracts=st.lists(st.integers(-1, LSST.n_tracts - 1), min_size=1, max_size=40),
    block=st.sampled_from([1, 7, 16_384]),
    seed=st.integers(0, 2**32 - 1),
)
def test_pixels_in_many_tracts_are_those_of_wcslib(tracts: list[int], block: int, seed: int) -> None:
    """And bit for bit those of each tract's own projection, wherever blocks
    begin; tract -1 has none.
    """
    tract = np.array(tracts)
    ra, dec = near(np.maximum(tract, 0), np.random.default_rng(seed))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tract_planes, "BLOCK_ROWS", block)
        x, y = TractPlanes(LSST).sky_to_pixel(tract, ra, dec)
    for index, number in enumerate(tracts):
        if number < 0:
            assert np.isnan([x[index], y[index]]).all()
            continue
        expected = [float(v) for v in wcslib(number).wcs_world2pix(ra[index], dec[index], 0)]
        assert [x[index], y[index]] == pytest.approx(expected, abs=1e-6)
        own = LSST.wcs(number).sky_to_pixel(ra[index : index + 1], dec[index : index + 1])
        assert (x[index], y[index]) == (own[0][0], own[1][0])


def test_the_other_side_of_the_sky_has_no_pixel() -> None:
    ra, dec = LSST.tract_center(5063)
    x, y = TractPlanes(LSST).sky_to_pixel(
        np.full(3, 5063), np.array([ra, ra + 180.0, ra]), np.array([dec, -dec, dec + 91.0])
    )
    assert np.isfinite(x).tolist() == np.isfinite(y).tolist() == [True, False, False]


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1), block=st.sampled_from([3, 16_384]), table=st.sampled_from([1, 4_000_000])
)
def test_patches_that_cover_many_positions_are_those_whose_regions_hold_them(
    seed: int, block: int, table: int
) -> None:
    """Around the southern cap, right ascension 0 and a tract elsewhere, of
    which few have images; regions by astropy and sphgeom.
    """
    covered = (0, 1, 5063, 5064)
    generator = np.random.default_rng(seed)
    ra, dec = near(generator.choice([0, 1, 2, 5063, 5064, 5190, 9813], 60), generator)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rings_locator, "BLOCK_ROWS", block)
        patch.setattr(rings_locator, "LARGEST_TABLE", table)
        found = RingsLocator(LSST, covered).covering(ra, dec)
    pairs = set(zip(found.member.tolist(), found.tract.tolist(), found.patch.tolist(), strict=True))
    assert len(pairs) == len(found.member)
    layout = rings_layout(LSST, {tract: () for tract in covered})
    for number, tract in layout.tracts.items():
        center = UnitVector3d(LonLat.fromDegrees(*LSST.tract_center(number)))
        close = unit_vectors(ra, dec) @ [center.x(), center.y(), center.z()] > np.cos(np.radians(3.0))
        for patch_id in {patch for _, _, patch in pairs} | {0, 55, 99}:
            region = tract.region(tract.patches[patch_id].outer)
            held = close & region.contains(np.radians(ra), np.radians(dec))
            told = {member for member, t, p in pairs if (t, p) == (number, patch_id)}
            assert told == set(np.flatnonzero(held).tolist())
