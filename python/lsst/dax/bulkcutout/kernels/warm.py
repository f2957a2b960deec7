# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Calls each kernel once with each combination of types that readers use."""

from __future__ import annotations

from typing import Any

import numpy as np

from . import tile_runs
from .dequantize import no_random_numbers

__all__ = ("warm",)


def warm() -> None:
    """Compile all kernels that are not compiled yet, and keep them."""
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
