# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""A PSF model seen as cells: one for all, or one for each pixel."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..boxes import Box, first_pixel
from .psf_models import PsfModel

__all__ = ("ModelCells",)


class ModelCells:
    """The PSF of an image by cells, as `ImageReader` asks for it.

    Parameters
    ----------
    model
        The model; `None` if there is none.
    bbox
        Absolute pixels of the image.
    """

    def __init__(self, model: PsfModel | None, bbox: Box) -> None:
        self._model = model
        self._bbox = bbox
        constant = model is None or model.is_constant
        self.cell_shape: tuple[int, int] = bbox.shape if constant else (1, 1)
        """Rows and columns of a cell: the image, or a pixel."""
        self.n_cells: tuple[int, int] = (1, 1) if constant else bbox.shape
        """Cells in y and x."""
        self.psf_shape: tuple[int, int] = (1, 1) if model is None else model.shape
        """Rows and columns of a kernel."""

    def cell_of(self, y: Any, x: Any) -> np.ndarray:
        """Cells that hold positions.

        Parameters
        ----------
        y, x
            Absolute pixels, shape ``(n,)``. A position belongs to the pixel
            that a cutout of size one would hold.

        Returns
        -------
        cells
            Indices ``(y, x)``, int64, shape ``(n, 2)``; (-1, -1) outside the
            image.
        """
        (cy, cx), box = self.cell_shape, self._bbox
        pixel_y, pixel_x = np.broadcast_arrays(first_pixel(np.atleast_1d(y), 1), first_pixel(x, 1))
        cells = np.stack([(pixel_y - box.y0) // cy, (pixel_x - box.x0) // cx], axis=-1)
        inside = ((cells >= 0) & (cells < self.n_cells)).all(axis=-1)
        return np.where(inside[:, np.newaxis], cells, -1)

    def psf_kernels(self, cells: Any) -> np.ndarray:
        """Kernels of cells.

        Parameters
        ----------
        cells
            Indices ``(y, x)`` as `cell_of` gives them, shape ``(n, 2)``.

        Returns
        -------
        kernels
            Float32, shape ``(n, ky, kx)``, those of the middle of each cell;
            NaN outside the image.
        """
        indices = np.asarray(cells, dtype=np.int64).reshape(-1, 2)
        kernels = np.full((len(indices), *self.psf_shape), np.nan, dtype=np.float32)
        inside = ((indices >= 0) & (indices < self.n_cells)).all(axis=1)
        if self._model is not None and inside.any():
            (cy, cx), box = self.cell_shape, self._bbox
            y = box.y0 + indices[inside, 0] * cy + (cy - 1) / 2
            x = box.x0 + indices[inside, 1] * cx + (cx - 1) / 2
            kernels[inside] = self._model.kernels(y, x)
        return kernels
