# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Calls each kernel once with each combination of types that is in use."""

from __future__ import annotations

from typing import Any

import numpy as np

from . import tile_runs
from .deflate import compress_chunks, most_words
from .dequantize import no_random_numbers
from .gather import gather, mark_no_data, move_bits, tally, touch_tiles
from .rounding import find_steps, round_relative, round_to_steps

__all__ = ("warm",)


def warm() -> None:
    """Compile all kernels that are not compiled yet, and keep them."""
    _warm_tiles()
    _warm_cutouts()
    _warm_chunks()


def _warm_tiles() -> None:
    stream, tiles = np.zeros(64, dtype=np.uint8), np.zeros((0, len(tile_runs.TileColumn)), dtype=np.int64)
    complete, extent = np.zeros(0, dtype=bool), np.array([1, 1, 1])
    scales, linear = np.zeros((0, 2)), np.array([1.0, -0.0, 1.0])
    rule: tuple[Any, ...] = (scales, False, False, False, no_random_numbers(), linear)
    integers = [np.zeros(1, dtype) for dtype in ("i4", "i8")]
    reals = [np.zeros(1, dtype) for dtype in ("f4", "f8")]
    start: tuple[Any, ...] = (stream, tiles, 32, 4)
    for canvas in reals:
        end: tuple[Any, ...] = (canvas, extent, complete)
        packed: tuple[Any, ...] = (*start, *rule, integers[0], *end)
        tile_runs.packed_to_floats(*packed)
        for stored in integers:
            bits = stored.view(f"u{stored.itemsize}")
            plain: tuple[Any, ...] = (stream, tiles, 4, False, *rule, bits, stored, *end)
            tile_runs.plain_integers_to_floats(*plain)
        for stored in reals:
            bits = stored.view(f"u{stored.itemsize}")
            tile_runs.plain_reals_to_floats(stream, tiles, 4, False, linear, bits, stored, *end)
    for canvas in integers:
        end = (canvas, extent, complete)
        packed = (*start, 0, integers[0], *end)
        tile_runs.packed_to_integers(*packed)
        for stored in integers:
            bits = stored.view(f"u{stored.itemsize}")
            tile_runs.plain_integers_to_integers(stream, tiles, 4, False, 0, bits, stored, *end)


def _warm_cutouts() -> None:
    boxes, firsts, flags = np.zeros((0, 4), dtype=np.int64), np.zeros(0, dtype=np.int64), np.zeros(0, bool)
    floats = np.zeros((0, 1, 1), dtype="u4")
    edges = np.arange(2)
    touch_tiles(boxes, edges, edges, np.zeros((1, 1), dtype=np.int64))
    for bits in (np.zeros((0, 1, 1), dtype) for dtype in ("u4", "u8")):
        gather(bits.reshape(0, 1), 0, 0, boxes, firsts, firsts, np.zeros(1, bits.dtype), bits)
    for mask in (np.zeros((0, 1, 1), dtype) for dtype in ("i4", "i8")):
        tally(floats.reshape(0, 1), mask.reshape(0, 1), 0, 0, firsts, firsts, firsts, flags)
        mark_no_data(floats.reshape(-1), 0, mask.reshape(-1))
        for moved in ("i4", "i8"):
            move_bits(mask.reshape(-1), np.zeros(64, dtype=np.uint64), np.zeros(0, moved))


def _warm_chunks() -> None:
    room, places = np.empty(0, dtype=np.uint32), np.zeros(0, dtype=np.int64)
    for words in (np.zeros((0, 1), dtype) for dtype in ("u4", "u8")):
        most_words(1, words.itemsize)
        compress_chunks(words, 0, room, places, places)
    floats, steps = np.zeros((0, 1), dtype="f4"), np.zeros(0, dtype="f4")
    find_steps(floats, floats, 1, 1, steps)
    round_to_steps(floats, steps, floats)
    round_relative(places.astype("i4"), 1, places.astype("i4"))
