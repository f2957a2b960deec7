# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Tiles: which there are, and where."""

from __future__ import annotations

import dataclasses

import numpy as np

from ..boxes import Box

__all__ = ("Tile", "TileGrid")

type Tile = tuple[int, int]
"""Index ``(iy, ix)`` of a tile."""


@dataclasses.dataclass(frozen=True)
class TileGrid:
    """Where the tiles of an image are; the last ones may be cut short."""

    bbox: Box
    """Absolute pixels of the image; tile (0, 0) begins at its first."""

    tile_shape: tuple[int, int]
    """Rows and columns of a tile."""

    @property
    def n_tiles(self) -> tuple[int, int]:
        """Number of tiles in y and x."""
        (ny, nx), (ty, tx) = self.bbox.shape, self.tile_shape
        return (-(-ny // ty), -(-nx // tx))

    @property
    def edges(self) -> tuple[np.ndarray, np.ndarray]:
        """Where tiles begin in y and in x, and where the last ones end."""
        (ny, nx), (ty, tx), bbox = self.n_tiles, self.tile_shape, self.bbox
        rows = np.minimum(bbox.y0 + ty * np.arange(ny + 1), bbox.y1)
        return rows, np.minimum(bbox.x0 + tx * np.arange(nx + 1), bbox.x1)

    def box(self, iy: int, ix: int, *, stop: int | None = None) -> Box:
        """Absolute pixels of a tile, or of some neighbours in a row.

        Parameters
        ----------
        iy, ix
            Zero-based index of the first tile.
        stop
            Index ``ix`` after the last; that of the next tile if not given.

        Returns
        -------
        box
            Pixels within the image.
        """
        (ty, tx), bbox = self.tile_shape, self.bbox
        y0, x0 = bbox.y0 + iy * ty, bbox.x0 + ix * tx
        x1 = bbox.x0 + (ix + 1 if stop is None else stop) * tx
        return Box(y0=y0, y1=min(y0 + ty, bbox.y1), x0=x0, x1=min(x1, bbox.x1))

    def touching(self, box: Box) -> list[Tile]:
        """Tiles that hold pixels of a box.

        Parameters
        ----------
        box
            Absolute pixels; it may leave the image, or miss it.

        Returns
        -------
        tiles
            Indices ``(iy, ix)``, row by row.
        """
        overlap = box.intersection(self.bbox)
        if overlap is None:
            return []
        rows, columns = overlap.slices(within=self.bbox)
        ty, tx = self.tile_shape
        return [
            (iy, ix)
            for iy in range(rows.start // ty, -(-rows.stop // ty))
            for ix in range(columns.start // tx, -(-columns.stop // tx))
        ]
