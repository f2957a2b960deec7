# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Tiles that are not compressed, or not any more, and what kernels are told of
quantization.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .canvas import Canvas, Scaling
from .tile_codec import Quantization

__all__ = ("PlainTiles", "dequantizing")

_TYPES: dict[tuple[bool, int], tuple[np.dtype[Any], np.dtype[Any]]] = {
    (is_float, width): (np.dtype(f"u{max(width, 4)}"), np.dtype(f"{'f' if is_float else 'i'}{max(width, 4)}"))
    for is_float, width in [(False, 1), (False, 2), (False, 4), (False, 8), (True, 4), (True, 8)]
}
"""Types of a number's bits and of the number, by what it is and its bytes."""


class PlainTiles:
    """Converts tiles that are not compressed, or not any more.

    Parameters
    ----------
    canvas
        Where pixels go.
    scaling
        From numbers to pixels.
    is_float
        Whether the numbers are floating-point ones.
    quantization
        How floating-point pixels became the integers, if they did.
    """

    def __init__(
        self, canvas: Canvas, scaling: Scaling, *, is_float: bool, quantization: Quantization | None = None
    ) -> None:
        self._canvas = canvas
        self._scaling = scaling
        self._is_float = is_float
        self._quantization = quantization

    def place(
        self, stream: np.ndarray, tiles: np.ndarray, scales: np.ndarray | None, *, is_shuffled: bool
    ) -> dict[int, str]:
        """Convert tiles and put them in their place.

        Parameters
        ----------
        stream
            Their bytes.
        tiles
            As kernels want them, shape ``(n, len(TileColumn))``.
        scales
            Scale and zero of each, shape ``(n, 2)``, if they are quantized.
        is_shuffled
            Whether the highest bytes of all pixels come first.

        Returns
        -------
        damaged
            For each tile that has a wrong number of bytes, what is wrong.
        """
        from ..kernels.tile_runs import TileColumn

        n_pixels = tiles[:, TileColumn.N_ROWS] * tiles[:, TileColumn.N_COLUMNS]
        sizes = tiles[:, TileColumn.LAST_BYTE] - tiles[:, TileColumn.FIRST_BYTE]
        widths = sizes // n_pixels
        damaged = {}
        # Writers take as many bytes as are needed.
        for width in np.unique(widths).tolist():
            members = np.flatnonzero((widths == width) & (sizes == widths * n_pixels))
            if (self._is_float, width) in _TYPES and len(members):
                self._convert(
                    stream,
                    tiles[members],
                    scales[members] if scales is not None else None,
                    width,
                    is_shuffled,
                )
                sizes[members] = -1
        for number in np.flatnonzero(sizes >= 0).tolist():
            damaged[number] = f"it has {sizes[number]} bytes for {n_pixels[number]} pixels"
        return damaged

    def _convert(
        self, stream: np.ndarray, tiles: np.ndarray, scales: np.ndarray | None, width: int, is_shuffled: bool
    ) -> None:
        from ..kernels import tile_runs

        canvas, scaling = self._canvas, self._scaling
        kind_of_bits, kind = _TYPES[self._is_float, width]
        bits = np.empty(int((tiles[:, 2] * tiles[:, 3]).max()), dtype=kind_of_bits)
        complete = np.zeros(len(tiles), dtype=bool)
        common = (stream, tiles, width, is_shuffled)
        room = (bits, bits.view(kind), canvas.flat, canvas.extent, complete)
        if self._is_float:
            tile_runs.plain_reals_to_floats(*common, scaling.linear, *room)
        elif canvas.flat.dtype.kind == "f":
            rule = dequantizing(scaling, self._quantization, scales, len(tiles))
            arguments: tuple[Any, ...] = (*common, *rule, *room)
            tile_runs.plain_integers_to_floats(*arguments)
        else:
            tile_runs.plain_integers_to_integers(*common, scaling.whole_zero, *room)
        if not complete.all():
            raise AssertionError("A kernel was given tiles that leave their bytes.")


def dequantizing(
    scaling: Scaling, quantization: Quantization | None, scales: np.ndarray | None, n_tiles: int
) -> tuple[np.ndarray, bool, bool, bool, np.ndarray, np.ndarray]:
    """Arguments of kernels that make floating-point pixels of integers.

    Parameters
    ----------
    scaling
        From numbers to pixels.
    quantization, scales
        How floating-point pixels became integers, and scale and zero of each
        tile; `None` if they were integers.
    n_tiles
        Number of tiles.

    Returns
    -------
    arguments
        From ``scales`` to ``linear``.
    """
    from ..kernels.dequantize import no_random_numbers, random_numbers

    is_dithered = quantization is not None and quantization.dither.startswith("SUBTRACTIVE")
    return (
        np.tile([1.0, -0.0], (n_tiles, 1)) if scales is None else scales,
        quantization is not None or scaling.blank is not None,
        quantization is None and scaling.is_identity,
        quantization is not None and quantization.dither == "SUBTRACTIVE_DITHER_2",
        random_numbers() if is_dithered else no_random_numbers(),
        scaling.linear,
    )
