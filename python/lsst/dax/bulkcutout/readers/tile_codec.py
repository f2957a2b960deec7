# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Compressed tiles of an image HDU: where their bytes are, what is in them.

CFITSIO is not asked, because it does not survive damage: it waits for ever
for the end of a gzip stream that has none, and runs out of the memory behind
a Rice stream. A damaged tile must be a message and not the end of a job.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Sequence

import numpy as np

from ..errors import UserError
from .fits_extension import Extension
from .fits_table import FitsTable

__all__ = ("DITHERS", "Quantization", "RiceOptions", "Store", "TileCodec")

_CODECS = ("GZIP_1", "GZIP_2", "RICE_1", "RICE_ONE", "PLIO_1", "HCOMPRESS_1", "NOCOMPRESS")

DITHERS = ("NO_DITHER", "NONE", "SUBTRACTIVE_DITHER_1", "SUBTRACTIVE_DITHER_2")
"""Values of ZQUANTIZ; the second is an older name of the first."""

_COMMON_BLANK = -2147483647
"""What writers that leave out ZBLANK use."""

_N_RANDOM = 10_000
"""Length of the sequence of random numbers."""

_MOST_BLOCK_PIXELS = 1024
"""Largest block size of Rice compression that is taken for one; 16 and 32 are
in use."""


class Store(enum.IntEnum):
    """Column that holds the pixels of a tile."""

    NOWHERE = 0
    COMPRESSED_DATA = 1
    # For a tile that the codec of the HDU could not have.
    GZIP_COMPRESSED_DATA = 2
    UNCOMPRESSED_DATA = 3


@dataclasses.dataclass(frozen=True)
class Quantization:
    """How floating-point pixels became integers."""

    scales: np.ndarray
    """Scale and zero of each tile, float64, shape ``(n_tiles, 2)``."""

    blanks: np.ndarray
    """The integer of each tile that stands for NaN, int64."""

    dither: str
    """One of `DITHERS`."""

    seed: int
    """Place of the first tile in the sequence of random numbers."""


@dataclasses.dataclass(frozen=True)
class RiceOptions:
    """Parameters of Rice compression."""

    block_pixels: int = 0
    """Pixels that share a code (BLOCKSIZE)."""

    pixel_bytes: int = 4
    """Bytes of an integer (BYTEPIX)."""


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
        self.dtype = dtype
        """Type of the pixels before compression."""
        header, name = extension.header, extension.name
        self.name = self._known("ZCMPTYPE", header.text("ZCMPTYPE"), _CODECS)
        """Value of ZCMPTYPE."""
        if header.integer("NAXIS2") != n_tiles:
            raise self._file.corrupt(f"{name} has {header.integer('NAXIS2')} tiles instead of {n_tiles}")
        self._table = FitsTable(header)
        columns = set(self._table.rows.dtype.names or ())
        if Store.COMPRESSED_DATA.name not in columns:
            raise self._file.corrupt(f"{name} has no column COMPRESSED_DATA")
        self.stores = np.full(n_tiles, Store.NOWHERE, dtype=np.uint8)
        """Where each tile is, as numbers of `Store`."""
        self.addresses = np.zeros(n_tiles, dtype=np.int64)
        """First byte of each tile in the file."""
        self.sizes = np.zeros(n_tiles, dtype=np.int64)
        """Bytes of each tile."""
        for store in (Store.COMPRESSED_DATA, Store.GZIP_COMPRESSED_DATA, Store.UNCOMPRESSED_DATA):
            if store.name in columns:
                addresses, sizes = self._table.places(store.name)
                filled = (sizes > 0) & (self.stores == Store.NOWHERE)
                self.stores[filled] = store
                self.addresses[filled], self.sizes[filled] = addresses[filled], sizes[filled]
        self.quantization = self._quantization(columns)
        """How the pixels became integers, if they did."""
        self.rice = RiceOptions()
        """Parameters of Rice compression."""
        if self.name.startswith("RICE"):
            self.rice = RiceOptions(self._parameter("BLOCKSIZE", 32), self._parameter("BYTEPIX", 4))
            is_known = 1 <= self.rice.block_pixels <= _MOST_BLOCK_PIXELS
            if not is_known or self.rice.pixel_bytes not in (1, 2, 4):
                raise self._file.corrupt(f"{name} has no known BLOCKSIZE and BYTEPIX of Rice compression")
        self.is_smoothed = self.name == "HCOMPRESS_1" and self._parameter("SMOOTH", 0) != 0
        """Whether HCOMPRESS is asked to smooth."""

    def _quantization(self, columns: set[str]) -> Quantization | None:
        header, is_float = self._extension.header, self.dtype.kind == "f"
        if not is_float or not ("ZSCALE" in columns or "ZSCALE" in header.values):
            if is_float and not self.name.startswith(("GZIP", "NOCOMPRESS")):
                raise self._file.corrupt(
                    f"{self._extension.name} has no ZSCALE, and {self.name} holds whole numbers only"
                )
            return None
        blanks = self._of_tiles("ZBLANK", _COMMON_BLANK)
        # No integer is NaN, or beyond 64 bits, whatever a damaged card says.
        is_whole = np.abs(blanks) < 1 << 62
        return Quantization(
            scales=np.stack([self._of_tiles("ZSCALE"), self._of_tiles("ZZERO", 0.0)], axis=1),
            blanks=np.where(is_whole, blanks, _COMMON_BLANK).astype(np.int64),
            dither=self._known("ZQUANTIZ", header.text("ZQUANTIZ", "NO_DITHER"), DITHERS),
            seed=(header.integer("ZDITHER0", 1, minimum=1) - 1) % _N_RANDOM,
        )

    def _of_tiles(self, key: str, default: float | None = None) -> np.ndarray:
        """A quantity that has a column or else a card."""
        rows = self._table.rows
        if key not in (rows.dtype.names or ()):
            return np.full(len(rows), self._extension.header.number(key, default))
        if rows[key].ndim != 1 or rows[key].dtype.kind not in "iuf":
            raise self._file.corrupt(f"column {key} of {self._extension.name} does not hold numbers")
        return rows[key].astype(np.float64)

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
