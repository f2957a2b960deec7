# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Cell coadds in the older layout: a table with a row for each cell.

What the package cell_coadds wrote before lsst.images (format versions 0.x).
Cells overlap: each has a border, of which only that at the outer edge of the
patch is used.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ..boxes import Box
from ..errors import CorruptInputError, UserError
from ..masks import NO_DATA, merge_mask_planes
from ..tables import MaskPlane
from .bordered_grid import BorderedGrid
from .byte_source import Location
from .celestial import celestial_wcs
from .cell_table import CellTable, missing_cells
from .fits_extension import Extension, walk_extensions
from .fits_file import FitsFile
from .fits_header import FitsHeader
from .fits_table import FitsTable
from .flux_units import Flux, flux_unit
from .tiled_image import TiledImage

__all__ = ("MultipleCellCoaddReader",)

_GRID_CARDS = ("GRCELL", "GRSHAPE", "GRMIN", "OCELL", "PSFSIZE")
_MOST_BITS = 31
_MOST_CELLS = 1_000_000
_MOST_NOISE_PLANES = 100


class MultipleCellCoaddReader(TiledImage):
    """A cell coadd with one table row for each cell; tiles are cells.

    Parameters
    ----------
    path
        File to read (path, URI, or an open source of bytes).
    verify_checksums
        Whether to compare the table with its DATASUM and CHECKSUM cards, if
        it has any. It reads all of its bytes.

    Raises
    ------
    CorruptInputError
        Raised if the file is truncated or contradicts itself.
    UserError
        Raised if it is of a version that is not read here.
    OSError
        Raised as it comes if the file cannot be read.
    """

    layout = "MultipleCellCoadd (FITS table)"
    """What this reader reads, for messages."""

    patch: int | None = None
    """Sequential number of the patch: the file has its index instead."""

    psf_note = ""
    """There is a PSF."""

    has_psf = True
    """Always."""

    def __init__(self, path: Location, *, verify_checksums: bool = False) -> None:
        super().__init__(FitsFile(path))
        try:
            self._table = next(self._tables("GRCELL1")).header
            self._read_identity()
            self._read_grid()
            self._read_cells()
            self._read_mask_planes()
            self.wcs = celestial_wcs(self._file.primary, Box(y0=0, y1=1, x0=0, x1=1))
            if verify_checksums:
                self._file.verify_checksums(self._table)
        except BaseException:
            self.close()
            raise

    @classmethod
    def can_read(cls, file: FitsFile) -> bool:
        """Whether a file has a table of cells.

        Parameters
        ----------
        file
            File to look at, open.

        Returns
        -------
        can
            `False` for any other FITS file.
        """
        for extension in walk_extensions(file):
            if extension.number == 1:
                values = extension.header.values
                return "GRCELL1" in values and "OCELL1" in values and _column(values, "cell_id")
        return False

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
        """Read cells of a plane into an array.

        Parameters
        ----------
        plane
            ``image``, ``variance``, ``mask``, or one of `extra_planes`.
        tiles, canvas, within, last_rows, threads
            As for `TiledImage.load_tiles`. Cells are not compressed, and are
            read whole by one thread.

        Returns
        -------
        damaged
            An error with its ``box`` for each cell that is damaged.
        """
        if plane not in self._column_of:
            raise ValueError(f"No plane {plane!r} in {self._file.path}; there are {sorted(self._column_of)}.")
        damaged = []
        for tile in self._known_tiles(tiles):
            box = self.tile_box(*tile)
            if (part := box.intersection(within)) is None:
                continue
            try:
                canvas[part.slices(within)] = self._read_cell(plane, tile)[part.slices(box)]
            except CorruptInputError as error:
                damaged.append(CorruptInputError(str(error), box=box))
        return damaged

    def cell_of(self, y: Any, x: Any) -> np.ndarray:
        """Cells that hold positions.

        Parameters
        ----------
        y, x
            Absolute pixels, shape ``(n,)``.

        Returns
        -------
        cells
            Indices ``(y, x)``, int64, shape ``(n, 2)``; (-1, -1) outside. The
            cell may still be missing.
        """
        return self._cell_grid.cells_of(y, x)

    def psf_kernels(self, cells: Any) -> np.ndarray:
        """PSF kernels of cells, as they are stored.

        Parameters
        ----------
        cells
            Indices ``(y, x)`` as `cell_of` gives them, shape ``(n, 2)``.

        Returns
        -------
        kernels
            Float32, shape ``(n, ky, kx)``, centred at ``[ky // 2, kx // 2]``;
            NaN for missing cells and those outside.
        """
        wanted = [(int(y), int(x)) for y, x in np.asarray(cells).reshape(-1, 2)]
        kernels = np.full((len(wanted), *self.psf_shape), np.nan, dtype=np.float32)
        for kernel, cell in zip(kernels, wanted, strict=True):
            if (row := self._cells.row_of.get(cell)) is not None:
                kernel[:] = self._cells.read("psf", row).reshape(self.psf_shape)
        return kernels

    def _tables(self, card: str) -> Iterator[Extension]:
        for extension in walk_extensions(self._file):
            if card in extension.header.values:
                yield extension

    def _read_identity(self) -> None:
        header = self._table
        version = header.values.get("VERSION", "0.1")
        if not re.fullmatch(r"0\.\d+", str(version)):
            raise UserError(
                f"{self._file.path}: its format version is {version}; this release reads 0.x. A newer "
                "release of dax_bulkcutout may read it."
            )
        self.skymap: str | None = header.text("SKYMAP") if "SKYMAP" in header.values else None
        self.tract: int | None = header.integer("TRACT") if "TRACT" in header.values else None
        self.patch_index: tuple[int, int] | None = None
        if "PATCH_X" in header.values:
            self.patch_index = (header.integer("PATCH_Y"), header.integer("PATCH_X"))
        key = "FILTER" if "FILTER" in header.values else "BAND"
        self.band: str | None = header.text(key) if key in header.values else None
        flux = self._flux(header)
        self.unit: str = flux.unit
        self._factor = flux.factor

    @staticmethod
    def _flux(header: FitsHeader) -> Flux:
        for key in ("TUNIT2", "TUNIT1"):
            value = header.values.get(key)
            if isinstance(value, str):
                return flux_unit(value)
        return flux_unit(None)

    def _read_grid(self) -> None:
        header = self._table
        cell, shape, first, outer, psf = (
            (header.integer(f"{card}2"), header.integer(f"{card}1")) for card in _GRID_CARDS
        )
        border = (outer[0] - cell[0], outer[1] - cell[1])
        if shape[0] * shape[1] > _MOST_CELLS or min(*cell, *shape, *psf) < 1:
            raise self._file.corrupt(f"its grid has {shape} cells of {cell} pixels, kernels of {psf}")
        if min(border) < 0 or border[0] % 2 or border[1] % 2:
            raise self._file.corrupt(
                f"its grid has {shape} cells of {cell} pixels, {outer} with their border"
            )
        self.cell_shape: tuple[int, int] = cell
        self.n_cells: tuple[int, int] = shape
        self.n_tiles = shape
        self.psf_shape: tuple[int, int] = psf
        self._grid = self._cell_grid = BorderedGrid(cell, shape, first, (border[0] // 2, border[1] // 2))
        self.bbox = self._cell_grid.bbox
        self.tile_shape = outer

    def _read_cells(self) -> None:
        self._cells = CellTable(self._table, self.n_cells)
        self._column_of = {"image": "image", "mask": "mask", "variance": "variance"}
        n_noise = self._table.integer("NNOISE", 0, minimum=0)
        for n in range(min(n_noise, _MOST_NOISE_PLANES)):
            if (name := f"noise_{n:02}") in self._cells:
                self._column_of[f"noise/{n}"] = name
        if "maskfrac" in self._cells:
            self._column_of["mask_fraction/MASKFRAC"] = "maskfrac"
        pixels = self.tile_shape[0] * self.tile_shape[1]
        self._cells.require(dict.fromkeys(self._column_of.values(), pixels))
        self._cells.require({"psf": self.psf_shape[0] * self.psf_shape[1]})
        self.extra_planes = tuple(name for name in self._column_of if "/" in name)
        self.missing_cells: frozenset[tuple[int, int]] = missing_cells(self.n_cells, self._cells.row_of)

    def _read_mask_planes(self) -> None:
        planes = []
        for extension in walk_extensions(self._file):
            if extension.name == "MASKDEF":
                zero = round(extension.header.number("TZERO2", 0.0))
                rows = FitsTable(extension.header).rows
                if not {"MASK_NAME", "BIT_VALUE"} <= set(rows.dtype.names or ()):
                    raise self._file.corrupt("its table MASKDEF lacks MASK_NAME or BIT_VALUE")
                for row in rows:
                    name = bytes(row["MASK_NAME"]).rstrip(b" \0").decode("ascii", errors="replace")
                    bit = int(row["BIT_VALUE"]) + zero
                    if not 0 <= bit < _MOST_BITS:
                        raise self._file.corrupt(f"its mask plane {name} has bit {bit}, allowed are 0 to 30")
                    planes.append(MaskPlane(name=name, bit=bit, description=""))
        if not planes:
            # Files before version 0.6: nobody knows what the bits mean.
            del self._column_of["mask"]
        self.mask_planes = merge_mask_planes([planes]) if planes else ()
        self.planes = frozenset(self._column_of) & {"image", "mask", "variance"} | {"psf"}

    def _read_cell(self, plane: str, tile: tuple[int, int]) -> np.ndarray:
        box = self.tile_box(*tile)
        is_mask = plane == "mask"
        row = self._cells.row_of.get(tile)
        if row is None:
            if is_mask:
                no_data = next(1 << plane.bit for plane in self.mask_planes if plane.name == NO_DATA)
                return np.full(box.shape, no_data, dtype=np.int32)
            return np.full(box.shape, np.nan, dtype=np.float32)
        pixels = self._cells.read(self._column_of[plane], row).reshape(self.tile_shape)
        part = pixels[box.slices(self._cell_grid.outer_box(*tile))]
        if is_mask:
            return part.astype(np.int32)
        factor = 1.0 if plane.startswith("mask_fraction") else self._factor
        if plane == "variance":
            factor = factor**2
        return (part.astype(np.float64) * factor).astype(np.float32) if factor != 1.0 else part.astype("f4")


def _column(values: Any, name: str) -> bool:
    return any(key.startswith("TTYPE") and values[key] == name for key in values)
