# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Floating-point pixels that are stored as scaled integers.

Section 10.2 of the FITS standard (4.0), with the sequence of random numbers
that all writers share: results are those of CFITSIO, bit by bit.
"""

from __future__ import annotations

import functools

import numpy as np

__all__ = ("DITHERS", "dequantize")

DITHERS = ("NO_DITHER", "NONE", "SUBTRACTIVE_DITHER_1", "SUBTRACTIVE_DITHER_2")
"""Values of ZQUANTIZ; the second is an older name of the first."""

_N_RANDOM = 10_000
_EXACT_ZERO = -2147483646


def dequantize(
    stored: np.ndarray, *, scale: float, zero: float, blank: int | None, dither: str, seed: int
) -> np.ndarray:
    """Undo quantization.

    Parameters
    ----------
    stored
        Integers of one tile, shape ``(n,)``.
    scale, zero
        Scale and zero point of the tile.
    blank
        The integer that stands for NaN.
    dither
        One of `DITHERS`.
    seed
        Zero-based number of the tile plus the file's seed (ZDITHER0).

    Returns
    -------
    pixels
        Float64, shape ``(n,)``. Rounding them to float32 is what remains to
        do.
    """
    pixels = stored.astype(np.float64)
    if dither.startswith("SUBTRACTIVE"):
        pixels -= _random(len(stored), (seed - 1) % _N_RANDOM)
        pixels += 0.5
    with np.errstate(all="ignore"):
        pixels *= scale
        pixels += zero
    if dither == "SUBTRACTIVE_DITHER_2":
        pixels[stored == _EXACT_ZERO] = 0.0
    if blank is not None:
        pixels[stored == blank] = np.nan
    return pixels


def _random(n_pixels: int, start: int) -> np.ndarray:
    """Numbers for the pixels of a tile: from a place in the sequence to its
    end, then from another place.
    """
    sequence, parts = _sequence(), []
    while n_pixels > 0:
        place = int(sequence[start] * np.float32(500))
        parts.append(sequence[place : place + n_pixels])
        n_pixels -= len(parts[-1])
        start = (start + 1) % _N_RANDOM
    return np.concatenate(parts)


@functools.cache
def _sequence() -> np.ndarray:
    """The generator of Park and Miller, as in appendix I of the standard."""
    values, seed = np.empty(_N_RANDOM, dtype=np.float32), 1
    for number in range(_N_RANDOM):
        seed = 16807 * seed % 2147483647
        values[number] = seed / 2147483647
    return values
