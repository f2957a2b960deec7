# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""From the numbers that are stored to pixels, and to their place.

Section 10.2 of the FITS standard (4.0). Every step is the one that CFITSIO
takes, in double precision and in its order, so that pixels are the same bit
by bit.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from .compiled import compiled

__all__ = (
    "N_RANDOM",
    "integers_to_floats",
    "integers_to_integers",
    "no_random_numbers",
    "random_numbers",
    "reals_to_floats",
)

N_RANDOM = 10_000
"""Length of the sequence of random numbers."""

_EXACT_ZERO = -2147483646
"""What SUBTRACTIVE_DITHER_2 stores for a zero."""


@functools.cache
def random_numbers() -> np.ndarray:
    """Give the numbers that all writers subtract: the generator of Park and
    Miller, as in appendix I of the standard.

    Returns
    -------
    numbers
        Float32, shape ``(N_RANDOM,)``.
    """
    values, seed = np.empty(N_RANDOM, dtype=np.float32), 1
    for number in range(N_RANDOM):
        seed = 16807 * seed % 2147483647
        values[number] = seed / 2147483647
    return values


@functools.cache
def no_random_numbers() -> np.ndarray:
    """Give numbers in place of random ones that do nothing.

    Returns
    -------
    numbers
        Float32, shape ``(N_RANDOM,)``: the half that is added again.
    """
    return np.full(N_RANDOM, 0.5, dtype=np.float32)


@compiled
def visible(tile: np.ndarray, extent: np.ndarray) -> tuple[int, int, int, int]:
    """Part of a tile that is wanted and lies on the canvas.

    Parameters
    ----------
    tile
        Row and column of its first pixel on the canvas, its rows and columns,
        and how many of the rows are wanted.
    extent
        Rows and columns of the canvas, and how many pixels its rows are
        apart.

    Returns
    -------
    part
        First row, row after the last, first column, column after the last,
        counted in the tile. Nothing if one is not less than the other.
    """
    y, x, height, width, wanted = tile[0], tile[1], tile[2], tile[3], tile[4]
    first_row, last_row = max(0, -y), min(min(height, wanted), extent[0] - y)
    begin, end = max(0, -x), min(width, extent[1] - x)
    if begin >= end:
        last_row = first_row
    return first_row, last_row, begin, end


@compiled
def _line(canvas: np.ndarray, extent: np.ndarray, row: int, begin: int, end: int) -> np.ndarray:
    """Pixels of the canvas; what is outside of it does not come."""
    first = row * extent[2] + begin
    return canvas[first : first + max(0, end - begin)]


@compiled
def _shift(
    stored: np.ndarray,
    random: np.ndarray,
    scale: float,
    zero: float,
    blank: int,
    has_blank: bool,
    keeps_zeros: bool,
    linear: np.ndarray,
    out: np.ndarray,
) -> None:
    b_scale, b_zero, factor = linear[0], linear[1], linear[2]
    for at in range(len(out)):
        number = stored[at]
        value: Any = (np.float64(number) - np.float64(random[at]) + 0.5) * scale + zero
        if keeps_zeros and number == _EXACT_ZERO:
            value = 0.0
        value = (value * b_scale + b_zero) * factor
        out[at] = np.nan if has_blank and number == blank else value


@compiled
def integers_to_floats(
    stored: np.ndarray,
    tile: np.ndarray,
    scale: float,
    zero: float,
    blank: int,
    has_blank: bool,
    is_plain: bool,
    keeps_zeros: bool,
    random: np.ndarray,
    linear: np.ndarray,
    canvas: np.ndarray,
    extent: np.ndarray,
) -> None:
    """Place scaled integers.

    Parameters
    ----------
    stored
        Integers of a tile, one row after the other.
    tile
        As in `visible`; then the place of the tile in the sequence of
        random numbers.
    scale, zero
        Of the quantization; 1 and -0.0 do nothing.
    blank, has_blank
        The integer that stands for NaN, if there is one.
    is_plain
        Whether the integers are the pixels: those of 64 bits must be rounded
        once only.
    keeps_zeros
        Whether there is one that stands for zero (SUBTRACTIVE_DITHER_2).
    random
        `random_numbers` or `no_random_numbers`.
    linear
        BSCALE, BZERO and a factor; 1, -0.0 and 1 do nothing.
    canvas
        Floats, one row after the other; filled where the tile lies.
    extent
        As in `visible`.
    """
    y, x, width = tile[0], tile[1], tile[3]
    first_row, last_row, begin, end = visible(tile, extent)
    if is_plain:
        for row in range(first_row, last_row):
            out = _line(canvas, extent, y + row, x + begin, x + end)
            numbers = stored[row * width + begin : row * width + end]
            for at in range(len(out)):
                out[at] = numbers[at]
                if has_blank and numbers[at] == blank:
                    out[at] = np.nan
        return
    turn = tile[5] % N_RANDOM
    place: Any = np.int64(random[turn] * np.float32(500))
    for row in range(last_row):
        done = 0
        # Pixels of a row up to the end of the sequence, then from another
        # place in it.
        while done < width:
            stop = min(width, done + N_RANDOM - place)
            low, high = max(done, begin), min(stop, end)
            if row >= first_row and low < high:
                numbers = stored[row * width + low : row * width + high]
                out = _line(canvas, extent, y + row, x + low, x + high)
                _shift(
                    numbers,
                    random[place + low - done :],
                    scale,
                    zero,
                    blank,
                    has_blank,
                    keeps_zeros,
                    linear,
                    out,
                )
            place += stop - done
            done = stop
            if place >= N_RANDOM:
                turn = (turn + 1) % N_RANDOM
                place = np.int64(random[turn] * np.float32(500))


@compiled
def reals_to_floats(
    stored: np.ndarray, tile: np.ndarray, linear: np.ndarray, canvas: np.ndarray, extent: np.ndarray
) -> None:
    """Place floating-point numbers.

    Parameters
    ----------
    stored
        Numbers of a tile, one row after the other.
    tile, linear, canvas, extent
        As in `integers_to_floats`.
    """
    y, x, width = tile[0], tile[1], tile[3]
    first_row, last_row, begin, end = visible(tile, extent)
    b_scale, b_zero, factor = linear[0], linear[1], linear[2]
    for row in range(first_row, last_row):
        out = _line(canvas, extent, y + row, x + begin, x + end)
        numbers = stored[row * width + begin : row * width + end]
        for at in range(len(out)):
            out[at] = (np.float64(numbers[at]) * b_scale + b_zero) * factor


@compiled
def integers_to_integers(
    stored: np.ndarray, tile: np.ndarray, zero: int, canvas: np.ndarray, extent: np.ndarray
) -> None:
    """Place integers as they are.

    Parameters
    ----------
    stored
        Integers of a tile, one row after the other.
    tile, extent
        As in `integers_to_floats`.
    zero
        What is added to each (BZERO).
    canvas
        Integers, one row after the other; filled where the tile lies.
    """
    y, x, width = tile[0], tile[1], tile[3]
    first_row, last_row, begin, end = visible(tile, extent)
    for row in range(first_row, last_row):
        out = _line(canvas, extent, y + row, x + begin, x + end)
        numbers = stored[row * width + begin : row * width + end]
        for at in range(len(out)):
            out[at] = numbers[at] + zero
