# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Pixel lists (PLIO_1), as masks often are.

A line list is a sequence of 16-bit words: four bits say what to do, twelve
how often or by how much (section 10.4.3 of the FITS standard 4.0).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .compiled import compiled

__all__ = ("unplio",)

_ZEROS, _SET_HIGH, _RAISE, _LOWER, _HIGHS, _ZEROS_THEN_HIGH, _RAISE_ONE, _LOWER_ONE = range(8)
_OLD_HEADER_WORDS = 3


@compiled
def _word(stream: np.ndarray, first: int, number: int) -> Any:
    """A word of the list, without sign."""
    at = first + 2 * number
    return (np.int64(stream[at]) << 8) | np.int64(stream[at + 1])


@compiled
def _signed(word: int) -> int:
    return word - 65536 if word >= 32768 else word


@compiled
def _instructions(stream: np.ndarray, first: int, stop: int) -> tuple[int, int]:
    """First word of the instructions and the word after them, 0 and -1 if the
    header tells of others than there are.
    """
    n_words = (stop - first) // 2
    if n_words < _OLD_HEADER_WORDS:
        return 0, -1
    length = _signed(_word(stream, first, 2))
    begin = _OLD_HEADER_WORDS
    if length <= 0:
        if n_words < 5:
            return 0, -1
        begin = _signed(_word(stream, first, 1))
        length = (_signed(_word(stream, first, 4)) << 15) + _signed(_word(stream, first, 3))
    return (begin, length) if 0 <= begin <= length <= n_words else (0, -1)


@compiled
def unplio(stream: np.ndarray, first: int, stop: int, n_pixels: int, pixels: np.ndarray) -> bool:
    """Undo PLIO compression.

    Parameters
    ----------
    stream
        Bytes.
    first, stop
        Where the line list is in them: big-endian words.
    n_pixels
        Pixels of the tile.
    pixels
        Int32, filled with them; those that the list says nothing of are zero.

    Returns
    -------
    complete
        `False` if the list is cut short, tells of more pixels, has an unknown
        instruction or a value that is out of range.
    """
    if first < 0 or stop > len(stream) or n_pixels > len(pixels):
        return False
    word, end = _instructions(stream, first, stop)
    if end < word:
        return False
    at, high = 0, 1
    while word < end:
        instruction = _word(stream, first, word)
        operation, operand = instruction >> 12, instruction & 0xFFF
        word += 1
        count = 0
        if operation == _SET_HIGH:
            if word == end:
                return False
            high = (_word(stream, first, word) << 12) + operand
            word += 1
        elif operation == _RAISE or operation == _RAISE_ONE:
            high += operand
        elif operation == _LOWER or operation == _LOWER_ONE:
            high -= operand
        elif operation > _LOWER_ONE:
            return False
        if high < 0 or high >= 1 << 31:
            return False
        if operation == _ZEROS or operation == _HIGHS or operation == _ZEROS_THEN_HIGH:
            count = operand
        elif operation == _RAISE_ONE or operation == _LOWER_ONE:
            count = 1
        if at + count > n_pixels:
            return False
        value = 0 if operation == _ZEROS or operation == _ZEROS_THEN_HIGH else high
        for pixel in range(at, at + count):
            pixels[pixel] = value
        at += count
        if operation == _ZEROS_THEN_HIGH and count > 0:
            pixels[at - 1] = high
    for pixel in range(at, n_pixels):
        pixels[pixel] = 0
    return True
