# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""The bytes of a FITS file, and the headers among them."""

from __future__ import annotations

import errno
from types import TracebackType
from typing import Self

import numpy as np

from ..errors import CorruptInputError
from .byte_source import Location, open_bytes
from .fits_header import FitsHeader, read_cards

__all__ = ("BLOCK", "FitsFile")

BLOCK = 2880
"""Headers and data are padded to multiples of this many bytes."""

_MOST_HEADER_BYTES = 4000 * BLOCK
_CHUNK = 4000 * BLOCK


class FitsFile:
    """A FITS file, open for reading at any address.

    Parameters
    ----------
    location
        File to read: a path, a URI of lsst.resources, or an open source of
        bytes, which is closed with this.

    Raises
    ------
    CorruptInputError
        Raised if this is not a FITS file, or ends within its first header.
    OSError
        Raised as it comes if the file cannot be opened or read: that proves
        nothing about its content.
    """

    def __init__(self, location: Location) -> None:
        self.source = open_bytes(location)
        """Where the bytes come from."""
        self.path = self.source.name
        """Path or URI, for messages."""
        self.size = self.source.size
        """Bytes of the file."""
        try:
            magic = self.source.read(0, 10)
            if magic != b"SIMPLE  = ":
                raise self.corrupt(f"not a FITS file, it begins with {magic!r} and has {self.size} bytes")
            self.primary = self.header(0, "PRIMARY")
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; again does nothing."""
        self.source.close()

    def corrupt(self, what: str) -> CorruptInputError:
        """Make the error that says what is wrong with this file.

        Parameters
        ----------
        what
            What is wrong, without the full stop.

        Returns
        -------
        error
            To be raised; it names the file.
        """
        return CorruptInputError(f"{self.path}: {what}.")

    def read(self, address: int, size: int, what: str) -> bytes:
        """Some bytes of the file.

        Parameters
        ----------
        address, size
            First byte and number of bytes.
        what
            What these bytes are, for messages.

        Returns
        -------
        content
            ``size`` bytes.

        Raises
        ------
        CorruptInputError
            Raised if the file ends before them.
        OSError
            Raised as it comes if the file cannot be read.
        """
        if address < 0 or size < 0 or address + size > self.size:
            raise self.corrupt(
                f"truncated, it has {self.size} bytes and {what} is said to end at byte {address + size}"
            )
        parts = []
        while size > 0:
            part = self.source.read(address, size)
            if not part:
                raise OSError(errno.ESTALE, f"The file became shorter while {what} was read", self.path)
            parts.append(part)
            address += len(part)
            size -= len(part)
        return b"".join(parts)

    def read_array(self, address: int, size: int, what: str, *, margin: int = 0) -> np.ndarray:
        """Some bytes of the file, for decoders.

        Parameters
        ----------
        address, size, what
            As for `read`.
        margin
            Number of zeros that follow them.

        Returns
        -------
        content
            Uint8, shape ``(size + margin,)``.
        """
        content = np.empty(size + margin, dtype=np.uint8)
        content[size:] = 0
        content[:size] = np.frombuffer(self.read(address, size, what), dtype=np.uint8)
        return content

    def header(self, address: int, what: str) -> FitsHeader:
        """The header that begins at an address.

        Parameters
        ----------
        address
            First byte of the header.
        what
            Name of the HDU, for messages.

        Returns
        -------
        header
            Its cards.
        """
        text, end = b"", -1
        while end < 0:
            if address + len(text) >= self.size:
                raise self.corrupt(f"truncated, it has {self.size} bytes and ends within the {what} header")
            if len(text) > _MOST_HEADER_BYTES:
                raise self.corrupt(f"the {what} header has no END card")
            size = min(4 * BLOCK, self.size - address - len(text))
            start = len(text)
            text += self.read(address + start, size, f"the {what} header")
            if not text.startswith((b"SIMPLE  =", b"XTENSION=")):
                raise self.corrupt(f"there is no {what} header at byte {address}")
            for card in range(start, len(text) - 79, 80):
                if text[card : card + 8] == b"END     ":
                    end = card + 80
                    break
        data_address = address + -(-end // BLOCK) * BLOCK
        return FitsHeader(self, what, read_cards(text[:end]), address, data_address)

    def verify_checksums(self, header: FitsHeader) -> None:
        """Compare an HDU with its DATASUM and CHECKSUM cards, if it has them.

        Parameters
        ----------
        header
            Header of the HDU.
        """
        data_size = -(-header.data_size // BLOCK) * BLOCK
        if "DATASUM" in header.values:
            found = self._sum(header.data_address, data_size, header.name)
            if str(found) != str(header.values["DATASUM"]).strip():
                raise self.corrupt(
                    f"the data of {header.name} have the checksum {found}, "
                    f"DATASUM says {header.values['DATASUM']}"
                )
        if "CHECKSUM" in header.values:
            size = header.data_address - header.address + data_size
            # The card holds the complement, so that all of it adds up to -0.
            if self._sum(header.address, size, header.name) not in (0xFFFFFFFF, 0):
                raise self.corrupt(f"{header.name} does not fit its CHECKSUM")

    def _sum(self, address: int, size: int, what: str) -> int:
        total = 0
        for start in range(address, address + size, _CHUNK):
            part = self.read(start, min(_CHUNK, address + size - start), what)
            total += int(np.frombuffer(part, dtype=">u4").sum(dtype=np.uint64))
        while total >> 32:
            total = (total & 0xFFFFFFFF) + (total >> 32)
        return total
