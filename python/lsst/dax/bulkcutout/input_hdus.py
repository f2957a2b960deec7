# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""What the HDUs of an input image are, for the comparison of pixels.

As `pixel_check`, this module imports nothing else of this package: it is a
part of the second opinion.
"""

from __future__ import annotations

import math
from typing import Any

import astropy.io.fits

__all__ = ("find_planes", "flux_of", "mask_values")

_NANOJANSKY = "nJy"
_UNITS = {"Jy": 1e9, "mJy": 1e6, "uJy": 1e3, "pJy": 1e-3} | {
    unit: 10 ** (31.4 / 2.5) * scale
    for scale, units in {
        1.0: ("mgy", "maggy", "maggies"),
        1e-9: ("nmgy", "nanomaggy", "nanomaggies", "nMgy"),
    }.items()
    for unit in units
}
_COUNTS = ("adu", "dn", "count", "counts", "ct", "cts", "electron", "electrons", "e-", "e")


def find_planes(hdus: astropy.io.fits.HDUList) -> dict[str, Any]:
    """Find image, mask and variance.

    Parameters
    ----------
    hdus
        All HDUs of the file.

    Returns
    -------
    planes
        HDUs by ``IMAGE``, ``MASK``, ``VARIANCE``: by name, else by type, else
        by order (integers are the mask).
    """
    images = [hdu for hdu in hdus if hdu.is_image and hdu.header.get("NAXIS", 0) >= 2]
    for key in ("EXTNAME", "EXTTYPE"):
        found: dict[str, Any] = {}
        for hdu in images:
            found.setdefault(str(hdu.header.get(key, "")).strip(), hdu)
        if "IMAGE" in found:
            return found
    if not images:
        raise ValueError("it has no image")
    found = {"IMAGE": images[0]}
    for hdu in images[1:3]:
        found.setdefault("MASK" if hdu.header["BITPIX"] > 0 else "VARIANCE", hdu)
    return found


def flux_of(hdus: astropy.io.fits.HDUList, header: astropy.io.fits.Header) -> tuple[str, float]:
    """Find out what the numbers of an image mean.

    Parameters
    ----------
    hdus
        All HDUs of the file.
    header
        Header of the image.

    Returns
    -------
    unit
        That of a product made of this image.
    factor
        What a number is multiplied with to be in it.
    """
    name = str(header.get("BUNIT") or "").strip()
    if name == _NANOJANSKY:
        return _NANOJANSKY, 1.0
    if (known := _UNITS.get(name)) is not None:
        return _NANOJANSKY, known
    if name and name.lower() not in _COUNTS:
        return name, 1.0
    for cards in (header, hdus[0].header):
        if "FLUXMAG0" in cards:
            return _NANOJANSKY, 10 ** ((31.4 - 2.5 * math.log10(cards["FLUXMAG0"])) / 2.5)
    if "PhotoCalib" in hdus and len(hdus["PhotoCalib"].data) == 1:
        row = hdus["PhotoCalib"].data[0]
        if row["flags"].ravel()[0]:
            return _NANOJANSKY, float(row["calibrationMean"])
    return name or "unknown", 1.0


def mask_values(header: astropy.io.fits.Header) -> dict[str, int]:
    """Read which bit is which mask plane.

    Parameters
    ----------
    header
        Header of the mask.

    Returns
    -------
    values
        Value of each plane by name: lsst.images' cards, or afw's.
    """
    values = {}
    for key in header:
        if key.startswith("MSKN"):
            values[str(header[key])] = int(header[f"MSKM{key[4:]}"])
        elif key.startswith("MP_"):
            values[key[3:]] = 1 << int(header[key])
    return values
