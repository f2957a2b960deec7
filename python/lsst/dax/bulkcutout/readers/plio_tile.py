# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Tiles that are compressed as pixel lists (PLIO_1), as masks often are.

A line list is a sequence of 16-bit words: four bits say what to do, twelve
how often or by how much (section 10.4.3 of the FITS standard 4.0).
"""

from __future__ import annotations

import numpy as np

__all__ = ("unplio",)

_ZEROS, _SET_HIGH, _RAISE, _LOWER, _HIGHS, _ZEROS_THEN_HIGH, _RAISE_ONE, _LOWER_ONE = range(8)
_OLD_HEADER_WORDS = 3


def unplio(packed: bytes, *, n_pixels: int) -> np.ndarray:
    """Undo PLIO compression.

    Parameters
    ----------
    packed
        The whole line list, big-endian words.
    n_pixels
        Number of pixels in it.

    Returns
    -------
    pixels
        Int32, shape ``(n_pixels,)``; pixels that the list says nothing of
        are zero.

    Raises
    ------
    ValueError
        Raised if the list is cut short, or tells of more pixels.
    """
    operations, operands, high = _instructions(_words(packed))
    counts = np.zeros(len(operations), dtype=np.int64)
    is_run = (operations == _ZEROS) | (operations == _HIGHS) | (operations == _ZEROS_THEN_HIGH)
    counts[is_run] = operands[is_run]
    counts[(operations == _RAISE_ONE) | (operations == _LOWER_ONE)] = 1
    if counts.sum() > n_pixels:
        raise ValueError(f"it has {counts.sum()} pixels instead of {n_pixels}")
    is_empty = (operations == _ZEROS) | (operations == _ZEROS_THEN_HIGH)
    pixels = np.zeros(n_pixels, dtype=np.int32)
    pixels[: counts.sum()] = np.repeat(np.where(is_empty, 0, high), counts)
    last = (operations == _ZEROS_THEN_HIGH) & (counts > 0)
    pixels[counts.cumsum()[last] - 1] = high[last]
    return pixels


def _words(packed: bytes) -> np.ndarray:
    """The instructions, without the header of the list."""
    words = np.frombuffer(packed[: len(packed) // 2 * 2], dtype=">i2").astype(np.int64)
    if len(words) < _OLD_HEADER_WORDS:
        raise ValueError("the line list has no header")
    if words[2] > 0:
        first, length = _OLD_HEADER_WORDS, int(words[2])
    elif len(words) < 5:
        raise ValueError("the line list has no header")
    else:
        first, length = int(words[1]), (int(words[4]) << 15) + int(words[3])
    if not 0 <= first <= length <= len(words):
        raise ValueError(f"the line list has {len(words)} words instead of {length}")
    return words[first:length] & 0xFFFF


def _instructions(words: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Operation, operand and the high value after it, for each word."""
    operations, operands = words >> 12, words & 0xFFF
    absolute = np.zeros(len(words), dtype=np.int64)
    is_set = np.zeros(len(words), dtype=bool)
    skip = -1
    # The word after such an instruction is a number, whatever it looks like.
    for place in np.flatnonzero(operations == _SET_HIGH).tolist():
        if place == skip:
            continue
        skip = place + 1
        if skip == len(words):
            raise ValueError("the line list ends within an instruction")
        is_set[place] = True
        absolute[place] = (int(words[skip]) << 12) + int(operands[place])
        operations[skip], operands[skip] = _RAISE, 0
    if (operations > _LOWER_ONE).any():
        raise ValueError("the line list has an unknown instruction")
    step = np.zeros(len(words), dtype=np.int64)
    up, down = ((operations == one) | (operations == other) for one, other in _STEPS)
    step[up], step[down] = operands[up], -operands[down]
    total = step.cumsum()
    # Steps count from the last value that was set, at first from one.
    places = np.maximum.accumulate(np.where(is_set, np.arange(len(words)), -1))
    base = np.where(places >= 0, absolute[places] - total[places], 1)
    high = base + total
    if len(high) and not (high.min() >= 0 and high.max() < 1 << 31):
        raise ValueError("a value of the line list is out of range")
    return operations, operands, high


_STEPS = ((_RAISE, _RAISE_ONE), (_LOWER, _LOWER_ONE))
