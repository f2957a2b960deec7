# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Counting what the targets of patches want of their images, by geometry."""

from __future__ import annotations

import logging

import numpy as np
import pyarrow as pa

from ..boxes import Box, first_pixel
from ..errors import TransientError
from .source_images import Coverage
from .tract_geometry import TractGeometry

__all__ = ("PatchCensus",)

_LOG = logging.getLogger(__name__)


class PatchCensus:
    """Counts cutouts that leave their images, and tiles that are read.

    Parameters
    ----------
    geometry
        Where the images are.
    tile_shape
        Rows and columns of the tiles in which images are read.
    """

    COLUMNS = ("patch", "ra", "dec", "x", "y", "size_pixels")
    """Columns of the target table that are needed."""

    def __init__(self, geometry: TractGeometry, tile_shape: tuple[int, int]) -> None:
        self._geometry = geometry
        self._tile_shape = tile_shape
        self._place: tuple[int, int] | None = None
        self._n_bands = 0
        self._box = Box(0, 0, 0, 0)
        self._corners = np.zeros((1, 1), dtype=np.int64)
        self._boxes: dict[int, dict[int, Box]] = {}
        self._read = self._all = 0
        self.leaving = 0
        """Targets whose box leaves the image of their patch."""
        self.stitched = 0
        """Those of them that images of neighbours complete."""
        self.unknown = 0
        """Targets of which neither can be told."""

    def add(self, patch: Coverage, targets: pa.RecordBatch) -> None:
        """Count targets.

        Parameters
        ----------
        patch
            Their patch, with its images; all targets of a patch come one
            after the other.
        targets
            Rows of the target table, with `COLUMNS`.
        """
        boxes = self._boxes_of(patch.tract)
        home = boxes.get(patch.patch)
        if home is None:
            self.unknown += targets.num_rows
            return
        if self._place != (patch.tract, patch.patch):
            self._close()
            self._place, self._box, self._n_bands = (patch.tract, patch.patch), home, len(patch.datasets)
            n_tiles = (-(-side // tile) for side, tile in zip(home.shape, self._tile_shape, strict=True))
            self._corners = np.zeros([n + 1 for n in n_tiles], dtype=np.int64)
        x, y = targets.column("x").to_numpy(), targets.column("y").to_numpy()
        if np.isnan(x).any():
            ra, dec = targets.column("ra").to_numpy(), targets.column("dec").to_numpy()
            x, y = self._geometry.pixels(patch.tract, ra, dec)
        known = np.isfinite(x) & np.isfinite(y)
        self.unknown += int(len(x) - known.sum())
        size = targets.column("size_pixels").to_numpy()[known]
        y0, x0 = first_pixel(y[known], size), first_pixel(x[known], size)
        edges = _Edges(y0, y0 + size, x0, x0 + size)
        leaving = ~edges.within(home)
        self.leaving += int(leaving.sum())
        others = {boxes[number] for number, _ in patch.neighbors if number in boxes}
        completed = np.zeros(int(leaving.sum()), dtype=bool)
        for other in others:
            common = edges.of(leaving).cut(other)
            completed |= common.not_empty() & ~common.within(home)
        self.stitched += int(completed.sum())
        self._touch(edges.cut(home))

    @property
    def touched_pixels(self) -> int:
        """Pixels of all tiles that any cutout has pixels of, of all images."""
        self._close()
        return self._read

    @property
    def touched_fraction(self) -> float:
        """The same as a fraction of the images; 0 if there are none."""
        self._close()
        return self._read / self._all if self._all else 0.0

    def _boxes_of(self, tract: int) -> dict[int, Box]:
        if tract not in self._boxes:
            try:
                boxes = self._geometry.boxes(tract)
            except TransientError as error:
                _LOG.info("%s", error)
                boxes = {}
            # One tract after the other: no need of those before.
            self._boxes = {tract: boxes}
        return self._boxes[tract]

    def _touch(self, edges: _Edges) -> None:
        """Mark the tiles of boxes by their corners; see `_close`."""
        edges = edges.of(edges.not_empty())
        (ty, tx), box = self._tile_shape, self._box
        low_y, low_x = (edges.y0 - box.y0) // ty, (edges.x0 - box.x0) // tx
        high_y, high_x = (edges.y1 - 1 - box.y0) // ty + 1, (edges.x1 - 1 - box.x0) // tx + 1
        for rows, columns, sign in (
            (low_y, low_x, 1), (low_y, high_x, -1), (high_y, low_x, -1), (high_y, high_x, 1)
        ):  # fmt: skip
            np.add.at(self._corners, (rows, columns), sign)

    def _close(self) -> None:
        """Sum up the patch."""
        if self._place is None:
            return
        touched = self._corners.cumsum(axis=0).cumsum(axis=1)[:-1, :-1] > 0
        heights, widths = (
            np.minimum(tile, side - tile * np.arange(n))
            for tile, side, n in zip(self._tile_shape, self._box.shape, touched.shape, strict=True)
        )
        self._read += self._n_bands * int(heights @ touched @ widths)
        self._all += self._n_bands * self._box.shape[0] * self._box.shape[1]
        self._place = None


class _Edges:
    """Boxes of many targets, half-open."""

    def __init__(self, y0: np.ndarray, y1: np.ndarray, x0: np.ndarray, x1: np.ndarray) -> None:
        self.y0, self.y1, self.x0, self.x1 = y0, y1, x0, x1

    def of(self, which: np.ndarray) -> _Edges:
        """Some of them."""
        return _Edges(self.y0[which], self.y1[which], self.x0[which], self.x1[which])

    def cut(self, box: Box) -> _Edges:
        """What they have in common with a box, perhaps nothing."""
        return _Edges(
            np.maximum(self.y0, box.y0),
            np.minimum(self.y1, box.y1),
            np.maximum(self.x0, box.x0),
            np.minimum(self.x1, box.x1),
        )

    def within(self, box: Box) -> np.ndarray:
        """Whether they lie in a box whole."""
        return (self.y0 >= box.y0) & (self.y1 <= box.y1) & (self.x0 >= box.x0) & (self.x1 <= box.x1)

    def not_empty(self) -> np.ndarray:
        """Whether they have any pixel."""
        return (self.y0 < self.y1) & (self.x0 < self.x1)
