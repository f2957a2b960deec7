# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""The celestial cards of a FITS header become a projection.

A plain tangent plane in ICRS, which coadds have, needs a few numbers; what
goes beyond one (other projections, distortions, a turned pole, other frames)
is left to wcslib.
"""

from __future__ import annotations

import re

import numpy as np

from ..boxes import Box
from ..errors import UserError
from ..header_wcs import HeaderWcs
from ..wcs import TangentWcs, Wcs
from .fits_header import CardValue, FitsHeader

__all__ = ("celestial_wcs", "has_celestial_wcs", "tangent_wcs")

INVERSE_TOLERANCE_PIXELS = 0.01
"""How far from itself a pixel may come back from the sky."""

_PROJECTIONS = frozenset(
    "AZP SZP TAN STG SIN ARC ZPN ZEA AIR CYP CEA CAR MER SFL PAR MOL AIT COP COE COD COO BON PCO TSC CSC QSC "
    "HPX XPH TPV".split()
)
_LONGITUDES = {"RA": "DEC", "GLON": "GLAT", "ELON": "ELAT"}
_CELESTIAL = re.compile(r"(RA|DEC|[GE]LON|[GE]LAT)-+([A-Z]{3})(-SIP)?")
# What wcslib needs of a header for two axes, but for the time.
_CARDS = re.compile(
    r"CTYPE[12]|CUNIT[12]|CRVAL[12]|CRPIX[12]|CDELT[12]|CROTA[12]|(PC|CD)[12]_[12]|PV[12]_\d+|"
    r"[AB]P?_(ORDER|DMAX|\d+_\d+)|RADE(CSYS|SYS)|EQUINOX|EPOCH|LONPOLE|LATPOLE"
)
_LOOKUP = re.compile(r"C[PQ]DIS[12]|D2IMDIS[12]|AXISCORR|D2IM1?\d*|WAT[12]_001")
_DISTORTION = re.compile(r"[AB]P?_ORDER|C[PQ]DIS\d|D[PQ]\d|CROTA\d|PV1_([5-9]|\d\d+)|PV2_\d+")
_NATIVE_POLE_DEG = 180.0


def has_celestial_wcs(header: FitsHeader) -> bool:
    """Whether a header says that two axes are on the sky.

    Parameters
    ----------
    header
        Header of an image HDU.

    Returns
    -------
    has
        Whether both of its first axes have celestial CTYPE cards; they may
        still be wrong.
    """
    return all(_CELESTIAL.match(str(header.values.get(f"CTYPE{axis}", "")).strip()) for axis in (1, 2))


def celestial_wcs(header: FitsHeader, bbox: Box) -> Wcs:
    """The projection that a header describes, whatever it is.

    Parameters
    ----------
    header
        Header of an image HDU.
    bbox
        Absolute pixels of the image.

    Returns
    -------
    wcs
        The same projection in zero-based absolute pixels; a `TangentWcs` if
        it is a plain tangent plane in ICRS.

    Raises
    ------
    UserError
        Raised if there is none, it is of a kind that is not known, or it has
        no inverse on the image.
    CorruptInputError
        Raised if a card is missing or has the wrong type.
    """
    if not any(re.match(r"CD(ELT)?[12]|PC[12]", key) for key in header.values) and has_celestial_wcs(header):
        # The standard's default is a degree, which nobody means.
        raise _refusal(header, "CDELT1", "missing", "the scale of the pixels must be stated (CDELT or CD)")
    if _first_other(header) is None:
        return tangent_wcs(header, x0=bbox.x0, y0=bbox.y0)
    _check_kind(header)
    shift = {"CRPIX1": bbox.x0, "CRPIX2": bbox.y0}
    lines = ["WCSAXES =                    2"]
    for key in filter(_CARDS.fullmatch, header.values):
        value = header.values[key]
        if key in shift:
            value = header.number(key) + shift[key]
        elif key.startswith(("CRVAL", "CDELT", "CROTA", "PC", "CD", "PV", "A_", "B_", "AP_", "BP_")):
            value = header.number(key)
            if key.endswith("_ORDER"):
                value = header.integer(key, minimum=0)
        lines.append(_card(key, value))
    for axis in (1, 2):
        header.number(f"CRVAL{axis}")
        header.number(f"CRPIX{axis}")
    wcs = HeaderWcs("\n".join(lines))
    _check_inverse(header, wcs, bbox)
    return wcs


def tangent_wcs(header: FitsHeader, *, x0: int, y0: int) -> TangentWcs:
    """The plain tangent plane that a header describes.

    Parameters
    ----------
    header
        Header of an image HDU.
    x0, y0
        Absolute position of the first pixel of the image.

    Returns
    -------
    wcs
        The same projection in zero-based absolute pixels.

    Raises
    ------
    UserError
        Raised if the projection is not a plain tangent plane in ICRS.
    CorruptInputError
        Raised if a card is missing or has the wrong type.
    """
    if (other := _first_other(header)) is not None:
        raise UserError(
            f"{header.file.path}: {other[0]} of {header.name} is {other[1]!r}, allowed is {other[2]}: only "
            "images in a plain tangent projection (TAN, ICRS) can be cut."
        )
    crval = (header.number("CRVAL1"), header.number("CRVAL2"))
    if any(f"CD{i}_{j}" in header.values for i in (1, 2) for j in (1, 2)):
        cd = [[header.number(f"CD{i}_{j}", 0.0) for j in (1, 2)] for i in (1, 2)]
    else:
        # Cards that have their default value are left out of many headers.
        cd = [
            [
                header.number(f"CDELT{i}", 1.0) * header.number(f"PC{i}_{j}", 1.0 if i == j else 0.0)
                for j in (1, 2)
            ]
            for i in (1, 2)
        ]
    if cd[0][0] * cd[1][1] == cd[0][1] * cd[1][0]:
        raise header.file.corrupt(f"the pixel matrix of {header.name} is singular")
    return TangentWcs(
        crval=crval,
        crpix=(header.number("CRPIX1") - 1.0 + x0, header.number("CRPIX2") - 1.0 + y0),
        cd=((cd[0][0], cd[0][1]), (cd[1][0], cd[1][1])),
    )


def _first_other(header: FitsHeader) -> tuple[str, CardValue, str] | None:
    """The first card that a plain tangent plane in ICRS does not have: its
    keyword and value, and what would be allowed.
    """
    values = header.values
    wanted: list[tuple[str, CardValue, CardValue]] = []
    for axis, name in ((1, "RA---TAN"), (2, "DEC--TAN")):
        wanted += [(f"CTYPE{axis}", "missing", name), (f"CUNIT{axis}", "deg", "deg")]
    for key, default, allowed in wanted:
        if (found := values.get(key, default)) != allowed:
            return key, found, str(allowed)
    for key in filter(_DISTORTION.fullmatch, values):
        if values[key] != 0:
            return key, values[key], "no such card"
    # FK5 differs from ICRS by 0.1 pixel. Without RADESYS the standard says
    # ICRS, but FK5 (or older) where there is an equinox.
    if (found := values.get("RADESYS", "FK5" if "EQUINOX" in values else "ICRS")) != "ICRS":
        return "RADESYS", found, "ICRS"
    # PV1_3 is another name of LONPOLE, and wins. The standard's default
    # depends on whether the tangent point is the pole itself.
    key = "PV1_3" if "PV1_3" in values else "LONPOLE"
    pole = header.number(key, _NATIVE_POLE_DEG if header.number("CRVAL2") < 90.0 else 0.0)
    if pole != _NATIVE_POLE_DEG:
        return key, pole, f"{_NATIVE_POLE_DEG:g}"
    for key, usual in (("PV1_0", 0.0), ("PV1_1", 0.0), ("PV1_2", 90.0)):
        if header.number(key, usual) != usual:
            return key, values[key], f"{usual:g}"
    return None


def _check_kind(header: FitsHeader) -> None:
    """Refuse what wcslib does not know, or what needs more than cards."""
    kinds = []
    for axis in (1, 2):
        key = f"CTYPE{axis}"
        found = header.values.get(key)
        match = _CELESTIAL.fullmatch(str(found).strip())
        if match is None or match[2] not in _PROJECTIONS:
            raise _refusal(
                header,
                key,
                found if key in header.values else "missing",
                "a position on the sky is needed, as in RA---TAN, DEC--SIN or GLON-CAR",
            )
        kinds.append(match)
    names = {match[1] for match in kinds}
    if names not in [{lon, lat} for lon, lat in _LONGITUDES.items()] or kinds[0][2] != kinds[1][2]:
        raise _refusal(header, "CTYPE2", header.values["CTYPE2"], f"it does not go with {kinds[0][0]}")
    for key in filter(_LOOKUP.fullmatch, header.values):
        if key.startswith("WAT") and "tnx" not in str(header.values[key]).lower():
            continue
        raise _refusal(header, key, header.values[key], "distortions by tables are not read here")


def _check_inverse(header: FitsHeader, wcs: HeaderWcs, bbox: Box) -> None:
    """Follow corners and centre to the sky and back."""
    x = np.array([(bbox.x0 + bbox.x1 - 1) / 2, bbox.x0, bbox.x1 - 1, bbox.x0, bbox.x1 - 1])
    y = np.array([(bbox.y0 + bbox.y1 - 1) / 2, bbox.y0, bbox.y0, bbox.y1 - 1, bbox.y1 - 1])
    try:
        sky = wcs.pixel_to_sky(x, y)
        there = np.isfinite(sky[0])
        back = wcs.sky_to_pixel(*sky)
    except (ValueError, ArithmeticError) as error:
        # wcslib and astropy have many ways to say that cards make no sense.
        reason = " ".join(str(error).split())
        raise _refusal(header, "CTYPE1", header.values["CTYPE1"], f"wcslib refuses it: {reason}") from error
    off = np.hypot(back[0] - x, back[1] - y)
    # The corners of a map of the whole sky may lie outside of it.
    if not there[0] or not (off[there] <= INVERSE_TOLERANCE_PIXELS).all():
        worst = int(np.argmax(np.where(np.isnan(off), np.inf, off)))
        found = "nowhere" if np.isnan(off[worst]) else f"({back[0][worst]:.3f}, {back[1][worst]:.3f})"
        raise _refusal(
            header,
            "CTYPE1",
            header.values["CTYPE1"],
            f"the projection has no inverse: from the sky pixel ({x[worst]:g}, {y[worst]:g}) comes back "
            f"{'as ' if found != 'nowhere' else ''}{found}",
        )


def _card(key: str, value: CardValue) -> str:
    if isinstance(value, str):
        quoted = "'" + value.replace("'", "''").ljust(8) + "'"
        return f"{key:8}= {quoted}"
    return f"{key:8}= {value!r:>20}".replace("e", "E")


def _refusal(header: FitsHeader, key: str, found: object, why: str) -> UserError:
    return UserError(f"{header.file.path}: {key} of {header.name} is {found!r}: {why}.")
