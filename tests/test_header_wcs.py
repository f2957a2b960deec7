# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""All projections that a header can describe, against astropy's own reading
of the same header.
"""

from __future__ import annotations

import types
import warnings
from typing import Any

import astropy.coordinates
import astropy.io.fits
import astropy.wcs
import astropy.wcs.utils
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lsst.dax.bulkcutout.boxes import Box
from lsst.dax.bulkcutout.errors import CorruptInputError, UserError
from lsst.dax.bulkcutout.header_wcs import HeaderWcs
from lsst.dax.bulkcutout.readers.celestial import celestial_wcs, has_celestial_wcs
from lsst.dax.bulkcutout.readers.fits_header import FitsHeader, read_cards
from lsst.dax.bulkcutout.wcs import TangentWcs, Wcs

NX, NY = 90, 70
X0, Y0 = -1234, 567
BBOX = Box(y0=Y0, y1=Y0 + NY, x0=X0, x1=X0 + NX)

SIP = {
    "A_ORDER": 2, "A_2_0": 2e-6, "A_1_1": -1e-6, "B_ORDER": 2, "B_0_2": -3e-6, "B_1_1": 2e-6,
    "AP_ORDER": 1, "AP_1_0": 0.0, "BP_ORDER": 1, "BP_0_1": 0.0,
}  # fmt: skip
TPV = {"PV1_0": 3e-4, "PV1_1": 1.0057, "PV1_2": -3e-4, "PV1_7": -4e-3, "PV2_1": 1.0058, "PV2_4": -1e-3}
PARAMETERS: dict[str, dict[str, float]] = {
    "COE": {"PV2_1": 40.0},
    "COP": {"PV2_1": 40.0},
    "COD": {"PV2_1": 40.0},
    "COO": {"PV2_1": 40.0},
    "BON": {"PV2_1": 40.0},
    "AZP": {"PV2_1": 2.0, "PV2_2": 10.0},
    "SZP": {"PV2_1": 2.0, "PV2_2": 150.0, "PV2_3": 75.0},
    "ZPN": {"PV2_1": 1.0, "PV2_3": 0.01},
    "TPV": TPV,
    "TAN-SIP": SIP,
}
PROJECTIONS = (
    "TAN SIN STG ARC ZEA AIR AZP SZP ZPN CYP CEA CAR MER SFL PAR MOL AIT COE COP COD COO BON PCO TSC HPX "
    "TPV TAN-SIP".split()
)


def make_header(projection: str = "TAN", **cards: Any) -> astropy.io.fits.Header:
    code, _, sip = projection.partition("-")
    header = astropy.io.fits.Header()
    header["NAXIS"], header["NAXIS1"], header["NAXIS2"] = 2, NX, NY
    for axis, name in ((1, "RA"), (2, "DEC")):
        header[f"CTYPE{axis}"] = f"{name:-<4}-{code}" + (f"-{sip}" if sip else "")
        header[f"CUNIT{axis}"] = "deg"
    header["CRPIX1"], header["CRPIX2"] = 61.25, -14.5
    header["CRVAL1"], header["CRVAL2"] = 211.5, 38.25
    header["CD1_1"], header["CD1_2"], header["CD2_1"], header["CD2_2"] = -7e-5, 1e-5, 2e-5, 7.2e-5
    header["RADESYS"] = "ICRS"
    for key, value in PARAMETERS.get(projection, {}).items():
        header[key] = value
    for key, value in cards.items():
        if value is None:
            del header[key]
        else:
            header[key] = value
    return header


def read(header: astropy.io.fits.Header, bbox: Box = BBOX) -> Wcs:
    return celestial_wcs(as_read(header), bbox)


def as_read(header: astropy.io.fits.Header) -> FitsHeader:
    file: Any = types.SimpleNamespace(
        path="sky.fits", corrupt=lambda what: CorruptInputError(f"sky.fits: {what}.")
    )
    return FitsHeader(file, "SCI", read_cards(header.tostring().encode("ascii")), 0, 0)


def source(header: astropy.io.fits.Header) -> astropy.wcs.WCS:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return astropy.wcs.WCS(header)


def expected_sky(header: astropy.io.fits.Header, x: Any, y: Any) -> astropy.coordinates.SkyCoord:
    """Positions of zero-based array pixels, by astropy alone."""
    return source(header).pixel_to_world(np.asarray(x, float), np.asarray(y, float)).icrs


def separation_deg(ra: Any, dec: Any, sky: astropy.coordinates.SkyCoord) -> Any:
    return astropy.coordinates.SkyCoord(ra, dec, unit="deg").separation(sky).deg


def check(header: astropy.io.fits.Header, tolerance_pixels: float = 1e-6) -> Wcs:
    """Corners, centre and more, both ways."""
    wcs = read(header)
    x = np.array([0, NX - 1, 0, NX - 1, NX / 2, 17.3, -20])
    y = np.array([0, 0, NY - 1, NY - 1, NY / 2, 5.75, NY + 9])
    sky = expected_sky(header, x, y)
    ra, dec = wcs.pixel_to_sky(x + X0, y + Y0)
    assert separation_deg(ra, dec, sky).max() < 1e-9
    assert ((ra >= 0) & (ra < 360)).all()
    back_x, back_y = wcs.sky_to_pixel(sky.ra.deg, sky.dec.deg)
    assert np.hypot(back_x - x - X0, back_y - y - Y0).max() < tolerance_pixels
    return wcs


@pytest.mark.parametrize("projection", PROJECTIONS)
def test_projection_is_that_of_the_image(projection: str) -> None:
    # wcslib itself loses some digits in a few of them.
    wcs = check(make_header(projection), 1e-5)
    assert isinstance(wcs, TangentWcs) == (projection == "TAN")


@settings(max_examples=60, deadline=None)
@given(
    projection=st.sampled_from(["TAN", "SIN", "STG", "ARC", "ZEA", "TPV", "TAN-SIP"]),
    ra=st.floats(0, 359.999),
    dec=st.floats(-89.9, 89.9),
    angle=st.floats(0, 6.28),
    flip=st.sampled_from([-1, 1]),
    scale=st.floats(0.05, 3),
    crpix=st.tuples(st.floats(-900, 900), st.floats(-900, 900)),
    system=st.sampled_from(["ICRS", "FK5"]),
)
def test_projection_is_right_anywhere_on_the_sky(
    projection: str,
    ra: float,
    dec: float,
    angle: float,
    flip: int,
    scale: float,
    crpix: tuple[float, float],
    system: str,
) -> None:
    """Poles and RA 0 included; rotated and flipped."""
    s, c = np.sin(angle) * scale / 3600, np.cos(angle) * scale / 3600
    check(
        make_header(
            projection, CRVAL1=ra, CRVAL2=dec, CRPIX1=crpix[0], CRPIX2=crpix[1], RADESYS=system,
            CD1_1=flip * c, CD1_2=-s, CD2_1=flip * s, CD2_2=c,
        )
    )  # fmt: skip


def test_axes_may_be_swapped() -> None:
    check(make_header("SIN", CTYPE1="DEC--SIN", CTYPE2="RA---SIN", CRVAL1=38.25, CRVAL2=211.5))


@pytest.mark.parametrize(
    "cards",
    [
        {"CTYPE1": "GLON-CAR", "CTYPE2": "GLAT-CAR", "CRVAL1": 1.0, "CRVAL2": 0.0, "RADESYS": None},
        {"CTYPE1": "GLAT-TAN", "CTYPE2": "GLON-TAN", "CRVAL1": -12.0, "CRVAL2": 359.9999},
        {"RADESYS": "FK5", "EQUINOX": 2000.0},
        {"RADESYS": None, "EQUINOX": 2000.0},
        {"RADESYS": "FK5", "EQUINOX": 1975.0},
        {"RADESYS": "FK4", "EQUINOX": 1950.0},
        {"RADESYS": None, "EQUINOX": 1950.0},
    ],
    ids=str,
)
def test_positions_are_icrs_whatever_the_frame(cards: dict[str, Any]) -> None:
    check(make_header(**cards))


def test_ecliptic_longitude_and_latitude() -> None:
    """Astropy has no frame for them in headers: the obliquity of J2000."""
    header = make_header(CTYPE1="ELON-TAN", CTYPE2="ELAT-TAN", CRVAL1=90.0, CRVAL2=0.0, RADESYS=None)
    wcs = read(header)
    ra, dec = wcs.pixel_to_sky(X0 + 60.25, Y0 - 15.5)
    # The summer solstice; ICRS and the mean equator of J2000 differ by 0.03".
    assert [float(ra), float(dec)] == pytest.approx([90.0, 23.4392911], abs=2e-5)
    assert wcs.sky_to_pixel(ra, dec) == pytest.approx((X0 + 60.25, Y0 - 15.5), abs=1e-6)


def test_tan_with_many_pv_is_distorted_as_scamp_means_it() -> None:
    """What SCAMP writes: CTYPE says TAN, the PV cards are those of TPV."""
    scamp = make_header("TPV", CTYPE1="RA---TAN", CTYPE2="DEC--TAN")
    wcs, tpv = check(scamp), read(make_header("TPV"))
    assert np.array(wcs.pixel_to_sky(X0, Y0)) == pytest.approx(np.array(tpv.pixel_to_sky(X0, Y0)), abs=1e-10)


def test_units_and_old_cards_are_understood() -> None:
    check(make_header("SIN", CUNIT1="arcsec", CUNIT2="arcsec", CRVAL1=211.5 * 3600, CRVAL2=38.25 * 3600,
                      CD1_1=-0.25, CD1_2=0.0, CD2_1=0.0, CD2_2=0.25))  # fmt: skip
    old = make_header(
        "ARC", CD1_1=None, CD1_2=None, CD2_1=None, CD2_2=None, CDELT1=-7e-5, CDELT2=7e-5, CROTA2=31.0
    )
    check(old)


def test_what_a_distortion_does_not_reach_has_no_pixel() -> None:
    """A polynomial that is followed too far has no inverse, or a false one."""
    header = make_header("TAN-SIP", A_2_0=2e-3, B_0_2=-3e-3)
    wcs = read(header)
    inside = wcs.pixel_to_sky(X0 + 40.0, Y0 + 30.0)
    ra = np.array([float(inside[0]), 211.5, 31.5, np.nan, 212.5])
    dec = np.array([float(inside[1]), -80.0, -38.0, 38.0, 91.0])
    x, y = wcs.sky_to_pixel(ra, dec)
    assert np.isnan(x).tolist() == np.isnan(y).tolist() == [False, True, True, True, True]
    assert (x[0], y[0]) == pytest.approx((X0 + 40.0, Y0 + 30.0), abs=1e-6)
    # Whatever has a pixel is really there.
    ra, dec = (v.ravel() for v in np.meshgrid(np.linspace(211, 212, 21), np.linspace(37.8, 38.8, 21)))
    x, y = wcs.sky_to_pixel(ra, dec)
    reached = np.isfinite(x)
    assert 0 < reached.sum() < len(ra)
    sky = expected_sky(header, x[reached] - X0, y[reached] - Y0)
    assert separation_deg(ra[reached], dec[reached], sky).max() < 1e-7


@pytest.mark.parametrize("projection", ["TPV", "TAN-SIP", "CAR", "TAN"])
def test_linear_terms_are_those_at_the_target(projection: str) -> None:
    """The plane at the target differs from the projection by less than a
    thousandth of a pixel ten pixels away, and not at all at the target.
    """
    header = make_header(projection, RADESYS="FK5" if projection != "TAN" else "ICRS")
    wcs = read(header)
    ra, dec = wcs.pixel_to_sky(np.array([X0 + 12.25, X0 + 80.0]), np.array([Y0 + 3.0, Y0 + 66.5]))
    terms = wcs.tangent_terms(ra, dec)
    x, y = wcs.sky_to_pixel(ra, dec)
    for row in range(2):
        plane = source(make_header())
        plane.wcs.crval, plane.wcs.crpix, plane.wcs.cd = terms.crval[row], terms.crpix[row] + 1, terms.cd[row]
        plane.wcs.set()
        at_target = plane.wcs_world2pix([[ra[row], dec[row]]], 0)[0]
        assert at_target == pytest.approx([x[row], y[row]], abs=1e-6)
        near = wcs.pixel_to_sky(x[row] + 10, y[row] - 10)
        beside = plane.wcs_world2pix([[float(near[0]), float(near[1])]], 0)[0]
        assert beside == pytest.approx([x[row] + 10, y[row] - 10], abs=1e-3)
    expected = np.sqrt(astropy.wcs.utils.proj_plane_pixel_area(source(header))) * 3600
    assert wcs.pixel_scale_arcsec == pytest.approx(expected, rel=0.01)


def test_cards_are_those_of_the_header_in_absolute_pixels() -> None:
    header = make_header("TPV", CRPIX1=1855.2)
    wcs = read(header)
    assert wcs == HeaderWcs(wcs.cards) and wcs != read(make_header("TPV"))
    cards = astropy.io.fits.Header.fromstring(wcs.cards, sep="\n")
    for key in ("CTYPE1", "CRVAL1", "CRVAL2", "CD1_2", "PV1_0", "PV2_4"):
        assert cards[key] == header[key]
    assert cards["CRPIX1"] - header["CRPIX1"] == pytest.approx(X0)
    assert cards["CRPIX2"] - header["CRPIX2"] == Y0


@pytest.mark.parametrize(
    ("cards", "message"),
    [
        ({"CTYPE1": None}, "CTYPE1 of SCI is 'missing'"),
        ({"CTYPE1": "FREQ"}, "CTYPE1 of SCI is 'FREQ'"),
        ({"CTYPE1": "RA---XYZ", "CTYPE2": "DEC--XYZ"}, "CTYPE1 of SCI is 'RA---XYZ'"),
        ({"CTYPE2": "DEC--SIN"}, "CTYPE2 of SCI is 'DEC--SIN'"),
        ({"CTYPE2": "RA---TAN"}, "CTYPE2 of SCI is 'RA---TAN'"),
        ({"CTYPE1": "RA---TNX", "CTYPE2": "DEC--TNX"}, "CTYPE1 of SCI is 'RA---TNX'"),
        ({"CTYPE1": "RA---SIN", "CTYPE2": "DEC--SIN", "CPDIS1": "LOOKUP"}, "CPDIS1 of SCI"),
        ({"RADESYS": "FK5", "CD1_1": 0.0, "CD1_2": 0.0}, "CTYPE1 of SCI.*wcslib refuses it.*ingular"),
        ({"CD1_1": None, "CD1_2": None, "CD2_1": None, "CD2_2": None}, "CDELT1 of SCI is 'missing'"),
        ({"RADESYS": "XYZ"}, "CTYPE1 of SCI|RADESYS"),
        ({"CTYPE1": "RA---TPV", "CTYPE2": "DEC--TPV", "PV1_1": 1.0, "PV1_4": 50000.0}, "no inverse"),
        ({"A_ORDER": 2, "A_2_0": 1e-2, "B_ORDER": 2, "B_0_2": 1e-2}, "no inverse"),
    ],
    ids=str,
)
def test_file_without_a_usable_wcs_is_refused_by_card(cards: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=f"sky.fits: .*({message})"):
        read(make_header(**cards))


@pytest.mark.parametrize("key", ["CRVAL1", "CRPIX2", "PV1_1"])
def test_card_that_is_no_number_is_damage(key: str) -> None:
    with pytest.raises(CorruptInputError, match=f"card {key} of SCI is"):
        read(make_header("TPV", **{key: "abc"}))


def test_celestial_axes_are_recognised() -> None:
    assert has_celestial_wcs(as_read(make_header("TAN-SIP")))
    assert not has_celestial_wcs(as_read(make_header(CTYPE2="FREQ")))
