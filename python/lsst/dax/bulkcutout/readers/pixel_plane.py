# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Pixels of a two-dimensional image HDU, compressed in tiles or not."""

from __future__ import annotations

import dataclasses

import numpy as np

from ..errors import CorruptInputError, UserError
from .canvas import Canvas, Scaling
from .fits_extension import Extension
from .plain_tiles import PlainTiles
from .tile_codec import TileCodec
from .tile_decoder import TileDecoder

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
        self._scaling = self._read_scaling(factor)
        if self._dtype.kind != "f" and (self._scaling.zero >= 1 << 31 or self._stored.itemsize == 8):
            self._dtype = np.dtype(np.int64)
        if prefix:
            ty = header.integer("ZTILE2", 1, minimum=1)
            tx = header.integer("ZTILE1", self.shape[1], minimum=1)
            self.tile_shape = (min(ty, self.shape[0]), min(tx, self.shape[1]))
            ny, nx = (-(-n // t) for n, t in zip(self.shape, self.tile_shape, strict=True))
            self._codec = TileCodec(extension, n_tiles=ny * nx, dtype=self._stored)
            if self._codec.name == "PLIO_1" and bitpix == 16 and self._scaling.zero == 1 << 15:
                # Pixel lists hold no negative numbers: CFITSIO puts unsigned
                # ones there as they are.
                self._scaling = dataclasses.replace(self._scaling, zero=0.0)
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

    def _read_scaling(self, factor: float) -> Scaling:
        """How numbers become pixels."""
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
        return Scaling(scale, zero, factor, blank)

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
        pixels = np.empty((rows.stop - rows.start, columns.stop - columns.start), dtype=self._dtype)
        self.load_part(rows, columns, pixels)
        return pixels

    def load_part(self, rows: slice, columns: slice, pixels: np.ndarray) -> None:
        """Decode pixels by their position, into an array.

        Parameters
        ----------
        rows, columns
            As for `read`, which also tells what is raised.
        pixels
            Of the shape of the part; its rows are contiguous.
        """
        if self.tile_shape is None:
            self._load_plain(rows, columns, pixels)
            return
        ty, tx = self.tile_shape
        iy, ix = np.mgrid[
            rows.start // ty : -(-rows.stop // ty), columns.start // tx : -(-columns.stop // tx)
        ]
        damaged = self.load_tiles(
            iy.ravel(), ix.ravel(), pixels, (rows.start, columns.start), np.full(iy.size, rows.stop)
        )
        for error in damaged.values():
            raise error

    def load_tiles(
        self,
        iy: np.ndarray,
        ix: np.ndarray,
        pixels: np.ndarray,
        origin: tuple[int, int],
        last_rows: np.ndarray,
        *,
        threads: int = 1,
    ) -> dict[int, CorruptInputError]:
        """Decode tiles of a compressed HDU into an array.

        Parameters
        ----------
        iy, ix
            Indices of the tiles, row by row, shape ``(n,)``.
        pixels
            Floats, or integers if the HDU has them; rows are contiguous.
        origin
            Row and column of the HDU that its first pixel is.
        last_rows
            Row of the HDU after the last that is wanted of each tile.
        threads
            How many threads may decode.

        Returns
        -------
        damaged
            What is wrong, for each tile (by its index in ``iy``) that is.

        Raises
        ------
        OSError
            Raised if they cannot be read.
        """
        assert self.tile_shape is not None
        (ty, tx), (ny, nx) = self.tile_shape, self.shape
        heights, widths = np.minimum(ty, ny - iy * ty), np.minimum(tx, nx - ix * tx)
        places = [iy * ty - origin[0], ix * tx - origin[1], heights, widths, last_rows - iy * ty]
        decoder = TileDecoder(self.extension, self._codec, Canvas(pixels), self._scaling)
        return decoder.load(iy * -(-nx // tx) + ix, np.stack(places, axis=1), threads=threads)

    def _load_plain(self, rows: slice, columns: slice, pixels: np.ndarray) -> None:
        """Pixels of an HDU that is not compressed: rows are the tiles."""
        width, is_float = self.shape[1], self._stored.kind == "f"
        row_bytes = width * self._stored.itemsize
        converter = PlainTiles(Canvas(pixels), self._scaling, is_float=is_float)
        step = max(1, self._file.source.piece_bytes // row_bytes)
        for first in range(rows.start, rows.stop, step):
            n_rows = min(step, rows.stop - first)
            stream = self._file.read_array(
                self.extension.header.data_address + first * row_bytes,
                n_rows * row_bytes,
                self.extension.name,
            )
            place = [first - rows.start, -columns.start, n_rows, width, n_rows]
            tile = np.array([[*place, 0, 0, len(stream), self._scaling.blank or 0]], dtype=np.int64)
            converter.place(stream, tile, None, is_shuffled=False)
