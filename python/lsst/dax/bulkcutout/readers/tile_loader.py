# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Tiles of a plane, from its HDUs into an array."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np

from ..boxes import Box
from ..errors import CorruptInputError
from .pixel_plane import PixelPlane
from .tiles import Tile, TileGrid

__all__ = ("TileLoader",)


@dataclasses.dataclass(frozen=True)
class TileLoader:
    """Decodes tiles of a plane."""

    planes: tuple[PixelPlane, ...]
    """HDUs that make up the plane: one, or several whose pixels are shifted
    by ``bits_each`` and added."""

    grid: TileGrid
    """Where the tiles are."""

    bits_each: int = 0
    """Bits of each mask HDU that are in use."""

    def load(
        self,
        tiles: Sequence[Tile],
        canvas: np.ndarray,
        within: Box,
        *,
        last_rows: Sequence[int] | None = None,
        threads: int = 1,
    ) -> list[CorruptInputError]:
        """Decode tiles into an array.

        Parameters
        ----------
        tiles, canvas, within, last_rows, threads
            As for `ImageReader.load_tiles`.

        Returns
        -------
        damaged
            An error with its ``box`` for each tile that is damaged.
        """
        if not tiles:
            return []
        stops = np.full(len(tiles), self.grid.bbox.y1) if last_rows is None else np.asarray(last_rows)
        damaged: dict[int, CorruptInputError] = {}
        for number, plane in enumerate(self.planes):
            target = canvas if number == 0 else np.empty_like(canvas, order="C")
            damaged |= self._load_plane(plane, tiles, target, within, stops, threads)
            if number > 0:
                for iy, ix in tiles:
                    if (part := self.grid.box(iy, ix).intersection(within)) is not None:
                        here = part.slices(within)
                        canvas[here] |= target[here] << canvas.dtype.type(self.bits_each * number)
        return [
            CorruptInputError(str(damaged[index]), box=self.grid.box(*tiles[index]))
            for index in sorted(damaged)
        ]

    def _load_plane(
        self,
        plane: PixelPlane,
        tiles: Sequence[Tile],
        canvas: np.ndarray,
        within: Box,
        last_rows: np.ndarray,
        threads: int,
    ) -> dict[int, CorruptInputError]:
        bbox = self.grid.bbox
        if plane.tile_shape == self.grid.tile_shape:
            iy, ix = np.asarray(tiles, dtype=np.int64).T
            origin = (within.y0 - bbox.y0, within.x0 - bbox.x0)
            return plane.load_tiles(iy, ix, canvas, origin, last_rows - bbox.y0, threads=threads)
        # Planes need not share a tile shape, and one that is not compressed
        # has none.
        damaged = {}
        for run in _runs(tiles):
            try:
                self._load_box(
                    plane, self.grid.box(*tiles[run[0]], stop=tiles[run[-1]][1] + 1), canvas, within
                )
            except CorruptInputError:
                # One by one, so that only the damaged tile is lost.
                for index in run:
                    try:
                        self._load_box(plane, self.grid.box(*tiles[index]), canvas, within)
                    except CorruptInputError as error:
                        damaged[index] = error
        return damaged

    def _load_box(self, plane: PixelPlane, box: Box, canvas: np.ndarray, within: Box) -> None:
        if (part := box.intersection(within)) is not None:
            plane.load_part(*part.slices(within=self.grid.bbox), canvas[part.slices(within)])


def _runs(tiles: Sequence[Tile]) -> Iterator[range]:
    """Join tiles that are neighbours in a row: their indices."""
    first = 0
    for index in range(1, len(tiles) + 1):
        if index < len(tiles):
            (iy, ix), (last_iy, last_ix) = tiles[index], tiles[index - 1]
            if (iy, ix) == (last_iy, last_ix + 1):
                continue
        yield range(first, index)
        first = index
