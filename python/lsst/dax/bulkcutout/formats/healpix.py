# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""HEALPix index of many positions at once, in the nested numbering."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ("nested_pixel",)


def nested_pixel(ra: Any, dec: Any, order: int) -> np.ndarray:
    """HEALPix pixels that hold positions.

    Parameters
    ----------
    ra, dec
        ICRS degrees, of any one shape.
    order
        Order of the pixelisation: ``nside = 2**order``, at most 29.

    Returns
    -------
    pixel
        Nested pixel numbers, int64, of the same shape.

    Notes
    -----
    The formulae of Gorski et al. (2005), section 4.1; a base pixel and the
    place ``(ix, iy)`` inside it, whose bits are then interleaved.
    (`lsst.sphgeom` does one position a call, too slow for millions.)
    """
    nside = 1 << order
    z = np.sin(np.radians(np.asarray(dec, dtype=np.float64)))
    # Longitude in units of 90 degrees, in [0, 4).
    turn = (np.asarray(ra, dtype=np.float64) % 360.0) / 90.0
    turn = np.where(turn >= 4.0, 0.0, turn)
    base, ix, iy = _equatorial(z, turn, nside)
    polar_base, polar_ix, polar_iy = _polar(z, np.radians(dec), turn, nside)
    polar = np.abs(z) > 2.0 / 3.0
    base = np.where(polar, polar_base, base)
    ix, iy = np.where(polar, polar_ix, ix), np.where(polar, polar_iy, iy)
    return np.asarray(base * nside * nside + (_spread_bits(ix) | (_spread_bits(iy) << 1)))


def _equatorial(z: np.ndarray, turn: np.ndarray, nside: int) -> tuple[np.ndarray, ...]:
    # The two families of diagonal lines that bound the equatorial pixels.
    ascending = np.floor(nside * (0.5 + turn - 0.75 * z)).astype(np.int64)
    descending = np.floor(nside * (0.5 + turn + 0.75 * z)).astype(np.int64)
    column, row = ascending // nside, descending // nside
    base = np.where(column == row, column % 4 + 4, np.where(column < row, column % 4, row % 4 + 8))
    return base, descending % nside, nside - 1 - ascending % nside


def _polar(z: np.ndarray, dec_rad: Any, turn: np.ndarray, nside: int) -> tuple[np.ndarray, ...]:
    quarter = np.minimum(np.floor(turn).astype(np.int64), 3)
    within = turn - quarter
    # sqrt(3 (1 - |z|)) loses digits near the poles; this form does not.
    distance = nside * np.sqrt(6.0) * np.sin((np.pi / 2 - np.abs(dec_rad)) / 2)
    ascending = np.minimum(np.floor(within * distance).astype(np.int64), nside - 1)
    descending = np.minimum(np.floor((1.0 - within) * distance).astype(np.int64), nside - 1)
    north = z >= 0
    base = np.where(north, quarter, quarter + 8)
    ix = np.where(north, nside - 1 - descending, ascending)
    iy = np.where(north, nside - 1 - ascending, descending)
    return base, ix, iy


def _spread_bits(value: np.ndarray) -> np.ndarray:
    # Bit n goes to bit 2 n.
    value = value.astype(np.int64)
    for shift, keep in (
        (16, 0x0000FFFF0000FFFF),
        (8, 0x00FF00FF00FF00FF),
        (4, 0x0F0F0F0F0F0F0F0F),
        (2, 0x3333333333333333),
        (1, 0x5555555555555555),
    ):
        value = (value | (value << shift)) & keep
    return value
