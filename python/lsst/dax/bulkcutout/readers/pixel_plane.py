# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Pixels of a two-dimensional image HDU, compressed in tiles or not."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..errors import UserError
from .images_archive import Extension
from .tile_codec import TileCodec

__all__ = ("PixelPlane",)

_TYPES = {-64: "f8", -32: "f4", 32: "i4"}


class PixelPlane:
    """The pixels of one image HDU.

    Parameters
    ----------
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

    def __init__(self, extension: Extension, *, shape: tuple[int, int], dtype: type[np.generic]) -> None:
        self.extension = extension
        self._file = extension.header.file
        self._dtype = np.dtype(dtype)
        self._shape = shape
        self.tile_shape: tuple[int, int] | None = None
        """Rows and columns of a compressed tile, `None` where not
        compressed."""
        header = extension.header
        prefix = "Z" if header.values.get("ZIMAGE") is True else ""
        found = tuple(header.integer(f"{prefix}NAXIS{axis}", minimum=1) for axis in (2, 1))
        if header.integer(f"{prefix}NAXIS") != 2 or found != shape:
            raise self._file.corrupt(f"{extension.name} has the shape {found}, its tree says {shape}")
        bitpix = header.integer(f"{prefix}BITPIX")
        if bitpix not in _TYPES or (bitpix < 0) != (self._dtype.kind == "f"):
            raise self._file.corrupt(f"{extension.name} has the pixel type {prefix}BITPIX = {bitpix}")
        self._stored = np.dtype(_TYPES[bitpix])
        if any(header.number(key, default) != default for key, default in (("BSCALE", 1.0), ("BZERO", 0.0))):
            raise UserError(f"{self._file.path}: {extension.name} is scaled (BSCALE, BZERO); not read here.")
        if prefix:
            ty = header.integer("ZTILE2", 1, minimum=1)
            tx = header.integer("ZTILE1", shape[1], minimum=1)
            self.tile_shape = (min(ty, shape[0]), min(tx, shape[1]))
            ny, nx = (-(-n // t) for n, t in zip(shape, self.tile_shape, strict=True))
            self._codec = TileCodec(extension, n_tiles=ny * nx, dtype=self._stored)
            self._stores = self._codec.stores.reshape(ny, nx)
        elif header.data_size < shape[0] * shape[1] * self._stored.itemsize:
            raise self._file.corrupt(f"{extension.name} has {header.data_size} bytes, too few for its shape")

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
                    # A damaged scale may send pixels beyond the largest float.
                    with np.errstate(over="ignore", invalid="ignore"):
                        out[...] = tile[y0 - iy * ty : y1 - iy * ty, x0 - ix * tx : x1 - ix * tx]
        return pixels

    def _read_plain(self, rows: slice, columns: slice) -> np.ndarray:
        row_bytes = self._shape[1] * self._stored.itemsize
        content = self._file.read(
            self.extension.header.data_address + rows.start * row_bytes,
            (rows.stop - rows.start) * row_bytes,
            self.extension.name,
        )
        pixels = np.frombuffer(content, dtype=self._stored.newbyteorder(">")).reshape(-1, self._shape[1])
        return pixels[:, columns].astype(self._dtype)

    def _runs(self, iy: int, first: int, stop: int) -> Iterator[tuple[int, int]]:
        """Neighbours in a row of tiles that are stored in the same way."""
        for ix in range(first + 1, stop + 1):
            if ix == stop or self._stores[iy, ix] != self._stores[iy, first]:
                yield first, ix
                first = ix

    def _tiles(self, iy: int, first: int, stop: int) -> list[np.ndarray]:
        assert self.tile_shape is not None
        (ty, tx), (ny, nx) = self.tile_shape, self._shape
        height = min(ty, ny - iy * ty)
        n_pixels = [height * min(tx, nx - ix * tx) for ix in range(first, stop)]
        tiles = self._codec.read(iy * self._stores.shape[1] + first, n_pixels)
        return [tile.reshape(height, -1) for tile in tiles]
