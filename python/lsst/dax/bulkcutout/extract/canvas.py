# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Rows of an image, decoded: a strip that moves down once.

Tiles come into it as the strip reaches them, those that any cutout touches,
each once and only as far as its last wanted row. What is still wanted moves
up when the strip moves down.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from ..boxes import Box
from ..errors import CorruptInputError
from .scratch import Scratch

__all__ = ("Canvas", "PixelSource")


class PixelSource(Protocol):
    """What cutting needs of an image."""

    @property
    def bbox(self) -> Box:
        """Pixels that the image has, in tract pixels."""

    @property
    def tile_edges(self) -> tuple[np.ndarray, np.ndarray]:
        """Tract pixels where tiles begin in y and in x, and the last's end."""

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
        """Decode tiles into an array; see `readers.ImageReader`.

        Parameters
        ----------
        plane
            Name of the plane.
        tiles
            Indices ``(iy, ix)``.
        canvas
            Where the pixels go.
        within
            Tract pixels of ``canvas``.
        last_rows
            For each tile the row after the last that is wanted.
        threads
            How many threads may decode.
        """


class Canvas:
    """Decoded rows of all planes of an image.

    Parameters
    ----------
    image
        The image.
    boxes
        What will be wanted of it, tract pixels ``(y0, y1, x0, x1)``, shape
        ``(n, 4)``; none leaves the image, empty ones want nothing.
    fill
        Planes, each with the value of pixels outside the image, whose type is
        that of the plane.
    memory_bytes
        Bound on the size of all planes together, as far as the tallest box
        permits.
    scratch
        Memory for the rows.
    retry
        Runs the decoding of a plane, and may run it again.
    threads
        How many threads may decode.
    """

    def __init__(
        self,
        image: PixelSource,
        boxes: np.ndarray,
        fill: Mapping[str, np.generic],
        *,
        memory_bytes: int,
        scratch: Scratch,
        retry: Callable[[Callable[[], None]], None],
        threads: int,
    ) -> None:
        from ..kernels.gather import touch_tiles

        self._image, self._retry, self._threads = image, retry, threads
        self._edges = rows, columns = image.tile_edges
        shape = (len(rows) - 1, len(columns) - 1)
        self._stops = np.full(shape, np.iinfo(np.int64).min)
        touch_tiles(boxes, rows, columns, self._stops)
        self._touched = self._stops > np.iinfo(np.int64).min
        self._next_tile_row = 0
        self._damaged = np.zeros(shape, dtype=bool)
        y0, x0 = boxes[:, 0::2].min(axis=0).tolist()
        self._stop, x1 = boxes[:, 1::2].max(axis=0).tolist()
        tallest = int((boxes[:, 1] - boxes[:, 0]).max())
        row_bytes = max(1, x1 - x0) * sum(value.dtype.itemsize for value in fill.values())
        # The tallest box may begin anywhere, and whole tiles are loaded.
        most = max(tallest + int(np.diff(rows).max()), memory_bytes // row_bytes)
        self.rows = Box(y0=y0, y1=y0 + min(self._stop - y0, most), x0=x0, x1=x1)
        """Tract pixels that the canvas has at present."""
        self._loaded = y0
        self.planes = {
            plane: scratch.take(f"rows of {plane}", self.rows.shape, value.dtype)
            for plane, value in fill.items()
        }
        """Pixels of each plane; undefined where no box is, and in tiles that
        are damaged."""

    def fits(self, top: int, bottoms: np.ndarray) -> np.ndarray:
        """Tell which boxes can be on the canvas together.

        Parameters
        ----------
        top
            First row that is wanted.
        bottoms
            For each box the row after its last.

        Returns
        -------
        fits
            One for each box.
        """
        rows, _ = self._edges
        # Whole tiles are loaded, so that each is decoded once.
        whole = np.minimum(rows[np.searchsorted(rows, bottoms)], self._stop)
        return np.asarray(whole - top <= self.rows.shape[0])

    def move(self, top: int, bottom: int) -> None:
        """Move on, and decode what is wanted there.

        Parameters
        ----------
        top
            First row that is wanted from now on.
        bottom
            Row after the last that is wanted now.
        """
        rows, _ = self._edges
        down = top - self.rows.y0
        kept = max(0, self._loaded - top)
        for canvas in self.planes.values():
            # In pieces that do not overlap what they replace.
            for row in range(0, kept if down else 0, max(1, down)):
                end = min(kept, row + down)
                canvas[row:end] = canvas[row + down : end + down]
        self.rows = self.rows.shifted(down, 0)
        first, self._next_tile_row = (
            self._next_tile_row,
            max(self._next_tile_row, int(np.searchsorted(rows, bottom))),
        )
        tiles = np.argwhere(self._touched[first : self._next_tile_row]) + (first, 0)
        if len(tiles):
            last_rows = self._stops[tuple(tiles.T)].tolist()
            indices = [(iy, ix) for iy, ix in tiles.tolist()]
            for plane in self.planes:
                self._retry(functools.partial(self._load, plane, indices, last_rows))
        self._loaded = max(self._loaded, int(rows[self._next_tile_row]))

    def is_damaged(self, boxes: np.ndarray) -> np.ndarray:
        """Tell which boxes touch tiles that could not be decoded.

        Parameters
        ----------
        boxes
            Some of those that are on the canvas, shape ``(n, 4)``.

        Returns
        -------
        damaged
            One for each box.
        """
        if not self._damaged.any():
            return np.zeros(len(boxes), dtype=bool)
        sums = np.pad(self._damaged.cumsum(axis=0).cumsum(axis=1), ((1, 0), (1, 0)))
        iy0, iy1, ix0, ix1 = self._tiles(*boxes.T)
        counts = sums[iy1, ix1] - sums[iy0, ix1] - sums[iy1, ix0] + sums[iy0, ix0]
        wanted = (boxes[:, 0] < boxes[:, 1]) & (boxes[:, 2] < boxes[:, 3])
        return np.asarray((counts > 0) & wanted)

    def _load(self, plane: str, tiles: Sequence[tuple[int, int]], last_rows: Sequence[int]) -> None:
        canvas = self.planes[plane]
        for error in self._image.load_tiles(
            plane, tiles, canvas, self.rows, last_rows=last_rows, threads=self._threads
        ):
            box = error.box
            assert box is not None
            iy0, iy1, ix0, ix1 = self._tiles(box.y0, box.y1, box.x0, box.x1)
            self._damaged[iy0:iy1, ix0:ix1] = True

    def _tiles(self, y0: Any, y1: Any, x0: Any, x1: Any) -> tuple[Any, Any, Any, Any]:
        """First and last but one of the tiles that boxes touch, in y and x."""
        rows, columns = self._edges
        return (
            np.searchsorted(rows, y0, side="right") - 1,
            np.searchsorted(rows, y1),
            np.searchsorted(columns, x0, side="right") - 1,
            np.searchsorted(columns, x1),
        )
