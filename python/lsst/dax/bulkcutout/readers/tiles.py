# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Tiles: which there are, and one after the other."""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Iterable, Iterator

import numpy as np

from ..boxes import Box
from ..errors import CorruptInputError
from .pixel_plane import PixelPlane

__all__ = ("Tile", "TileGrid", "TileReader")

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


class TileReader(Iterator[tuple[Box, np.ndarray]]):
    """Tiles of a plane, one after the other.

    A damaged tile raises `CorruptInputError` with its box, and the iteration
    can then go on: the next call of `next` gives the tile after it.

    Parameters
    ----------
    planes
        HDUs that make up the plane: one, or several whose pixels are shifted
        by ``bits_each`` and added.
    tiles
        Tile indices ``(iy, ix)``; they come in the order of the file, each
        once.
    grid
        Where the tiles are.
    bits_each
        Bits of each mask HDU that are in use.
    """

    def __init__(
        self,
        planes: tuple[PixelPlane, ...],
        tiles: Iterable[Tile],
        *,
        grid: TileGrid,
        bits_each: int,
    ) -> None:
        self._planes = planes
        self._grid = grid
        self._bits_each = bits_each
        self._runs = deque(_runs(tiles))
        self._ready: deque[tuple[Box, np.ndarray | CorruptInputError]] = deque()

    def __next__(self) -> tuple[Box, np.ndarray]:
        if not self._ready:
            if not self._runs:
                raise StopIteration
            # An error that is not the file's leaves the run where it is.
            self._ready.extend(self._read_run(*self._runs[0]))
            self._runs.popleft()
        box, pixels = self._ready.popleft()
        if isinstance(pixels, CorruptInputError):
            raise pixels
        return box, pixels

    def _read_run(self, iy: int, first: int, stop: int) -> list[tuple[Box, np.ndarray | CorruptInputError]]:
        run = self._grid.box(iy, first, stop=stop)
        try:
            pixels = self._read(run)
        except CorruptInputError as error:
            if stop - first == 1:
                return [(run, CorruptInputError(str(error), box=run))]
            # One by one, so that only the damaged tile is lost.
            return [one for ix in range(first, stop) for one in self._read_run(iy, ix, ix + 1)]
        boxes = [self._grid.box(iy, ix) for ix in range(first, stop)]
        return [(box, pixels[box.slices(within=run)]) for box in boxes]

    def _read(self, box: Box) -> np.ndarray:
        rows, columns = box.slices(within=self._grid.bbox)
        if len(self._planes) == 1:
            return self._planes[0].read(rows, columns)
        total = np.zeros(box.shape, dtype=np.int64)
        for number, plane in enumerate(self._planes):
            total |= plane.read(rows, columns).astype(np.int64) << (self._bits_each * number)
        return total


def _runs(tiles: Iterable[Tile]) -> Iterator[tuple[int, int, int]]:
    """Join tiles that are neighbours in a row: ``(iy, first ix, stop ix)``."""
    begun: list[int] | None = None
    for iy, ix in sorted({(int(iy), int(ix)) for iy, ix in tiles}):
        if begun is not None and begun[0] == iy and begun[2] == ix:
            begun[2] += 1
            continue
        if begun is not None:
            yield (begun[0], begun[1], begun[2])
        begun = [iy, ix, ix + 1]
    if begun is not None:
        yield (begun[0], begun[1], begun[2])
