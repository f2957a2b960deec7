# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""The tangent projection, against wcslib."""

from __future__ import annotations

import astropy.wcs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lsst.dax.bulkcutout.wcs import TangentWcs


def reference(wcs: TangentWcs) -> astropy.wcs.WCS:
    made = astropy.wcs.WCS(naxis=2)
    made.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    made.wcs.crval = wcs.crval
    made.wcs.crpix = [wcs.crpix[0] + 1, wcs.crpix[1] + 1]
    made.wcs.cd = np.array(wcs.cd)
    # Its default is 0 for a tangent point at the north pole alone.
    made.wcs.lonpole = 180.0
    made.wcs.set()
    return made


@given(
    ra=st.floats(0, 359.999),
    dec=st.floats(-90, 90),
    angle=st.floats(0, 6.28),
    flip=st.sampled_from([-1, 1]),
    scale=st.floats(0.05, 3),
    dx=st.floats(-15000, 15000),
    dy=st.floats(-15000, 15000),
)
def test_projection_is_that_of_wcslib(
    ra: float, dec: float, angle: float, flip: int, scale: float, dx: float, dy: float
) -> None:
    """Any place on the sky, poles and RA 0 included; rotated and flipped."""
    s, c = np.sin(angle) * scale / 3600, np.cos(angle) * scale / 3600
    wcs = TangentWcs(crval=(ra, dec), crpix=(14999.0, 12345.5), cd=((flip * c, -s), (flip * s, c)))
    x, y = 14999.0 + dx, 12345.5 + dy
    expected = reference(wcs).wcs_pix2world([[x, y]], 0)[0]
    sky = wcs.pixel_to_sky(x, y)
    separation = np.hypot((sky[0] - expected[0] + 180) % 360 - 180, 0) * np.cos(np.radians(sky[1]))
    assert abs(separation) < 1e-10 and abs(sky[1] - expected[1]) < 1e-10
    # Against wcslib's own inverse, so that both are not wrong together.
    back = reference(wcs).wcs_world2pix([[float(sky[0]), float(sky[1])]], 0)[0]
    assert wcs.sky_to_pixel(*sky) == pytest.approx(back, abs=1e-6)
    assert wcs.pixel_scale_arcsec == pytest.approx(scale)


def test_far_side_of_the_sky_has_no_pixels() -> None:
    wcs = TangentWcs(crval=(10.0, 20.0), crpix=(0.0, 0.0), cd=((-1e-4, 0.0), (0.0, 1e-4)))
    x, y = wcs.sky_to_pixel([10.0, 190.0, 190.0], [20.0, -20.0, 80.0])
    assert np.isnan(x).tolist() == np.isnan(y).tolist() == [False, True, False]
