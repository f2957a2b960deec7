# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Bytes of a file by their address, on this machine or in an object store.

Of an image in an object store only what is wanted is fetched: headers, the
tables of its tiles, and the tiles that targets touch.
"""

from __future__ import annotations

import collections
import contextlib
import os
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from lsst.resources import ResourcePath

__all__ = ("ByteSource", "LocalBytes", "Location", "RemoteBytes", "open_bytes")

type Location = str | ResourcePath | LocalBytes | RemoteBytes
"""A path on this machine, a URI, or what is open already."""

_KEPT = 8
_MOST_KEPT_BYTES = 1 << 20


class ByteSource(Protocol):
    """An open file."""

    @property
    def name(self) -> str:
        """Path or URI, for messages."""

    @property
    def size(self) -> int:
        """Bytes of the file."""

    @property
    def piece_bytes(self) -> int:
        """So much is best read at a time."""

    @property
    def gap_bytes(self) -> int:
        """Reading so many bytes for nothing is cheaper than reading twice."""

    def read(self, address: int, size: int) -> bytes:
        """Read some bytes.

        Parameters
        ----------
        address, size
            First byte and number of bytes.

        Returns
        -------
        content
            At most ``size`` bytes; fewer do not mean that the file ends, but
            none does.
        """

    def close(self) -> None:
        """Close the file; again does nothing."""


def open_bytes(location: Location) -> LocalBytes | RemoteBytes:
    """Open a file, wherever it is.

    Parameters
    ----------
    location
        Path, URI, or what is open already.

    Returns
    -------
    source
        Its bytes.

    Raises
    ------
    OSError
        Raised as it comes if it cannot be opened.
    """
    if isinstance(location, str):
        return LocalBytes(location)
    if isinstance(location, LocalBytes | RemoteBytes):
        return location
    return LocalBytes(location.ospath) if location.isLocal else RemoteBytes(location)


class LocalBytes:
    """A file of this machine, or of a file system that it has.

    Parameters
    ----------
    path
        The file.
    """

    # Measured on files in the page cache: half or four times as much are not
    # faster, and a gap of eight times as much is not slower. On cold ones it
    # would be.
    piece_bytes = 1 << 20
    """So much is read at a time."""

    gap_bytes = 1 << 16
    """A larger gap is left out."""

    def __init__(self, path: str) -> None:
        self.name = path
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self.size = os.fstat(self._descriptor).st_size

    def read(self, address: int, size: int) -> bytes:
        """Read some bytes.

        Parameters
        ----------
        address, size
            First byte and number of bytes.

        Returns
        -------
        content
            At most ``size`` bytes.
        """
        return os.pread(self._descriptor, size, address)

    def close(self) -> None:
        """Close the file; again does nothing."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


class RemoteBytes:
    """A file that lsst.resources reads for us, in ranges.

    Parameters
    ----------
    uri
        The file. Where its server does not know ranges, lsst.resources
        fetches all of it.

    Notes
    -----
    Whatever goes wrong is an `OSError`: it tells nothing about the file.
    """

    # A request costs some tens of milliseconds, in which a megabyte comes.
    piece_bytes = 16 << 20
    """So much is fetched at a time, where all of it is wanted."""

    gap_bytes = 1 << 20
    """A larger gap is left out."""

    least_bytes = 1 << 18
    """So much is fetched at least: headers and tables are near each other."""

    def __init__(self, uri: ResourcePath) -> None:
        self.name = str(uri)
        self._lock = threading.Lock()
        self._kept: collections.deque[tuple[int, bytes]] = collections.deque(maxlen=_KEPT)
        self._stack = contextlib.ExitStack()
        with self._as_os_error():
            self.size = uri.size()
            self._handle = self._stack.enter_context(uri.open("rb"))

    def read(self, address: int, size: int) -> bytes:
        """Fetch some bytes, or take them from what was fetched.

        Parameters
        ----------
        address, size
            First byte and number of bytes.

        Returns
        -------
        content
            At most ``size`` bytes.
        """
        with self._lock, self._as_os_error():
            for first, content in self._kept:
                if first <= address and address + size <= first + len(content):
                    return content[address - first : address - first + size]
            wanted = min(max(size, self.least_bytes), self.size - address)
            self._handle.seek(address)
            content = bytes(self._handle.read(wanted))
            if len(content) > wanted:
                raise OSError("the server gives more than it was asked for")
            if len(content) <= _MOST_KEPT_BYTES:
                self._kept.append((address, content))
            return content[:size]

    def close(self) -> None:
        """Close the file; again does nothing."""
        self._stack.close()

    @contextlib.contextmanager
    def _as_os_error(self) -> Iterator[None]:
        try:
            yield
        except OSError:
            raise
        except Exception as error:
            # Each kind of store has errors of its own.
            raise OSError(f"{self.name} cannot be read: {type(error).__name__}: {error}") from error
