# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Numbers from their bytes: the highest first, or (GZIP_2) first the highest
bytes of all pixels, then the second ones, and so on.
"""

from __future__ import annotations

import numpy as np

from .compiled import compiled
from .machine import big_endian_32

__all__ = ("join_bytes",)


@compiled
def _one_byte(column: np.ndarray, out: np.ndarray) -> None:
    for pixel in range(len(out)):
        out[pixel] = column[pixel]


@compiled
def _four_columns(
    high: np.ndarray, upper: np.ndarray, lower: np.ndarray, low: np.ndarray, out: np.ndarray
) -> None:
    for pixel in range(len(out)):
        out[pixel] = (
            (np.uint32(high[pixel]) << np.uint32(24))
            | (np.uint32(upper[pixel]) << np.uint32(16))
            | (np.uint32(lower[pixel]) << np.uint32(8))
            | np.uint32(low[pixel])
        )


@compiled
def join_bytes(
    stream: np.ndarray,
    first: int,
    pixel_bytes: int,
    n_pixels: int,
    begin: int,
    end: int,
    is_shuffled: bool,
    bits: np.ndarray,
) -> bool:
    """Put the bytes of pixels together.

    Parameters
    ----------
    stream
        Bytes.
    first
        Where the tile begins in them.
    pixel_bytes
        Bytes of a pixel: 1, 2, 4 or 8.
    n_pixels
        Pixels of the tile.
    begin, end
        Which of them are wanted.
    is_shuffled
        Whether all the highest bytes come first.
    bits
        Uint32, or uint64 for eight bytes; filled with the pixels. Those of
        two bytes get a sign, those of one do not have one.

    Returns
    -------
    complete
        Whether the stream had all of them.
    """
    is_inside = 0 <= first and first + n_pixels * pixel_bytes <= len(stream)
    if not is_inside or begin < 0 or end > n_pixels or end > len(bits):
        return False
    # Slices and loops from zero, so that the compiler sees what is contiguous.
    out, count = bits[begin:end], end - begin
    place = first + begin
    if pixel_bytes == 1:
        _one_byte(stream[place : place + count], out)
    elif pixel_bytes == 4 and not is_shuffled:
        place = first + 4 * begin
        for pixel in range(count):
            out[pixel] = big_endian_32(stream, place + 4 * pixel)
    elif pixel_bytes == 4:
        _four_columns(
            stream[place : place + count],
            stream[place + n_pixels : place + n_pixels + count],
            stream[place + 2 * n_pixels : place + 2 * n_pixels + count],
            stream[place + 3 * n_pixels : place + 3 * n_pixels + count],
            out,
        )
    else:
        step, stride = (n_pixels, 1) if is_shuffled else (1, pixel_bytes)
        place = first + begin * stride
        for pixel in range(count):
            word = np.uint64(0)
            for byte in range(pixel_bytes):
                word = (word << np.uint64(8)) | np.uint64(stream[place + pixel * stride + byte * step])
            out[pixel] = word
    if pixel_bytes == 2:
        for pixel in range(count):
            out[pixel] = np.uint32(np.int32(np.int16(out[pixel])))
    return True
