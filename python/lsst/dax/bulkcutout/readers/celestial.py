# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""The celestial cards of a FITS header, where they are a plain tangent plane.

What goes beyond one (distortions, a turned pole, another frame) is refused:
cutouts carry a linear matrix about a tangent point and nothing else.
"""

from __future__ import annotations

import re

from ..errors import UserError
from ..wcs import TangentWcs
from .fits_header import FitsHeader

__all__ = ("tangent_wcs",)

_DISTORTION = re.compile(r"[AB]P?_ORDER|C[PQ]DIS\d|D[PQ]\d|CROTA\d|PV2_\d+")
_NATIVE_POLE_DEG = 180.0


def tangent_wcs(header: FitsHeader, *, x0: int, y0: int) -> TangentWcs:
    """The projection that a header describes.

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
    _refuse_others(header)
    crval = (header.number("CRVAL1"), header.number("CRVAL2"))
    _refuse_turned_pole(header, crval[1])
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


def _refuse_others(header: FitsHeader) -> None:
    for axis, wanted in ((1, "RA---TAN"), (2, "DEC--TAN")):
        _require(header, f"CTYPE{axis}", wanted, default="missing")
        _require(header, f"CUNIT{axis}", "deg", default="deg")
    for key in filter(_DISTORTION.fullmatch, header.values):
        if header.values[key] != 0:
            raise _refusal(header, key, header.values[key], "no such card")
    # FK5 differs from ICRS by 0.1 pixel. Without RADESYS the standard says
    # ICRS, but FK5 (or older) where there is an equinox.
    _require(header, "RADESYS", "ICRS", default="FK5" if "EQUINOX" in header.values else "ICRS")


def _refuse_turned_pole(header: FitsHeader, dec: float) -> None:
    # PV1_3 is another name of LONPOLE, and wins. The standard's default
    # depends on whether the tangent point is the pole itself.
    key = "PV1_3" if "PV1_3" in header.values else "LONPOLE"
    pole = header.number(key, _NATIVE_POLE_DEG if dec < 90.0 else 0.0)
    if pole != _NATIVE_POLE_DEG:
        raise _refusal(header, key, pole, f"{_NATIVE_POLE_DEG:g}")
    for key, default in (("PV1_0", 0.0), ("PV1_1", 0.0), ("PV1_2", 90.0)):
        if header.number(key, default) != default:
            raise _refusal(header, key, header.values[key], f"{default:g}")


def _require(header: FitsHeader, key: str, wanted: str, default: str) -> None:
    found = header.values.get(key, default)
    if found != wanted:
        raise _refusal(header, key, found, wanted)


def _refusal(header: FitsHeader, key: str, found: object, wanted: str) -> UserError:
    return UserError(
        f"{header.file.path}: {key} of {header.name} is {found!r}, allowed is {wanted}: only images in a "
        "plain tangent projection (TAN, ICRS) can be cut."
    )
