# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""A grid of cells whose outermost ones are larger by a border."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import numpy as np

from ..boxes import Box, first_pixel

__all__ = ("BorderedGrid",)


@dataclasses.dataclass(frozen=True)
class BorderedGrid:
    """Where the cells of a patch are; pairs are (y, x)."""

    cell_shape: tuple[int, int]
    """Rows and columns of a cell."""

    n_cells: tuple[int, int]
    """Number of cells in y and x."""

    origin: tuple[int, int]
    """First pixel of the first cell, without its border."""

    border: tuple[int, int]
    """Pixels around each cell, which count at the edge of the patch only."""

    @functools.cached_property
    def bbox(self) -> Box:
        """Absolute pixels of the patch, border included."""
        (y0, y1), (x0, x1) = ((int(edges[0]), int(edges[-1])) for edges in self.edges)
        return Box(y0=y0, y1=y1, x0=x0, x1=x1)

    @functools.cached_property
    def edges(self) -> tuple[np.ndarray, np.ndarray]:
        """Where cells begin in y and in x, and where the last ones end."""
        both = []
        axes = zip(self.n_cells, self.cell_shape, self.origin, self.border, strict=True)
        for n, size, start, extra in axes:
            edges = start + size * np.arange(n + 1)
            edges[0] -= extra
            edges[-1] += extra
            both.append(edges)
        return both[0], both[1]

    def box(self, iy: int, ix: int) -> Box:
        """Absolute pixels of a cell, without the border that others cover.

        Parameters
        ----------
        iy, ix
            Zero-based index of the cell.

        Returns
        -------
        box
            Its pixels; cells at the edge of the patch have their border.
        """
        rows, columns = self.edges
        return Box(y0=int(rows[iy]), y1=int(rows[iy + 1]), x0=int(columns[ix]), x1=int(columns[ix + 1]))

    def outer_box(self, iy: int, ix: int) -> Box:
        """Absolute pixels of a cell with its border on all sides.

        Parameters
        ----------
        iy, ix
            Zero-based index of the cell.

        Returns
        -------
        box
            Its pixels.
        """
        (ny, nx), (by, bx) = self.cell_shape, self.border
        y0, x0 = self.origin[0] + iy * ny, self.origin[1] + ix * nx
        return Box(y0=y0 - by, y1=y0 + ny + by, x0=x0 - bx, x1=x0 + nx + bx)

    def touching(self, box: Box) -> list[tuple[int, int]]:
        """Cells that hold pixels of a box.

        Parameters
        ----------
        box
            Absolute pixels; it may leave the patch, or miss it.

        Returns
        -------
        cells
            Indices ``(iy, ix)``, row by row.
        """
        overlap = box.intersection(self.bbox)
        if overlap is None:
            return []
        first, last = self.cells_of(
            np.array([overlap.y0, overlap.y1 - 1]), np.array([overlap.x0, overlap.x1 - 1])
        ).tolist()
        return [(y, x) for y in range(first[0], last[0] + 1) for x in range(first[1], last[1] + 1)]

    def cells_of(self, y: Any, x: Any) -> np.ndarray:
        """Cells that hold positions.

        Parameters
        ----------
        y, x
            Absolute pixels, shape ``(n,)``.

        Returns
        -------
        cells
            Indices ``(y, x)``, int64, shape ``(n, 2)``; (-1, -1) outside.
        """
        pixels = np.broadcast_arrays(first_pixel(np.atleast_1d(y), 1), first_pixel(x, 1))
        cells = np.stack(
            [
                np.searchsorted(edges, of_axis, side="right") - 1
                for edges, of_axis in zip(self.edges, pixels, strict=True)
            ],
            axis=-1,
        )
        inside = ((cells >= 0) & (cells < self.n_cells)).all(axis=-1)
        return np.where(inside[:, np.newaxis], cells, -1)
