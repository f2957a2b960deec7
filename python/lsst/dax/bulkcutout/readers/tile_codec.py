# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Compressed tiles of an image HDU: where their bytes are, what is in them.

CFITSIO is not asked, because it does not survive damage: it waits for ever
for the end of a gzip stream that has none, and runs out of the memory behind
a Rice stream. A damaged tile must be a message and not the end of a job.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import CorruptInputError, UserError
from .fits_extension import Extension
from .fits_table import FitsTable
from .gzip_tile import gunzip, pixels_of
from .hcompress_tile import unhcompress
from .plio_tile import unplio
from .quantized import DITHERS, dequantize
from .rice_tile import MOST_BLOCK_PIXELS, PIXEL_TYPES, unrice

__all__ = ("Store", "TileCodec")

_CODECS = ("GZIP_1", "GZIP_2", "RICE_1", "RICE_ONE", "PLIO_1", "HCOMPRESS_1", "NOCOMPRESS")
_INTEGERS: dict[int, np.dtype[Any]] = {
    1: np.dtype("u1"),
    2: np.dtype("i2"),
    4: np.dtype("i4"),
    8: np.dtype("i8"),
}
_FLOATS: dict[int, np.dtype[Any]] = {4: np.dtype("f4"), 8: np.dtype("f8")}
_COMMON_BLANK = -2147483647
"""What writers that leave out ZBLANK use."""


class Store(enum.IntEnum):
    """Column that holds the pixels of a tile."""

    NOWHERE = 0
    COMPRESSED_DATA = 1
    # For a tile that the codec of the HDU could not have.
    GZIP_COMPRESSED_DATA = 2
    UNCOMPRESSED_DATA = 3


