# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Bytes of catalog files, decompressed on the way where need be."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import pyarrow as pa

from ..errors import UserError
from .files import unreadable

__all__ = ("CatalogBytes", "check_expansion", "compression_of", "native_stream")

PIECE_BYTES = 1024 * 1024
"""Bytes that are read at a time."""

MOST_EXPANSION = 200
"""A compressed file that becomes more than so many times as large is taken
for one that was made to fill memories and disks; catalogs shrink by 2 to
20."""

ALWAYS_ALLOWED_BYTES = 256 * 1024 * 1024
"""What a compressed file may become in any case."""

_CODECS = {b"\x1f\x8b": "gzip", b"BZh": "bz2", b"\x28\xb5\x2f\xfd": "zstd"}


def compression_of(start: bytes) -> str | None:
    """Tell how a file is compressed.

    Parameters
    ----------
    start
        Its first bytes, four or more.

    Returns
    -------
    codec
        Name of the codec as pyarrow calls it; `None` if it is not compressed.
    """
    return next((codec for magic, codec in _CODECS.items() if start.startswith(magic)), None)


def native_stream(path: Path) -> tuple[Any, str | None]:
    """Open a file for pyarrow.

    Parameters
    ----------
    path
        The file.

    Returns
    -------
    stream
        Stream of pyarrow that decompresses where need be.
    codec
        How the file is compressed; `None` if it is not.
    """
    with path.open("rb") as stream:
        codec = compression_of(stream.read(8))
    source = pa.OSFile(str(path), "rb")
    return (pa.CompressedInputStream(source, codec) if codec else source), codec


class CatalogBytes:
    """The contents of a file from start to end.

    Parameters
    ----------
    path
        The file; gzip, bzip2 and Zstandard are told by its first bytes.

    Raises
    ------
    UserError
        Raised if the file cannot be opened, is damaged, or becomes far larger
        than it is.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._given = 0
        try:
            self._size = path.stat().st_size
            self._stream, self.codec = native_stream(path)
        except (pa.ArrowException, OSError) as error:
            raise unreadable(path, error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()

    @property
    def n_left(self) -> int | None:
        """How many bytes are left; `None` where only reading them tells."""
        return None if self.codec else self._size - self._given

    def read(self, n_bytes: int) -> bytes:
        """Read on.

        Parameters
        ----------
        n_bytes
            Number of bytes.

        Returns
        -------
        data
            As many; fewer only at the end.
        """
        pieces = []
        while n_bytes > 0:
            try:
                piece = self._stream.read(min(n_bytes, PIECE_BYTES) if self.codec else n_bytes)
            except (pa.ArrowException, OSError) as error:
                raise unreadable(self._path, error) from error
            if not piece:
                break
            self._given += len(piece)
            n_bytes -= len(piece)
            pieces.append(piece)
            if self.codec and self._given > max(ALWAYS_ALLOWED_BYTES, MOST_EXPANSION * self._size):
                raise UserError(
                    f"Catalog {self._path} becomes more than {MOST_EXPANSION} times as large when it is "
                    "decompressed, as no catalog does. If it is one, decompress it before."
                )
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def skip(self, n_bytes: int) -> None:
        """Pass over bytes.

        Parameters
        ----------
        n_bytes
            Number of bytes; there may be fewer.
        """
        if self.codec is None:
            step = min(n_bytes, max(self._size - self._given, 0))
            self._stream.seek(self._given + step)
            self._given += step
            return
        while n_bytes > 0 and (piece := self.read(min(n_bytes, PIECE_BYTES))):
            n_bytes -= len(piece)


def check_expansion(path: Path) -> None:
    """Read a compressed file to its end before others do.

    Parameters
    ----------
    path
        Any file; nothing is done with one that is not compressed.

    Raises
    ------
    UserError
        Raised if it is damaged or becomes far larger than it is.
    """
    with CatalogBytes(path) as contents:
        while contents.codec and contents.read(PIECE_BYTES):
            pass
