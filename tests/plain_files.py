# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Plain FITS images for tests, written by astropy.

A pixel of image ``number`` holds ``number * 10**6 + y * 1000 + x``, with the
array's own y and x.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import astropy.io.fits
import astropy.wcs
import numpy as np

__all__ = ("SHAPE", "coded", "header", "sky", "write")

SHAPE = (70, 90)
"""Rows and columns; not square."""


def header(projection: str = "TAN", **cards: Any) -> astropy.io.fits.Header:
    """Celestial cards, some way off the image's middle; `None` leaves out."""
    made = astropy.io.fits.Header()
    for axis, name in ((1, "RA"), (2, "DEC")):
        made[f"CTYPE{axis}"] = f"{name:-<4}-{projection}"
        made[f"CUNIT{axis}"] = "deg"
    made["CRPIX1"], made["CRPIX2"] = 61.25, -14.5
    made["CRVAL1"], made["CRVAL2"] = 211.5, 38.25
    made["CD1_1"], made["CD1_2"], made["CD2_1"], made["CD2_2"] = -7e-5, 1e-5, 2e-5, 7.2e-5
    made["RADESYS"] = "ICRS"
    for key, value in cards.items():
        if value is None:
            made.remove(key)
        else:
            made[key] = value
    return made


def coded(number: int = 0, shape: tuple[int, int] = SHAPE) -> np.ndarray:
    """Pixels that tell image, y and x."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    return (number * 1e6 + y * 1000 + x).astype(np.float32)


def write(path: Path, pixels: np.ndarray, cards: astropy.io.fits.Header | None = None, **more: Any) -> Path:
    """Write a primary HDU, or with ``name`` an extension."""
    cards = (header() if cards is None else cards).copy()
    name = more.pop("name", None)
    for key, value in more.items():
        cards[key] = value
    if name is None:
        hdus = [astropy.io.fits.PrimaryHDU(pixels, cards)]
    else:
        hdus = [astropy.io.fits.PrimaryHDU(), astropy.io.fits.ImageHDU(pixels, cards, name=name)]
    path.parent.mkdir(parents=True, exist_ok=True)
    astropy.io.fits.HDUList(hdus).writeto(path)
    return path


def sky(path: Path, x: Any, y: Any, hdu: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """ICRS positions of zero-based array pixels, by astropy."""
    found = astropy.wcs.WCS(astropy.io.fits.getheader(path, hdu)).pixel_to_world(x, y).icrs
    return found.ra.deg, found.dec.deg
