# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Many tiles in one call: decoded, converted and put in their place.

A tile is a row of an array of int64, with the columns `TileColumn`.
"""

from __future__ import annotations

import enum

import numpy as np

from .compiled import compiled
from .dequantize import integers_to_floats, integers_to_integers, reals_to_floats, visible
from .pixel_list import unplio
from .plain_bytes import join_bytes
from .rice import unrice

__all__ = (
    "TileColumn",
    "packed_to_floats",
    "packed_to_integers",
    "plain_integers_to_floats",
    "plain_integers_to_integers",
    "plain_reals_to_floats",
)


class TileColumn(enum.IntEnum):
    """What an array of tiles says of each."""

    # On the canvas, which a tile may leave.
    FIRST_ROW = 0
    FIRST_COLUMN = 1
    N_ROWS = 2
    N_COLUMNS = 3
    # Counted from its first; the others need not be decoded.
    N_WANTED_ROWS = 4
    # Place in the sequence of random numbers.
    RANDOM = 5
    # In the array of bytes.
    FIRST_BYTE = 6
    LAST_BYTE = 7
    # The integer that stands for NaN.
    BLANK = 8


_HEIGHT, _WIDTH, _WANTED, _FIRST, _STOP, _BLANK = 2, 3, 4, 6, 7, 8


@compiled
def _unpack(
    stream: np.ndarray, tile: np.ndarray, block_pixels: int, pixel_bytes: int, pixels: np.ndarray
) -> bool:
    n_pixels = tile[_HEIGHT] * tile[_WIDTH]
    n_wanted = min(tile[_HEIGHT], tile[_WANTED]) * tile[_WIDTH]
    if block_pixels == 0:
        return unplio(stream, tile[_FIRST], tile[_STOP], n_pixels, pixels)
    return unrice(stream, tile[_FIRST], tile[_STOP], block_pixels, pixel_bytes, n_pixels, n_wanted, pixels)


@compiled
def packed_to_floats(
    stream: np.ndarray,
    tiles: np.ndarray,
    block_pixels: int,
    pixel_bytes: int,
    scales: np.ndarray,
    has_blank: bool,
    is_plain: bool,
    keeps_zeros: bool,
    random: np.ndarray,
    linear: np.ndarray,
    pixels: np.ndarray,
    canvas: np.ndarray,
    extent: np.ndarray,
    complete: np.ndarray,
) -> None:
    """Undo Rice or PLIO compression of tiles, and their quantization.

    Parameters
    ----------
    stream
        Bytes, with the margin that `rice.unrice` needs.
    tiles
        Shape ``(n, len(TileColumn))``.
    block_pixels, pixel_bytes
        As in `rice.unrice`; no pixels a block for PLIO.
    scales
        Scale and zero of each tile, shape ``(n, 2)``.
    has_blank, is_plain, keeps_zeros, random, linear, extent
        As in `dequantize.integers_to_floats`.
    pixels
        Int32, room for the largest tile.
    canvas
        Floats, filled where tiles lie.
    complete
        Bool, shape ``(n,)``, filled: whether the tile could be decoded.
    """
    for number in range(len(tiles)):
        tile = tiles[number]
        complete[number] = _unpack(stream, tile, block_pixels, pixel_bytes, pixels)
        if complete[number]:
            integers_to_floats(
                pixels,
                tile,
                scales[number, 0],
                scales[number, 1],
                tile[_BLANK],
                has_blank,
                is_plain,
                keeps_zeros,
                random,
                linear,
                canvas,
                extent,
            )


@compiled
def packed_to_integers(
    stream: np.ndarray,
    tiles: np.ndarray,
    block_pixels: int,
    pixel_bytes: int,
    zero: int,
    pixels: np.ndarray,
    canvas: np.ndarray,
    extent: np.ndarray,
    complete: np.ndarray,
) -> None:
    """Undo Rice or PLIO compression of tiles of integers.

    Parameters
    ----------
    stream, tiles, block_pixels, pixel_bytes, pixels, extent, complete
        As in `packed_to_floats`.
    zero
        What is added to each.
    canvas
        Integers, filled where tiles lie.
    """
    for number in range(len(tiles)):
        tile = tiles[number]
        complete[number] = _unpack(stream, tile, block_pixels, pixel_bytes, pixels)
        if complete[number]:
            integers_to_integers(pixels, tile, zero, canvas, extent)


@compiled
def _join(
    stream: np.ndarray,
    tile: np.ndarray,
    pixel_bytes: int,
    is_shuffled: bool,
    extent: np.ndarray,
    bits: np.ndarray,
) -> bool:
    first_row, last_row, _, _ = visible(tile, extent)
    width = tile[_WIDTH]
    n_pixels = tile[_HEIGHT] * width
    if tile[_STOP] - tile[_FIRST] != n_pixels * pixel_bytes or tile[_STOP] > len(stream):
        return False
    if first_row >= last_row:
        return True
    return join_bytes(
        stream, tile[_FIRST], pixel_bytes, n_pixels, first_row * width, last_row * width, is_shuffled, bits
    )


@compiled
def plain_integers_to_floats(
    stream: np.ndarray,
    tiles: np.ndarray,
    pixel_bytes: int,
    is_shuffled: bool,
    scales: np.ndarray,
    has_blank: bool,
    is_plain: bool,
    keeps_zeros: bool,
    random: np.ndarray,
    linear: np.ndarray,
    bits: np.ndarray,
    pixels: np.ndarray,
    canvas: np.ndarray,
    extent: np.ndarray,
    complete: np.ndarray,
) -> None:
    """Convert tiles of integers that are not compressed any more.

    Parameters
    ----------
    stream, tiles, scales, has_blank, is_plain, keeps_zeros, random, linear
        As in `packed_to_floats`, and so the others.
    pixel_bytes, is_shuffled
        As in `plain_bytes.join_bytes`.
    bits, pixels
        Room for the largest tile, as bits and as signed numbers: one array,
        seen in two ways.
    """
    for number in range(len(tiles)):
        tile = tiles[number]
        complete[number] = _join(stream, tile, pixel_bytes, is_shuffled, extent, bits)
        if complete[number]:
            integers_to_floats(
                pixels,
                tile,
                scales[number, 0],
                scales[number, 1],
                tile[_BLANK],
                has_blank,
                is_plain,
                keeps_zeros,
                random,
                linear,
                canvas,
                extent,
            )


@compiled
def plain_reals_to_floats(
    stream: np.ndarray,
    tiles: np.ndarray,
    pixel_bytes: int,
    is_shuffled: bool,
    linear: np.ndarray,
    bits: np.ndarray,
    pixels: np.ndarray,
    canvas: np.ndarray,
    extent: np.ndarray,
    complete: np.ndarray,
) -> None:
    """Convert tiles of floating-point numbers.

    Parameters
    ----------
    stream, tiles, pixel_bytes, is_shuffled, linear, bits, pixels
        As in `plain_integers_to_floats`, and so the others.
    """
    for number in range(len(tiles)):
        tile = tiles[number]
        complete[number] = _join(stream, tile, pixel_bytes, is_shuffled, extent, bits)
        if complete[number]:
            reals_to_floats(pixels, tile, linear, canvas, extent)


@compiled
def plain_integers_to_integers(
    stream: np.ndarray,
    tiles: np.ndarray,
    pixel_bytes: int,
    is_shuffled: bool,
    zero: int,
    bits: np.ndarray,
    pixels: np.ndarray,
    canvas: np.ndarray,
    extent: np.ndarray,
    complete: np.ndarray,
) -> None:
    """Convert tiles of integers, for a mask.

    Parameters
    ----------
    stream, tiles, pixel_bytes, is_shuffled, bits, pixels
        As in `plain_integers_to_floats`, and so the others.
    zero
        What is added to each.
    """
    for number in range(len(tiles)):
        tile = tiles[number]
        complete[number] = _join(stream, tile, pixel_bytes, is_shuffled, extent, bits)
        if complete[number]:
            integers_to_integers(pixels, tile, zero, canvas, extent)
