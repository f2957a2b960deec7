# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Where the cutouts of some targets are in the images of their patch."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from ..boxes import Box
    from ..readers import ImageReader

__all__ = ("Place",)


@dataclasses.dataclass(frozen=True)
class Place:
    """Where the cutouts of some targets are, tract pixels."""

    x: np.ndarray
    """Columns of the targets."""

    y: np.ndarray
    """Rows of the targets."""

    first_x: np.ndarray
    """First columns of the cutouts."""

    first_y: np.ndarray
    """First rows of the cutouts."""

    size: int
    """Side of the cutouts."""

    def own_pixel(self, index: np.ndarray | slice = slice(None)) -> tuple[np.ndarray, np.ndarray]:
        """Find the targets' own pixels.

        Parameters
        ----------
        index
            Which targets.

        Returns
        -------
        y, x
            Pixels of the cutouts, zero-based.
        """

        def own(position: np.ndarray, first: np.ndarray) -> Any:
            nearest = np.floor(np.nan_to_num(position) + 0.5).astype(np.int64) - first
            # A cutout of one pixel can have its target on the pixel's border.
            return np.clip(nearest, 0, self.size - 1)

        return own(self.y[index], self.first_y[index]), own(self.x[index], self.first_x[index])

    def inside(self, box: Box) -> np.ndarray:
        """Tell which cutouts lie within a box.

        Parameters
        ----------
        box
            Tract pixels.

        Returns
        -------
        inside
            Whether all pixels of each do, shape ``(n,)``.
        """
        last_y, last_x = self.first_y + self.size, self.first_x + self.size
        inside = (self.first_y >= box.y0) & (last_y <= box.y1) & (self.first_x >= box.x0)
        return np.asarray(inside & (last_x <= box.x1))

    def count_cells(self, reader: ImageReader) -> np.ndarray:
        """Count cells that cutouts touch.

        Parameters
        ----------
        reader
            The image.

        Returns
        -------
        count
            Number of cells with data under each cutout, shape ``(n,)``.
        """
        box, last = reader.bbox, self.size - 1
        low_y, low_x = np.maximum(self.first_y, box.y0), np.maximum(self.first_x, box.x0)
        high_y = np.minimum(self.first_y + last, box.y1 - 1)
        high_x = np.minimum(self.first_x + last, box.x1 - 1)
        touches = (low_y <= high_y) & (low_x <= high_x)
        if reader.cell_shape == (1, 1):
            # A PSF that has a value for each pixel varies smoothly: there are
            # no borders to count.
            return np.asarray(touches, dtype=np.int64)
        present = np.ones(reader.n_cells, dtype=np.int64)
        for cell in reader.missing_cells:
            present[cell] = 0
        sums = np.pad(present.cumsum(axis=0).cumsum(axis=1), ((1, 0), (1, 0)))
        counts = np.zeros(len(touches), dtype=np.int64)
        y0, x0 = reader.cell_of(low_y[touches], low_x[touches]).T
        y1, x1 = reader.cell_of(high_y[touches], high_x[touches]).T + 1
        counts[touches] = sums[y1, x1] - sums[y0, x1] - sums[y1, x0] + sums[y0, x0]
        return counts
