# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Tiles of an image one after the other, each loaded alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from ..boxes import Box
from ..readers import ImageReader

__all__ = ("TileByTile",)


class TileByTile(Iterator[tuple[Box, np.ndarray]]):
    """Load tiles, each once, row by row.

    Parameters
    ----------
    reader
        The open image.
    plane
        Name of the plane.
    tiles
        Indices ``(iy, ix)``.

    Notes
    -----
    Gives pairs of box and pixels. A damaged tile raises its error, and
    ``next`` then goes on; after an `OSError` it tries the same tile again.
    """

    def __init__(self, reader: ImageReader, plane: str, tiles: Iterable[tuple[int, int]]) -> None:
        self._reader = reader
        self._plane = plane
        self._left = sorted({(int(iy), int(ix)) for iy, ix in tiles})
        is_wide = any(one.bit > 30 for one in reader.mask_planes)
        self._dtype = np.float32 if plane != "mask" else np.int64 if is_wide else np.int32
        # So that it is said at once if there is no such plane.
        reader.load_tiles(plane, [], np.empty((1, 1), dtype=self._dtype), Box(y0=0, y1=1, x0=0, x1=1))

    def __next__(self) -> tuple[Box, np.ndarray]:
        if not self._left:
            raise StopIteration
        tile = self._left[0]
        box = self._reader.tile_box(*tile)
        pixels = np.full(box.shape, -99, dtype=self._dtype)
        damaged = self._reader.load_tiles(self._plane, [tile], pixels, box)
        self._left.pop(0)
        for error in damaged:
            raise error
        return box, pixels
