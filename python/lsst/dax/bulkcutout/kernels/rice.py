# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""The Rice algorithm of tiled compression (RICE_1).

Section 10.4.1 of the FITS standard (4.0). A stream begins with the first
pixel as it is. Then come blocks of pixels, each with a code of three to five
bits: zero when all pixels are as the last one, a largest one when differences
are stored as they are, and else one more than the number of low bits that
follow the unary high part of each difference.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .compiled import compiled
from .machine import big_endian_64, leading_zeros

__all__ = ("MARGIN", "unrice")

MARGIN = 64
"""Bytes that an array of streams must have behind the last one, beyond eight
for each pixel of a block."""

_ONE, _WORD, _FILLED = np.uint64(1), np.uint64(64), np.uint64(56)
_ENOUGH = np.uint64(32)


@compiled
def _fill(
    stream: np.ndarray, place: Any, window: np.uint64, have: np.uint64
) -> tuple[int, np.uint64, np.uint64]:
    """Have at least 56 bits in the window, of which the highest come next."""
    window |= big_endian_64(stream, place) >> have
    place += np.int64((np.uint64(63) - have) >> np.uint64(3))
    return place, window, have | _FILLED


@compiled
def _difference(mapped: np.uint32) -> np.uint32:
    """Signed numbers are stored as 0, -1, 1, -2, 2..."""
    return np.uint32((mapped >> np.uint32(1)) ^ (np.uint32(0) - (mapped & np.uint32(1))))


@compiled
def unrice(
    stream: np.ndarray,
    first: int,
    stop: int,
    block_pixels: int,
    pixel_bytes: int,
    n_pixels: int,
    n_wanted: int,
    pixels: np.ndarray,
) -> bool:
    """Undo Rice compression.

    Parameters
    ----------
    stream
        Bytes, with eight for each pixel of a block and `MARGIN` behind
        ``stop``.
    first, stop
        Where the stream is in it.
    block_pixels
        Pixels that share a code (BLOCKSIZE).
    pixel_bytes
        Bytes of a pixel: 1, 2 or 4 (BYTEPIX).
    n_pixels
        Pixels of the tile.
    n_wanted
        Pixels that are wanted; those of their last block come with them.
    pixels
        Int32, filled with them; those of one byte are unsigned.

    Returns
    -------
    complete
        Whether the stream had all of them.
    """
    if pixel_bytes == 4:
        code_bits, raw_code, raw_bits = np.uint64(5), 25, np.uint64(32)
    elif pixel_bytes == 2:
        code_bits, raw_code, raw_bits = np.uint64(4), 14, np.uint64(16)
    else:
        code_bits, raw_code, raw_bits = np.uint64(3), 6, np.uint64(8)
    if first < 0 or stop - first < pixel_bytes or stop + 8 * block_pixels + MARGIN > len(stream):
        return False
    if n_wanted > n_pixels or n_pixels > len(pixels):
        return False
    # Arithmetic is modulo 2**32, whatever the size of a pixel.
    value = np.uint32(big_endian_64(stream, first) >> (_WORD - raw_bits))
    place, window, have = first + pixel_bytes, np.uint64(0), np.uint64(0)
    begin = 0
    while begin < n_wanted:
        end = min(begin + block_pixels, n_pixels)
        place, window, have = _fill(stream, place, window, have)
        code = np.int64(window >> (_WORD - code_bits)) - 1
        window <<= code_bits
        have -= code_bits
        if code < 0:
            for at in range(begin, end):
                pixels[at] = np.int32(value)
        elif code == raw_code:
            for at in range(begin, end):
                if have < _ENOUGH:
                    place, window, have = _fill(stream, place, window, have)
                value += _difference(np.uint32(window >> (_WORD - raw_bits)))
                pixels[at] = np.int32(value)
                window <<= raw_bits
                have -= raw_bits
        else:
            bits = np.uint64(code)
            drop = np.uint64(63) - bits
            for at in range(begin, end):
                if have < _ENOUGH:
                    place, window, have = _fill(stream, place, window, have)
                zeros = leading_zeros(window)
                used = zeros + _ONE + bits
                if used > have:
                    # Hardly ever: a very large step, or damage. Such pixels
                    # may take more than the margin has for each.
                    if place > stop + 8:
                        return False
                    zeros = np.uint64(0)
                    while leading_zeros(window) >= have:
                        zeros += have
                        place, window, have = _fill(stream, place, np.uint64(0), np.uint64(0))
                        if place > stop + 8:
                            return False
                    more = leading_zeros(window)
                    zeros += more
                    window = window << more
                    have -= more
                    place, window, have = _fill(stream, place, window, have)
                    used = _ONE + bits
                    low = ((window << _ONE) >> _ONE) >> drop
                else:
                    low = (((window << zeros) << _ONE) >> _ONE) >> drop
                window <<= used
                have -= used
                value += _difference(np.uint32((zeros << bits) | low))
                pixels[at] = np.int32(value)
        if place * 8 - np.int64(have) > stop * 8:
            return False
        begin = end
    if pixel_bytes == 2:
        for at in range(begin):
            pixels[at] = np.int32(np.int16(pixels[at]))
    elif pixel_bytes == 1:
        for at in range(begin):
            pixels[at] &= 255
    return True
