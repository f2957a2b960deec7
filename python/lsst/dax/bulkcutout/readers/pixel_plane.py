# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Pixels of a two-dimensional image HDU, decompressed by CFITSIO.

All that CFITSIO believes without asking (shapes, lengths, places in the heap)
is compared with the file before it sees it, and what it then says is sorted
into damage, which is final, and accident, which is worth another try.
"""

from __future__ import annotations

import errno
import re
from typing import Any

import fitsio
import numpy as np

from ..errors import UserError
from .fits_file import FitsFile
from .fits_table import FitsTable
from .images_archive import Extension

__all__ = ("Cfitsio", "PixelPlane")

_CODECS = ("GZIP_1", "GZIP_2", "RICE_1", "RICE_ONE")
_STATUS = re.compile(r"FITSIO status = (\d+)")
_IO_STATUS = (104, 106, 107, 108, 113)
"""Cannot open, write, end of file, cannot read, no memory: nothing that the
content of a file could be blamed for, once its length has been checked."""


class Cfitsio:
    """The connection of fitsio to a file, made when it is first needed.

    Parameters
    ----------
    file
        The open file; it must stay open longer than this.
    """

    def __init__(self, file: FitsFile) -> None:
        self._file = file
        self._fits: Any = None

    def read(self, extension: Extension, rows: slice, columns: slice) -> np.ndarray:
        """Pixels of one image HDU.

        Raises
        ------
        CorruptInputError
            Raised if they cannot be decompressed.
        OSError
            Raised if they cannot be read.
        """
        try:
            if self._fits is None:
                self._fits = fitsio.FITS(self._file.open_path, "r")
            pixels: np.ndarray = self._fits[extension.number][rows, columns]
        except (OSError, RuntimeError, SystemError, ValueError) as error:
            # CFITSIO keeps tiles between calls; after a failure it gets a new
            # start instead of our trust.
            self.close()
            raise self._diagnose(extension, error) from error
        return pixels

    def close(self) -> None:
        """Close the connection; the next reading opens it again."""
        fits, self._fits = self._fits, None
        if fits is not None:
            fits.close()

    def _diagnose(self, extension: Extension, error: Exception) -> Exception:
        if isinstance(error, OSError) and error.errno is not None:
            return error
        message = str(error).strip()
        match = _STATUS.search(message)
        status = int(match[1]) if match else 0
        if 400 <= status < 500:
            return self._file.corrupt(f"{extension.name} cannot be decompressed (CFITSIO status {status})")
        # CFITSIO hides errno. Reading the same bytes shows it, if the trouble
        # lasts: this raises the OSError as it is.
        header = extension.header
        self._file.read(header.address, header.data_address - header.address, extension.name)
        for start in range(0, header.data_size, 1 << 23):
            size = min(1 << 23, header.data_size - start)
            self._file.read(header.data_address + start, size, extension.name)
        if status in _IO_STATUS:
            return OSError(errno.EIO, f"CFITSIO could not read {extension.name}: {message}", self._file.path)
        return self._file.corrupt(f"{extension.name} cannot be read: {message}")


class PixelPlane:
    """The pixels of one image HDU.

    Parameters
    ----------
    cfitsio
        Connection to the file.
    extension
        The HDU.
    shape
        Rows and columns that the HDU must have.
    dtype
        Type of the pixels that are handed out.

    Raises
    ------
    CorruptInputError
        Raised if the header contradicts ``shape`` or itself.
    UserError
        Raised if the compression is one that is not read here.
    """

    def __init__(
        self, cfitsio: Cfitsio, extension: Extension, *, shape: tuple[int, int], dtype: type[np.generic]
    ) -> None:
        self._cfitsio = cfitsio
        self.extension = extension
        self._file = extension.header.file
        self._dtype = np.dtype(dtype)
        self._shape = shape
        self.tile_shape: tuple[int, int] | None = None
        """Rows and columns of a compressed tile, `None` where not
        compressed."""
        self._intact: np.ndarray | None = None
        header = extension.header
        prefix = "Z" if header.values.get("ZIMAGE") is True else ""
        found = tuple(header.integer(f"{prefix}NAXIS{axis}", minimum=1) for axis in (2, 1))
        if header.integer(f"{prefix}NAXIS") != 2 or found != shape:
            raise self._file.corrupt(f"{extension.name} has the shape {found}, its tree says {shape}")
        bitpix = header.integer(f"{prefix}BITPIX")
        if bitpix not in ((-32, -64) if self._dtype.kind == "f" else (8, 16, 32)):
            raise self._file.corrupt(f"{extension.name} has the pixel type {prefix}BITPIX = {bitpix}")
        if any(header.number(key, default) != default for key, default in (("BSCALE", 1.0), ("BZERO", 0.0))):
            raise UserError(f"{self._file.path}: {extension.name} is scaled (BSCALE, BZERO); not read here.")
        if prefix:
            self._check_tiles()

    def _check_tiles(self) -> None:
        header, name = self.extension.header, self.extension.name
        codec = header.text("ZCMPTYPE")
        if codec not in _CODECS:
            raise UserError(
                f"{self._file.path}: {name} is compressed with {codec}; read here are {', '.join(_CODECS)}."
            )
        ty, tx = header.integer("ZTILE2", 1, minimum=1), header.integer("ZTILE1", self._shape[1], minimum=1)
        self.tile_shape = (min(ty, self._shape[0]), min(tx, self._shape[1]))
        ny, nx = (-(-n // t) for n, t in zip(self._shape, self.tile_shape, strict=True))
        if header.integer("NAXIS2") != ny * nx:
            raise self._file.corrupt(f"{name} has {header.integer('NAXIS2')} tiles instead of {ny * nx}")
        table = FitsTable(header)
        columns = set(table.rows.dtype.names or ())
        if "COMPRESSED_DATA" not in columns:
            raise self._file.corrupt(f"{name} has no column COMPRESSED_DATA")
        intact = np.ones(ny * nx, dtype=bool)
        filled = np.zeros(ny * nx, dtype=bool)
        for column in columns & {"COMPRESSED_DATA", "GZIP_COMPRESSED_DATA", "UNCOMPRESSED_DATA"}:
            intact &= table.in_heap(column)
            filled |= table.rows[column][:, 0] > 0
        self._intact = (intact & filled).reshape(ny, nx)

    def is_intact(self, rows: slice, columns: slice) -> bool:
        """Whether all tiles that hold these pixels lie within the HDU."""
        if self._intact is None or self.tile_shape is None:
            return True
        ty, tx = self.tile_shape
        touched = self._intact[
            rows.start // ty : -(-rows.stop // ty), columns.start // tx : -(-columns.stop // tx)
        ]
        return bool(touched.all())

    def read(self, rows: slice, columns: slice) -> np.ndarray:
        """Pixels by their zero-based position in the HDU.

        Returns
        -------
        pixels
            Native byte order; NaN where there are none.

        Raises
        ------
        CorruptInputError
            Raised if a tile that holds some of them is damaged.
        OSError
            Raised if they cannot be read.
        """
        if not self.is_intact(rows, columns):
            raise self._file.corrupt(f"a tile of {self.extension.name} points outside the HDU")
        return self._cfitsio.read(self.extension, rows, columns).astype(self._dtype, copy=False)
