# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""HEALPix numbers, against libraries that others wrote."""

from __future__ import annotations

import astropy.units as u
import hpgeom
import numpy as np
import pytest
from astropy_healpix import HEALPix
from hypothesis import given
from hypothesis import strategies as st

from lsst.dax.bulkcutout.formats.healpix import nested_pixel


def sky(n: int, seed: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Random positions: everywhere, near the poles, and near RA 0."""
    rng = np.random.default_rng(seed)
    ra = np.concatenate([rng.uniform(0, 360, 2 * n), rng.normal(0, 1e-4, n) % 360])
    dec = np.concatenate(
        [
            np.degrees(np.arcsin(rng.uniform(-1, 1, n))),
            np.where(rng.integers(0, 2, n), 1, -1) * (90 - 10.0 ** rng.uniform(-9, 1, n)),
            rng.uniform(-89, 89, n),
        ]
    )
    return ra, dec


def astropy_pixel(ra: object, dec: object, order: int) -> np.ndarray:
    return np.asarray(HEALPix(nside=2**order, order="nested").lonlat_to_healpix(ra * u.deg, dec * u.deg))


def on_border(ra: float, dec: float, order: int) -> bool:
    """Whether astropy has another pixel a millionth of a pixel away."""
    step = 1e-6 * 58.6 / 2**order
    ras = np.array([ra - step, ra + step, ra, ra]) % 360
    decs = np.clip(np.array([dec, dec, dec - step, dec + step]), -90, 90)
    return abs(dec) > 89.9 or len(set(astropy_pixel(ras, decs, order).tolist())) > 1


@pytest.mark.parametrize("order", range(30))
def test_pixels_are_those_of_astropy_and_hpgeom(order: int) -> None:
    ra, dec = sky(2000, seed=order)
    pixels = nested_pixel(ra, dec, order)
    assert pixels.dtype == np.int64 and pixels.min() >= 0 and pixels.max() < 12 * 4**order
    assert np.array_equal(pixels, astropy_pixel(ra, dec, order))
    # hpgeom counts from the pole in float64, which loses digits beside it.
    far = abs(dec) < 80
    assert np.array_equal(
        pixels[far], hpgeom.angle_to_pixel(2**order, ra[far], dec[far], nest=True, lonlat=True)
    )


@pytest.mark.parametrize("order", [0, 1, 4, 13, 20, 29])
def test_poles_and_the_meridian(order: int) -> None:
    """On borders between pixels any of them is right: the number must be that
    of a place which is less than a millionth of a pixel away.
    """
    ra = np.array([0.0, 360.0, 0.0, 12.0, 200.0, 359.0, 0.0, 90.0, 180.0, 270.0, 1e-320, 359.99999999999994])
    dec = np.array([0.0, 0.0, 90.0, 90.0, 90.0, -90.0, -90.0, -41.0, 41.5, 10.0, 5.0, 5.0])
    step = 1e-6 * 58.6 / 2**order
    for lon, lat, pixel in zip(ra, dec, nested_pixel(ra, dec, order).tolist(), strict=True):
        if abs(lat) == 90:
            lons, lats = np.array([45.0, 135.0, 225.0, 315.0]), np.full(4, lat - np.sign(lat) * step)
        else:
            lons, lats = lon + step * np.array([-2, 2, 0, 0, 0]), lat + step * np.array([0, 0, -1, 1, 0])
        assert pixel in astropy_pixel(lons % 360, lats, order).tolist()


@given(ra=st.floats(0, 360, exclude_max=True), dec=st.floats(-90, 90))
def test_any_position_has_the_pixel_that_astropy_says(ra: float, dec: float) -> None:
    for order in (0, 4, 11, 29):
        ours, theirs = nested_pixel([ra], [dec], order)[0], astropy_pixel([ra], [dec], order)[0]
        # At borders the two may round to either side: then the pixels touch.
        if ours != theirs:
            touch = HEALPix(nside=2**order, order="nested").neighbours(theirs)
            assert ours in touch and on_border(ra, dec, order)


@given(pixel=st.integers(0, 12 * 4**29 - 1))
def test_centre_of_a_pixel_is_in_it(pixel: int) -> None:
    for order in (0, 3, 13, 29):
        number = pixel >> 2 * (29 - order)
        lon, lat = HEALPix(nside=2**order, order="nested").healpix_to_lonlat([number])
        assert nested_pixel(lon.to_value("deg"), lat.to_value("deg"), order).tolist() == [number]
