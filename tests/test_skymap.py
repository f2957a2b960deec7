# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""The rings formula, against the observatory's own records and papers."""

from __future__ import annotations

import sqlite3

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lsst.dax.bulkcutout.skymap.rings import KNOWN_SKYMAPS
from lsst.dax.bulkcutout.skymap.rings_locator import RingsLocator, agrees_with_records
from lsst.dax.bulkcutout.tests import real_data
from lsst.sphgeom import Region

CELLS = KNOWN_SKYMAPS["lsst_cells_v2"]


@pytest.mark.parametrize(
    ("tract", "ra", "dec"),
    [
        (1, 0.0, -88.512396694),
        (453, 4.615384615, -72.148760331),
        (2394, 59.268292683, -48.347107438),
        (5063, 53.087557604, -27.520661157),
        (5428, 295.890410959, -26.033057851),
        (10463, 37.34439834, 6.694214876),
        (18936, 324.0, 88.512396694),
    ],
)
def test_tract_centers_of_the_lsst_map(tract: int, ra: float, dec: float) -> None:
    """Numbers of the released DP1 and DP2 sky maps."""
    assert CELLS.tract_center(tract) == pytest.approx((ra, dec), abs=1e-8)


def test_map_sizes() -> None:
    assert (CELLS.n_tracts, CELLS.n_patches) == (18938, 10)
    assert KNOWN_SKYMAPS["hsc_rings_v1"].n_patches == 9


def test_known_positions_of_the_lsst_map() -> None:
    """The extended Chandra field and COSMOS, as DP1's documents have them."""
    assert CELLS.find_tract([53.13, 150.1], [-28.10, 2.1819]).tolist() == [5063, 9813]
    x, y = CELLS.wcs(5063).sky_to_pixel(53.13, -28.10)
    assert (x, y) == pytest.approx((14325.053, 4570.428), abs=1e-3)
    assert CELLS.find_patch(x, y) == 14


def test_hsc_header_agrees() -> None:
    """CRVAL and CRPIX + x0 of a header of HSC's tract 9071."""
    hsc = KNOWN_SKYMAPS["hsc_rings_v1"]
    assert hsc.tract_center(9071) == pytest.approx((129.421487603306, -2.23140495867768), abs=1e-11)
    assert hsc.wcs(9071).crpix == (3501 + 14499 - 1, -12546 + 30546 - 1)
    # The legacy builder does not go beyond the tract.
    assert hsc.patch_outer_box(0).shape == (4100, 4100)
    assert hsc.patch_outer_box(10).shape == (4200, 4200)


def test_formula_agrees_with_the_records_of_a_real_registry() -> None:
    """All 100 patch regions of tract 5428 in DP2's registry; v1 of the map,
    with larger patches, must be told apart.
    """
    folder = real_data("lsst_dp2_coadd")
    if folder is None:
        pytest.skip("the real test data are not beside the project")
    with sqlite3.connect(f"file:{folder / 'butler_gen3.sqlite3'}?mode=ro&immutable=1", uri=True) as database:
        rows = database.execute("select tract, id, region from patch").fetchall()
    regions = {(tract, patch): Region.decodeBase64(region) for tract, patch, region in rows}
    assert len(regions) == 100
    assert agrees_with_records(CELLS, regions)
    assert not agrees_with_records(KNOWN_SKYMAPS["lsst_cells_v1"], regions)


@given(ra=st.floats(0, 360), z=st.floats(-1, 1))
def test_every_position_has_a_patch_that_holds_it(ra: float, z: float) -> None:
    """RA 0 and 360 and the poles included."""
    dec = float(np.degrees(np.arcsin(z)))
    for name in ("lsst_cells_v2", "bulkcutout_demo_v1"):
        skymap = KNOWN_SKYMAPS[name]
        locator = RingsLocator(skymap, skymap.find_tract(np.array([ra]), np.array([dec])))
        place = locator.locate(np.array([ra]), np.array([dec]))
        tract, patch = int(place.tract[0]), int(place.patch[0])
        assert patch >= 0
        box = skymap.patch_inner_box(patch)
        assert box.y0 <= place.y[0] + 0.5 < box.y1 and box.x0 <= place.x[0] + 0.5 < box.x1
        again = locator.check(np.array([tract]), np.array([patch]), np.array([ra]), np.array([dec]))
        assert (again.tract[0], again.patch[0]) == (tract, patch)
        # The ring's own tract has the nearest centre among its neighbours
        # in the ring.
        if 0 < tract < skymap.n_tracts - 1:
            center_ra, center_dec = skymap.tract_center(tract)
            assert abs(dec - center_dec) <= np.degrees(np.pi / (skymap.num_rings + 1)) / 2 + 1e-9


def test_unknown_tract_and_patch_are_refused() -> None:
    with pytest.raises(ValueError, match="0 to 18937"):
        CELLS.tract_center(18938)
    with pytest.raises(ValueError, match="0 to 99"):
        CELLS.patch_inner_box(100)
