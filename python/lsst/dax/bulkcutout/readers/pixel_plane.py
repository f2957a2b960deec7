# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Pixels of a two-dimensional image HDU, compressed in tiles or not."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..errors import UserError
from .fits_extension import Extension
from .tile_codec import TileCodec

__all__ = ("PixelPlane",)

_TYPES = {-64: "f8", -32: "f4", 8: "u1", 16: "i2", 32: "i4", 64: "i8"}
_MOST_PIXELS = 1 << 36


class PixelPlane:
    """The pixels of one image HDU.

    Parameters
    ----------
    extension
        The HDU.
    dtype
        Type of the pixels that are handed out: float32, into which all
        numbers are converted, or an integer for masks, which are integers in
        the file.
    shape
        Rows and columns that the HDU must have; its own if not given.
    factor
        What float32 pixels are multiplied with, in double precision.

    Raises
    ------
    CorruptInputError
        Raised if the header contradicts ``shape`` or itself.
    UserError
        Raised if the compression is one that is not read here.
    """

    def __init__(
        self,
        extension: Extension,
        *,
        dtype: type[np.generic],
        shape: tuple[int, int] | None = None,
        factor: float = 1.0,
    ) -> None:
        self.extension = extension
        self._file = extension.header.file
        self._dtype = np.dtype(dtype)
        self._factor = factor
        self.tile_shape: tuple[int, int] | None = None
        """Rows and columns of a compressed tile, `None` where not
        compressed."""
        header = extension.header
        prefix = "Z" if header.values.get("ZIMAGE") is True else ""
        self.shape = self._read_shape(prefix, shape)
        """Rows and columns."""
        bitpix = header.integer(f"{prefix}BITPIX")
        if bitpix not in _TYPES or (bitpix < 0 and self._dtype.kind != "f"):
            raise self._file.corrupt(f"{extension.name} has the pixel type {prefix}BITPIX = {bitpix}")
        self._stored = np.dtype(_TYPES[bitpix])
        self._scale, self._zero, self._blank = self._read_scale()
        if self._dtype.kind != "f" and (self._zero >= 1 << 31 or self._stored.itemsize == 8):
            self._dtype = np.dtype(np.int64)
        if prefix:
            ty = header.integer("ZTILE2", 1, minimum=1)
            tx = header.integer("ZTILE1", self.shape[1], minimum=1)
            self.tile_shape = (min(ty, self.shape[0]), min(tx, self.shape[1]))
            ny, nx = (-(-n // t) for n, t in zip(self.shape, self.tile_shape, strict=True))
            self._codec = TileCodec(extension, n_tiles=ny * nx, dtype=self._stored)
            self._stores = self._codec.stores.reshape(ny, nx)
            if self._codec.is_unsigned and bitpix == 16 and self._zero == 1 << 15:
                # Pixel lists hold no negative numbers: CFITSIO puts unsigned
                # ones there as they are.
                self._zero = 0.0
        elif header.data_size < self.shape[0] * self.shape[1] * self._stored.itemsize:
            raise self._file.corrupt(f"{extension.name} has {header.data_size} bytes, too few for its shape")

    def _read_shape(self, prefix: str, wanted: tuple[int, int] | None) -> tuple[int, int]:
        extension = self.extension
        header = extension.header
        n_axes = header.integer(f"{prefix}NAXIS", minimum=0)
        ny, nx = (
            header.integer(f"{prefix}NAXIS{axis}", minimum=1) if axis <= n_axes else 0 for axis in (2, 1)
        )
        # Further axes are allowed where they do nothing.
        others = [header.integer(f"{prefix}NAXIS{axis}", minimum=1) for axis in range(3, n_axes + 1)]
        if n_axes < 2 or any(n != 1 for n in others) or ny * nx > _MOST_PIXELS:
            raise self._file.corrupt(f"{extension.name} has {n_axes} axes and no image of two dimensions")
        if wanted is not None and (ny, nx) != wanted:
            raise self._file.corrupt(f"{extension.name} has the shape {(ny, nx)}, it should be {wanted}")
        return (ny, nx)

    def _read_scale(self) -> tuple[float, float, int | None]:
        """Scale, zero and the integer that stands for no number."""
        header = self.extension.header
        scale, zero, blank = header.number("BSCALE", 1.0), header.number("BZERO", 0.0), None
        if self._stored.kind != "f":
            key = "ZBLANK" if "ZBLANK" in header.values else "BLANK"
            blank = header.integer(key) if key in header.values else None
        if self._dtype.kind != "f" and (scale != 1.0 or zero != round(zero)):
            raise UserError(
                f"{self._file.path}: {self.extension.name} is a mask, and scaled (BSCALE = {scale}, "
                f"BZERO = {zero}); allowed are BSCALE = 1 and whole numbers."
            )
        return scale, zero, blank

    def read(self, rows: slice, columns: slice) -> np.ndarray:
        """Pixels by their position.

        Parameters
        ----------
        rows, columns
            Zero-based pixels of the HDU.

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
        if self.tile_shape is None:
            return self._read_plain(rows, columns)
        ty, tx = self.tile_shape
        pixels = np.empty((rows.stop - rows.start, columns.stop - columns.start), dtype=self._dtype)
        for iy in range(rows.start // ty, -(-rows.stop // ty)):
            y0, y1 = max(iy * ty, rows.start), min((iy + 1) * ty, rows.stop)
            for first, stop in self._runs(iy, columns.start // tx, -(-columns.stop // tx)):
                for ix, tile in enumerate(self._tiles(iy, first, stop), start=first):
                    x0, x1 = max(ix * tx, columns.start), min((ix + 1) * tx, columns.stop)
                    out = pixels[y0 - rows.start : y1 - rows.start, x0 - columns.start : x1 - columns.start]
                    out[...] = self._physical(tile[y0 - iy * ty : y1 - iy * ty, x0 - ix * tx : x1 - ix * tx])
        return pixels

    def _read_plain(self, rows: slice, columns: slice) -> np.ndarray:
        row_bytes = self.shape[1] * self._stored.itemsize
        content = self._file.read(
            self.extension.header.data_address + rows.start * row_bytes,
            (rows.stop - rows.start) * row_bytes,
            self.extension.name,
        )
        pixels = np.frombuffer(content, dtype=self._stored.newbyteorder(">")).reshape(-1, self.shape[1])
        return self._physical(pixels[:, columns])

    def _physical(self, stored: np.ndarray) -> np.ndarray:
        """The numbers that stored ones stand for."""
        if self._dtype.kind != "f":
            values = stored.astype(self._dtype)
            return values + self._dtype.type(self._zero) if self._zero else values
        # A damaged scale may send pixels beyond the largest float.
        with np.errstate(over="ignore", invalid="ignore"):
            values = stored
            if self._scale != 1.0 or self._zero != 0.0:
                values = values.astype(np.float64) * self._scale + self._zero
            if self._factor != 1.0:
                values = values.astype(np.float64) * self._factor
            values = values.astype(self._dtype)
        if self._blank is not None:
            values[stored == self._blank] = np.nan
        return values

    def _runs(self, iy: int, first: int, stop: int) -> Iterator[tuple[int, int]]:
        """Neighbours in a row of tiles that are stored in the same way."""
        for ix in range(first + 1, stop + 1):
            if ix == stop or self._stores[iy, ix] != self._stores[iy, first]:
                yield first, ix
                first = ix

    def _tiles(self, iy: int, first: int, stop: int) -> list[np.ndarray]:
        assert self.tile_shape is not None
        (ty, tx), (ny, nx) = self.tile_shape, self.shape
        height = min(ty, ny - iy * ty)
        shapes = [(height, min(tx, nx - ix * tx)) for ix in range(first, stop)]
        return self._codec.read(iy * self._stores.shape[1] + first, shapes)
