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
import numpy as np

__all__ = ("find_planes", "flux_of", "mask_values", "stitch_cells")

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


def stitch_cells(hdus: astropy.io.fits.HDUList) -> astropy.io.fits.HDUList:
    """Put together the cells of the older layout of cell coadds.

    Parameters
    ----------
    hdus
        All HDUs of the file.

    Returns
    -------
    hdus
        Image, mask, variance, noise and mask fractions as HDUs of their own;
        the same as given for files of other layouts.
    """
    if len(hdus) < 2 or "GRCELL1" not in hdus[1].header:
        return hdus
    header, rows = hdus[1].header, hdus[1].data
    (nx, mx, x0, ox), (ny, my, y0, oy) = (
        [header[f"{card}{axis}"] for card in ("GRCELL", "GRSHAPE", "GRMIN", "OCELL")] for axis in (1, 2)
    )
    bx, by = (ox - nx) // 2, (oy - ny) // 2
    bits = {str(name): int(bit) for name, bit in hdus["MASKDEF"].data}
    shape = (my * ny + 2 * by, mx * nx + 2 * bx)
    columns = {"IMAGE": "image", "MASK": "mask", "VARIANCE": "variance"}
    columns |= {f"NOISE_REALIZATIONS/{n}": f"noise_{n:02}" for n in range(header.get("NNOISE", 0))}
    if "maskfrac" in rows.names:
        columns["MASK_FRACTIONS/MASKFRAC"] = "maskfrac"
    planes = {name: np.full(shape, np.nan, dtype=np.float32) for name in columns}
    planes["MASK"] = np.full(shape, 1 << bits.get("NO_DATA", 0), dtype=np.int32)
    # Cells overlap: what is inside one counts, and the border at the edge.
    for row in rows:
        cx, cy = (int(value) for value in row["cell_id"])
        left, right = (0 if cx == 0 else bx), (ox if cx == mx - 1 else ox - bx)
        low, high = (0 if cy == 0 else by), (oy if cy == my - 1 else oy - by)
        there = np.s_[cy * ny + low : cy * ny + high, cx * nx + left : cx * nx + right]
        for name, plane in planes.items():
            plane[there] = row[columns[name]].reshape(oy, ox)[low:high, left:right]
    result = astropy.io.fits.HDUList([astropy.io.fits.PrimaryHDU()])
    for name, plane in planes.items():
        cards = hdus[0].header.copy(strip=True)
        cards["CRPIX1"] -= x0 - bx
        cards["CRPIX2"] -= y0 - by
        cards["LTV1"], cards["LTV2"] = float(bx - x0), float(by - y0)
        if name != "MASK":
            cards["BUNIT"] = header["TUNIT2"]
        for plane_name, bit in bits.items() if name == "MASK" else ():
            cards[f"HIERARCH MP_{plane_name}"] = bit
        result.append(astropy.io.fits.ImageHDU(plane, cards, name=name))
    return result


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
