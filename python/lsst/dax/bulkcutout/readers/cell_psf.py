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
import zlib

import numpy as np

from ..errors import CorruptInputError
from .fits_file import BLOCK
from .fits_table import FitsTable
from .images_archive import Extension

__all__ = ("CellKernels",)

_GZIP_WRAPPER = 31


class CellKernels:
    """Kernels by cell.

    Parameters
    ----------
    extension
        The HDU.
    shape
        Cells in y and x, kernel rows and columns.

    Raises
    ------
    CorruptInputError
        Raised if the header contradicts ``shape`` or itself.
    """

    def __init__(self, extension: Extension, shape: tuple[int, int, int, int]) -> None:
        self._extension = extension
        self._file = extension.header.file
        self.shape = shape
        self._known: dict[tuple[int, int], np.ndarray] = {}
        header = extension.header
        self._prefix = prefix = "Z" if header.values.get("ZIMAGE") is True else ""
        found = tuple(header.integer(f"{prefix}NAXIS{axis}", minimum=1) for axis in (4, 3, 2, 1))
        if header.integer(f"{prefix}NAXIS") != 4 or found != shape:
            raise self._file.corrupt(f"{extension.name} has the shape {found}, its tree says {shape}")
        self._bitpix = header.integer(f"{prefix}BITPIX")
        if self._bitpix not in (-32, -64):
            raise self._file.corrupt(f"{extension.name} has the pixel type {prefix}BITPIX = {self._bitpix}")
        self._table: FitsTable | None = None

    def read(self, cell: tuple[int, int]) -> np.ndarray:
        """Kernel of a cell.

        Parameters
        ----------
        cell
            Zero-based index ``(y, x)`` in the array.

        Returns
        -------
        kernel
            Float32, shape ``(ky, kx)``.

        Raises
        ------
        CorruptInputError
            Raised if it is damaged.
        OSError
            Raised if it cannot be read.
        """
        if cell not in self._known:
            if self._is_gzip_rows():
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
        plain = []
        for packed in self._table.cells("COMPRESSED_DATA", first, first + n_tiles):
            # One byte more than there should be shows a tile that is too
            # long, without inflating all of it.
            inflater = zlib.decompressobj(_GZIP_WRAPPER)
            try:
                plain.append(inflater.decompress(packed, n_pixels * n_bytes + 1))
            except zlib.error as error:
                raise self._damaged(cell, str(error)) from None
            if len(plain[-1]) != n_pixels * n_bytes or not inflater.eof:
                raise self._damaged(cell, "its length is wrong")
        # GZIP_2 stores the first bytes of all pixels, then the second...
        shuffled = np.frombuffer(b"".join(plain), dtype=np.uint8).reshape(n_tiles, n_bytes, n_pixels)
        pixels = np.ascontiguousarray(shuffled.swapaxes(1, 2)).view(f">f{n_bytes}")
        return pixels.astype(np.float32).reshape(ky, kx)

    def _damaged(self, cell: tuple[int, int], why: str) -> CorruptInputError:
        return self._file.corrupt(f"kernel {cell} of {self._extension.name} is damaged ({why})")

    def _read_all(self) -> np.ndarray:
        # Costs half a second to import, and is hardly ever needed.
        import astropy.io.fits

        header = self._extension.header
        size = header.data_address - header.address + -(-header.data_size // BLOCK) * BLOCK
        content = self._file.read(header.address, size, self._extension.name)
        try:
            kind = astropy.io.fits.CompImageHDU if self._prefix else astropy.io.fits.ImageHDU
            kernels = np.asarray(kind.readfrom(io.BytesIO(content)).data, dtype=np.float32)
        except Exception as error:
            # All bytes were read, so whatever astropy trips over is in them.
            raise self._file.corrupt(f"{self._extension.name} cannot be decompressed ({error})") from error
        if kernels.shape != self.shape:
            raise self._file.corrupt(f"{self._extension.name} has the shape {kernels.shape}")
        return kernels