class TileCodec:
    """The tiles of one compressed image HDU.

    Parameters
    ----------
    extension
        The HDU.
    n_tiles
        How many tiles it must have.
    dtype
        Type of the pixels before compression.

    Raises
    ------
    CorruptInputError
        Raised if the header contradicts itself.
    UserError
        Raised if the compression is one that is not read here.
    """

    def __init__(self, extension: Extension, *, n_tiles: int, dtype: np.dtype[np.generic]) -> None:
        self._extension = extension
        self._file = extension.header.file
        self._dtype = dtype
        header, name = extension.header, extension.name
        self._codec = self._known("ZCMPTYPE", header.text("ZCMPTYPE"), _CODECS)
        self.is_unsigned = self._codec == "PLIO_1"
        """Whether the compression is one for unsigned integers."""
        if header.integer("NAXIS2") != n_tiles:
            raise self._file.corrupt(f"{name} has {header.integer('NAXIS2')} tiles instead of {n_tiles}")
        self._table = FitsTable(header)
        columns = set(self._table.rows.dtype.names or ())
        if Store.COMPRESSED_DATA.name not in columns:
            raise self._file.corrupt(f"{name} has no column COMPRESSED_DATA")
        self.stores = np.full(n_tiles, Store.NOWHERE, dtype=np.uint8)
        """Where each tile is, as numbers of `Store`."""
        for store in (Store.COMPRESSED_DATA, Store.GZIP_COMPRESSED_DATA, Store.UNCOMPRESSED_DATA):
            if store.name in columns:
                filled = self._table.in_heap(store.name) & (self._table.rows[store.name][:, 0] > 0)
                self.stores[filled & (self.stores == Store.NOWHERE)] = store
        self._is_quantized = dtype.kind == "f" and ("ZSCALE" in columns or "ZSCALE" in header.values)
        if self._is_quantized:
            self._dither = self._known("ZQUANTIZ", header.text("ZQUANTIZ", "NO_DITHER"), DITHERS)
            self._seed = header.integer("ZDITHER0", 1, minimum=1)
        elif dtype.kind == "f" and not self._codec.startswith(("GZIP", "NOCOMPRESS")):
            raise self._file.corrupt(f"{name} has no ZSCALE, and {self._codec} holds whole numbers only")
        if self._codec.startswith("RICE"):
            self._block_pixels = self._parameter("BLOCKSIZE", 32)
            self._pixel_bytes = self._parameter("BYTEPIX", 4)
            if not 1 <= self._block_pixels <= MOST_BLOCK_PIXELS or self._pixel_bytes not in PIXEL_TYPES:
                raise self._file.corrupt(f"{name} has no known BLOCKSIZE and BYTEPIX of Rice compression")

    def read(self, first: int, shapes: Sequence[tuple[int, int]]) -> list[np.ndarray]:
        """Pixels of tiles that are stored side by side in the same way.

        Parameters
        ----------
        first
            Number of the first tile.
        shapes
            Rows and columns of each of them.

        Returns
        -------
        pixels
            One array for each tile, of its shape: integers as they are
            stored, or floats with NaN where there are none.

        Raises
        ------
        CorruptInputError
            Raised if one of them is damaged.
        OSError
            Raised if they cannot be read.
        """
        store = Store(self.stores[first])
        if store is Store.NOWHERE:
            raise self._damaged("it has no bytes, or bytes outside the HDU")
        contents = self._table.cells(store.name, first, first + len(shapes))
        tiles = []
        try:
            for number, (content, shape) in enumerate(zip(contents, shapes, strict=True), start=first):
                if store is Store.COMPRESSED_DATA:
                    pixels = self._decode(number, content, shape)
                else:
                    if store is Store.GZIP_COMPRESSED_DATA:
                        content = gunzip(content, most_bytes=8 * shape[0] * shape[1])
                    pixels = _plain(content, shape[0] * shape[1], is_float=self._dtype.kind == "f")
                tiles.append(pixels.reshape(shape))
        except ValueError as error:
            raise self._damaged(str(error)) from None
        return tiles

    def _decode(self, number: int, content: bytes, shape: tuple[int, int]) -> np.ndarray:
        pixels = self._decompress(content, shape)
        if not self._is_quantized:
            return pixels
        blank = self._of_tile("ZBLANK", number, _COMMON_BLANK)
        return dequantize(
            pixels,
            scale=self._of_tile("ZSCALE", number),
            zero=self._of_tile("ZZERO", number, 0.0),
            blank=int(blank),
            dither=self._dither,
            seed=number + self._seed,
        )

    def _decompress(self, content: bytes, shape: tuple[int, int]) -> np.ndarray:
        n_pixels = shape[0] * shape[1]
        if self._codec.startswith("RICE"):
            return unrice(
                content, n_pixels=n_pixels, block_pixels=self._block_pixels, pixel_bytes=self._pixel_bytes
            )
        if self._codec == "PLIO_1":
            return unplio(content, n_pixels=n_pixels)
        if self._codec == "HCOMPRESS_1":
            return unhcompress(content, shape=shape, smooth=self._parameter("SMOOTH", 0) != 0)
        if self._codec != "NOCOMPRESS":
            content = gunzip(content, most_bytes=8 * n_pixels)
        is_float = self._dtype.kind == "f" and not self._is_quantized
        return _plain(content, n_pixels, is_float=is_float, shuffled=self._codec == "GZIP_2")

    def _of_tile(self, key: str, number: int, default: float | None = None) -> float:
        """A quantity that has a column or else a card."""
        if key in (self._table.rows.dtype.names or ()):
            return float(self._table.rows[key][number])
        return self._extension.header.number(key, default)

    def _parameter(self, name: str, default: int) -> int:
        header = self._extension.header
        for number in range(1, 10):
            if header.values.get(f"ZNAME{number}") == name:
                value = header.values.get(f"ZVAL{number}")
                return int(value) if isinstance(value, bool) else round(header.number(f"ZVAL{number}"))
        return default

    def _known(self, key: str, value: str, known: Sequence[str]) -> str:
        if value not in known:
            raise UserError(
                f"{self._file.path}: {self._extension.name} is compressed with {key} = {value}; "
                f"read here are {', '.join(known)}."
            )
        return value

    def _damaged(self, why: str) -> CorruptInputError:
        return self._file.corrupt(f"a tile of {self._extension.name} is damaged ({why})")


def _plain(content: bytes, n_pixels: int, *, is_float: bool, shuffled: bool = False) -> np.ndarray:
    """Pixels from their bytes, of which writers take as many as are needed."""
    width, rest = divmod(len(content), max(n_pixels, 1))
    dtype = (_FLOATS if is_float else _INTEGERS).get(width)
    if rest or dtype is None:
        raise ValueError(f"it has {len(content)} bytes for {n_pixels} pixels")
    return pixels_of(content, dtype, shuffled=shuffled)
