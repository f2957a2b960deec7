# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Images that are read tile by tile: what their readers have in common."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import numpy as np

from ..boxes import Box
from ..errors import CorruptInputError
from .bordered_grid import BorderedGrid
from .fits_file import FitsFile
from .pixel_plane import PixelPlane
from .tile_loader import TileLoader
from .tiles import TileGrid

__all__ = ("TiledImage",)

_PIXELS_AT_A_TIME = 1 << 16
"""An image that is not compressed is read by so many rows."""


class TiledImage:
    """An open file and its pixel planes; a context manager.

    Parameters
    ----------
    file
        File to read, opened; the image closes it.
    """

    bbox: Box
    """Absolute pixels that the file covers."""

    tile_shape: tuple[int, int]
    """Rows and columns of a tile."""

    n_tiles: tuple[int, int]
    """Number of tiles in y and x."""

    planes: frozenset[str]
    """Which of image, variance, mask and psf there are."""

    extra_planes: tuple[str, ...] = ()
    """Further planes of floats, by name."""

    mask_tells_nothing: bool = False
    """Whether the mask only says where the image has no finite number."""

    backgrounds: Mapping[str, Any] = {}
    """Background models by name."""

    background: str | None = None
    """Name of the background model that is subtracted, if any."""

    _grid: TileGrid | BorderedGrid
    """Where the tiles are."""

    def __init__(self, file: FitsFile) -> None:
        self._file = file
        self._planes: dict[str, PixelPlane] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; again does nothing."""
        self._file.close()

    @property
    def tile_edges(self) -> tuple[np.ndarray, np.ndarray]:
        """Where tiles begin in y and in x, and where the last ones end."""
        return self._grid.edges

    def tile_box(self, iy: int, ix: int) -> Box:
        """Absolute pixels of a tile.

        Parameters
        ----------
        iy, ix
            Zero-based index of the tile; tile (0, 0) begins at the first
            pixel of the file.

        Returns
        -------
        box
            Its pixels, which no other tile has; tiles at the edges may be
            cut short, or have a border.
        """
        return self._grid.box(iy, ix)

    def tiles_touching(self, box: Box) -> list[tuple[int, int]]:
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
        return self._grid.touching(box)

    def load_tiles(
        self,
        plane: str,
        tiles: Sequence[tuple[int, int]],
        canvas: np.ndarray,
        within: Box,
        *,
        last_rows: Sequence[int] | None = None,
        threads: int = 1,
    ) -> list[CorruptInputError]:
        """Decode tiles of a plane into an array.

        Parameters
        ----------
        plane
            One of `planes`, but psf, or of `extra_planes`.
        tiles
            Tile indices ``(iy, ix)``, row by row, each once.
        canvas
            Where the pixels go, rows contiguous: float32 with NaN where there
            are none, or integers that hold all bits of the mask.
        within
            Absolute pixels of ``canvas``; those outside are left out.
        last_rows
            For each tile the absolute row after the last that is wanted;
            what the canvas has after it is undefined.
        threads
            How many threads may decode.

        Returns
        -------
        damaged
            An error with its ``box`` for each tile that is damaged; what the
            canvas has there is undefined.

        Raises
        ------
        CorruptInputError
            Raised if the plane is damaged as a whole.
        OSError
            Raised as it comes; the call can be repeated.
        """
        tiles = self._known_tiles(tiles)
        return self._loader(plane).load(tiles, canvas, within, last_rows=last_rows, threads=threads)

    def _loader(self, plane: str) -> TileLoader:
        """What decodes a plane."""
        if plane not in self._planes:
            raise ValueError(f"No plane {plane!r} in {self._file.path}; there are {sorted(self._planes)}.")
        return TileLoader((self._planes[plane],), TileGrid(self.bbox, self.tile_shape))

    def _known_tiles(self, tiles: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
        """Check that there are such tiles."""
        tiles = list(tiles)
        for iy, ix in tiles:
            if not (0 <= iy < self.n_tiles[0] and 0 <= ix < self.n_tiles[1]):
                raise ValueError(f"No tile {(iy, ix)} in {self._file.path}; there are {self.n_tiles}.")
        return tiles

    def _set_planes(self, planes: Mapping[str, PixelPlane], *, x0: int, y0: int) -> None:
        """Take planes of one shape, the first of which decides on tiles."""
        self._planes = dict(planes)
        first = next(iter(planes.values()))
        ny, nx = first.shape
        self.bbox = Box(y0=y0, y1=y0 + ny, x0=x0, x1=x0 + nx)
        rows = min(ny, max(1, _PIXELS_AT_A_TIME // nx))
        self.tile_shape = first.tile_shape or (rows, nx)
        self._grid = grid = TileGrid(self.bbox, self.tile_shape)
        self.n_tiles = grid.n_tiles
