# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""The PSF kernels of a cell coadd, an HDU of four dimensions.

CFITSIO reads three at most. astropy reads it, at a second for all cells of a
patch or 5 ms for one, because each row of each kernel is a tile of its own;
so the one compression that is found in practice is undone here (a tenth of a
second for all, 0.2 ms for one) and astropy is left with the others.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np

from ..boxes import Box, first_pixel
from ..errors import CorruptInputError
from .cell_coadd_tree import PsfNode
from .fits_extension import Extension
from .fits_file import BLOCK
from .fits_table import FitsTable
from .gzip_tile import gunzip, pixels_of

__all__ = ("CellPsf",)


class CellPsf:
    """The PSF of a cell coadd, one kernel for each cell.

    Parameters
    ----------
    extension
        The HDU of the kernels.
    node
        What the tree says of it.

    Raises
    ------
    CorruptInputError
        Raised if header and tree contradict each other or themselves.
    """

    def __init__(self, extension: Extension, node: PsfNode) -> None:
        file = extension.header.file
        grid, part = node.bounds.grid.bbox.box(), node.bounds.bbox.box()
        self._grid = grid
        self.cell_shape: tuple[int, int] = node.bounds.grid.cell_shape
        """Rows and columns of a cell."""
        cy, cx = self.cell_shape
        self.n_cells = (grid.shape[0] // cy, grid.shape[1] // cx)
        """Cells of the whole grid in y and x."""
        self.missing = frozenset((cell.i, cell.j) for cell in node.bounds.missing)
        """Indices ``(y, x)`` of cells without a kernel."""
        # The file may hold the kernels of a part of the grid only.
        self._first = ((part.y0 - grid.y0) // cy, (part.x0 - grid.x0) // cx)
        shape = (part.shape[0] // cy, part.shape[1] // cx)
        if part.intersection(grid) != part or self._box(self._first, shape) != part:
            raise file.corrupt(f"its PSF covers {part}, which are no cells of the grid {grid}")
        if len(node.array.shape) != 4 or node.array.shape[:2] != shape:
            raise file.corrupt(f"its PSF array has the shape {node.array.shape} for {shape} cells")
        self.kernel_shape = (node.array.shape[2], node.array.shape[3])
        """Rows and columns of a kernel."""
        self._kernels = _Kernels(extension, (*shape, *self.kernel_shape))

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
            Indices ``(y, x)`` in the whole grid, int64, shape ``(n, 2)``;
            (-1, -1) outside. The cell may still be missing.
        """
        (cy, cx), grid = self.cell_shape, self._grid
        pixel_y, pixel_x = np.broadcast_arrays(first_pixel(np.atleast_1d(y), 1), first_pixel(x, 1))
        cells = np.stack([(pixel_y - grid.y0) // cy, (pixel_x - grid.x0) // cx], axis=-1)
        inside = ((cells >= 0) & (cells < self.n_cells)).all(axis=-1)
        return np.where(inside[:, np.newaxis], cells, -1)

    def kernels(self, cells: Any) -> np.ndarray:
        """Kernels of cells, as they are stored.

        Parameters
        ----------
        cells
            Indices ``(y, x)`` in the whole grid, shape ``(n, 2)``.

        Returns
        -------
        kernels
            Float32, shape ``(n, ky, kx)``, centred at ``[ky // 2, kx // 2]``;
            NaN for missing cells and those outside.

        Raises
        ------
        CorruptInputError
            Raised with the ``box`` of the cell if one of the kernels is
            damaged; the others can be had by asking for them alone.
        """
        wanted = [(int(y), int(x)) for y, x in np.asarray(cells).reshape(-1, 2)]
        kernels = np.full((len(wanted), *self.kernel_shape), np.nan, dtype=np.float32)
        (ny, nx), (y0, x0) = self._kernels.shape[:2], self._first
        for kernel, (y, x) in zip(kernels, wanted, strict=True):
            if (y, x) in self.missing or not (0 <= y - y0 < ny and 0 <= x - x0 < nx):
                continue
            try:
                kernel[:] = self._kernels.read((y - y0, x - x0))
            except CorruptInputError as error:
                raise CorruptInputError(str(error), box=self._box((y, x), (1, 1))) from error
        return kernels

    def _box(self, first: tuple[int, int], shape: tuple[int, int]) -> Box:
        (cy, cx), y0, x0 = self.cell_shape, self._grid.y0, self._grid.x0
        return Box(
            y0=y0 + first[0] * cy,
            y1=y0 + (first[0] + shape[0]) * cy,
            x0=x0 + first[1] * cx,
            x1=x0 + (first[1] + shape[1]) * cx,
        )


class _Kernels:
    """The HDU: cells in y and x, kernel rows and columns."""

    def __init__(self, extension: Extension, shape: tuple[int, int, int, int]) -> None:
        self._extension = extension
        self._file = extension.header.file
        self.shape = shape
        self._known: dict[tuple[int, int], np.ndarray] = {}
        header = extension.header
        prefix = "Z" if header.values.get("ZIMAGE") is True else ""
        found = tuple(header.integer(f"{prefix}NAXIS{axis}", minimum=1) for axis in (4, 3, 2, 1))
        if header.integer(f"{prefix}NAXIS") != 4 or found != shape:
            raise self._file.corrupt(f"{extension.name} has the shape {found}, its tree says {shape}")
        self._bitpix = header.integer(f"{prefix}BITPIX")
        if self._bitpix not in (-32, -64):
            raise self._file.corrupt(f"{extension.name} has the pixel type {prefix}BITPIX = {self._bitpix}")
        self._table: FitsTable | None = None
        self._inflatable = self._is_gzip_rows()

    def read(self, cell: tuple[int, int]) -> np.ndarray:
        if cell not in self._known:
            if self._inflatable:
                self._known[cell] = self._inflate(cell)
            else:
                everything = self._read_all()
                self._known = {(y, x): everything[y, x] for y, x in np.ndindex(*self.shape[:2])}
        return self._known[cell]

    def _is_gzip_rows(self) -> bool:
        header, (_, _, ky, kx) = self._extension.header, self.shape
        tile = [header.values.get(f"ZTILE{axis}") for axis in (4, 3, 2, 1)]
        return (
            header.values.get("ZCMPTYPE") == "GZIP_2"
            and header.values.get("ZQUANTIZ", "NO_DITHER") in ("NO_DITHER", "NONE")
            and tile[:2] == [1, 1]
            and tile[2] in (1, ky)
            and tile[3] == kx
            and header.values.get("TFIELDS") == 1
        )

    def _inflate(self, cell: tuple[int, int]) -> np.ndarray:
        _, nx, ky, kx = self.shape
        if self._table is None:
            self._table = FitsTable(self._extension.header)
        n_tiles = ky if self._extension.header.values["ZTILE2"] == 1 else 1
        n_pixels, n_bytes = ky * kx // n_tiles, abs(self._bitpix) // 8
        first = (cell[0] * nx + cell[1]) * n_tiles
        stored = np.dtype(f"f{n_bytes}")
        rows = []
        for packed in self._table.cells("COMPRESSED_DATA", first, first + n_tiles):
            try:
                plain = gunzip(packed, most_bytes=n_pixels * n_bytes)
            except ValueError as error:
                raise self._damaged(cell, str(error)) from None
            if len(plain) != n_pixels * n_bytes:
                raise self._damaged(cell, "its length is wrong")
            rows.append(plain)
        pixels = pixels_of(b"".join(rows), stored, shuffled=True, n_tiles=n_tiles)
        return pixels.astype(np.float32).reshape(ky, kx)

    def _damaged(self, cell: tuple[int, int], why: str) -> CorruptInputError:
        return self._file.corrupt(f"kernel {cell} of {self._extension.name} is damaged ({why})")

    def _read_all(self) -> np.ndarray:
        # Costs half a second to import, and is hardly ever needed.
        import astropy.io.fits

        header = self._extension.header
        size = header.data_address - header.address + -(-header.data_size // BLOCK) * BLOCK
        content = self._file.read(header.address, size, self._extension.name)
        # One HDU behind an empty primary one is a file, which saves astropy
        # the walk through all others.
        file = io.BytesIO(astropy.io.fits.PrimaryHDU().header.tostring().encode() + content)
        try:
            with astropy.io.fits.open(file) as hdus:
                kernels = np.array(hdus[1].data, dtype=np.float32)
        except MemoryError:
            raise
        except Exception as error:
            # All bytes were read, so whatever astropy trips over is in them.
            raise self._file.corrupt(f"{self._extension.name} cannot be decompressed ({error})") from error
        if kernels.shape != self.shape:
            raise self._file.corrupt(f"{self._extension.name} has the shape {kernels.shape}")
        return kernels
