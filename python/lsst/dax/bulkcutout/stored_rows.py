# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Rows of pixels that lie in a file, to be moved to another one as they are.

Both kinds can stand where an array is expected; whoever knows that the other
file has the same layout moves the bytes without looking at them.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from typing import Any

import h5py
import numpy as np

from .errors import CorruptInputError

__all__ = ("ChunkRows", "FloatRows", "find_chunks", "runs", "write_all")

_COPY_BYTES = 1 << 30
"""Most that is asked of the kernel at once; a signal waits for it."""

_BUFFER_BYTES = 1 << 18
"""Where the kernel cannot copy: a buffer that stays in the cache."""

_SPAN_BYTES = 1 << 24
"""Most that is read at once where chunks lie close together."""

_NOT_COPIED = (errno.EXDEV, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL, errno.EPERM)


def runs(rows: np.ndarray) -> Iterator[tuple[int, int]]:
    """Find the rows that follow on each other.

    Parameters
    ----------
    rows
        Ascending numbers, shape ``(k,)``.

    Yields
    ------
    first, n
        First row of a run, and their number.
    """
    if len(rows):
        ends = np.flatnonzero(np.diff(rows) != 1) + 1
        starts = np.concatenate([[0], ends])
        lengths = np.diff(np.append(starts, len(rows)))
        yield from zip(rows[starts].tolist(), lengths.tolist(), strict=True)


def write_all(descriptor: int, view: memoryview, position: int) -> None:
    """Write bytes to a place of a file, all of them.

    Parameters
    ----------
    descriptor
        The file.
    view
        Bytes.
    position
        Where the first one goes.

    Raises
    ------
    OSError
        Raised if the disk takes no more: what is written by half then is no
        silent hole.
    """
    written = os.pwrite(descriptor, view, position)
    while written < len(view):
        view, position = view[written:], position + written
        written = os.pwrite(descriptor, view, position)


class FloatRows:
    """Rows of a dataset that lies in one piece, without filters.

    Parameters
    ----------
    dataset
        The dataset; its file stays open as long as this is used.
    descriptor
        The same file, to be read by place.
    rows
        Ascending numbers of rows, shape ``(k,)``.
    """

    def __init__(self, dataset: h5py.Dataset, descriptor: int, rows: np.ndarray) -> None:
        self.dtype: np.dtype = dataset.dtype
        self.shape = (len(rows), *dataset.shape[1:])
        self._rows = rows
        self._name = dataset.file.filename
        self._descriptor = descriptor
        self._start: int = dataset.id.get_offset() or 0
        self._row_bytes = int(np.prod(self.shape[1:], dtype=np.int64)) * self.dtype.itemsize

    def __len__(self) -> int:
        return len(self._rows)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        values = np.empty(self.shape, dtype=self.dtype)
        view = memoryview(values.reshape(-1).view(np.uint8))
        for source, target, n in self._moves(0):
            self._read(view[target : target + n], source)
        return values if dtype is None else values.astype(dtype)

    def copy_to(self, descriptor: int, position: int) -> None:
        """Copy the rows to a place of another file, one after the other.

        Parameters
        ----------
        descriptor
            The other file.
        position
            Where the first byte goes.

        Raises
        ------
        CorruptInputError
            Raised if the file of the rows ends before them.
        OSError
            Raised if the disk takes no more.
        """
        copy: Callable[[int, int, int, int], int] = self._copy_in_kernel
        for source, target, n in self._moves(position):
            while n:
                try:
                    done = copy(descriptor, source, target, n)
                except OSError as error:
                    if copy == self._copy_by_hand or error.errno not in _NOT_COPIED:
                        raise
                    copy = self._copy_by_hand
                    continue
                if not done:
                    if copy == self._copy_by_hand:
                        raise self._ends()
                    # Some file systems say so of what they cannot copy.
                    copy = self._copy_by_hand
                source, target, n = source + done, target + done, n - done

    def _moves(self, position: int) -> Iterator[tuple[int, int, int]]:
        """Place in the file, place in the target, and bytes of each run."""
        for first, n in runs(self._rows):
            yield self._start + first * self._row_bytes, position, n * self._row_bytes
            position += n * self._row_bytes

    def _copy_in_kernel(self, descriptor: int, source: int, target: int, n: int) -> int:
        return os.copy_file_range(self._descriptor, descriptor, min(n, _COPY_BYTES), source, target)

    def _copy_by_hand(self, descriptor: int, source: int, target: int, n: int) -> int:
        contents = os.pread(self._descriptor, min(n, _BUFFER_BYTES), source)
        write_all(descriptor, memoryview(contents), target)
        return len(contents)

    def _read(self, view: memoryview, position: int) -> None:
        while view:
            n = os.preadv(self._descriptor, [view], position)
            if not n:
                raise self._ends()
            view, position = view[n:], position + n

    def _ends(self) -> CorruptInputError:
        return CorruptInputError(f"{self._name} is damaged: it ends before its pixels do.")


class ChunkRows:
    """Rows of a dataset whose chunks are single planes, compressed.

    Parameters
    ----------
    dataset
        The dataset; its file stays open as long as this is used.
    descriptor
        The same file, to be read by place.
    rows
        Ascending numbers of rows, shape ``(k,)``.
    places
        From `find_chunks`.
    """

    def __init__(self, dataset: h5py.Dataset, descriptor: int, rows: np.ndarray, places: np.ndarray) -> None:
        self.dtype: np.dtype = dataset.dtype
        self.shape = (len(rows), *dataset.shape[1:])
        self.chunks: tuple[int, ...] = dataset.chunks
        self._dataset = dataset
        self._descriptor = descriptor
        self._rows = rows
        self._places = places[rows].reshape(-1, 2)

    def __len__(self) -> int:
        return len(self._rows)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        values = np.empty(self.shape, dtype=self.dtype)
        start = 0
        for first, n in runs(self._rows):
            self._dataset.read_direct(values, np.s_[first : first + n], np.s_[start : start + n])
            start += n
        return values if dtype is None else values.astype(dtype)

    @property
    def is_whole(self) -> bool:
        """Whether all chunks are there, and through all filters."""
        return bool((self._places[:, 1] > 0).all())

    def streams(self) -> Iterator[bytes | memoryview]:
        """Read the chunks as they are.

        Yields
        ------
        chunk
            Compressed pixels, in the order of the rows, and of the planes of
            each.

        Raises
        ------
        CorruptInputError
            Raised if the file ends before them.
        """
        starts, sizes = self._places.T
        if not len(starts):
            return
        low, high = int(starts.min()), int((starts + sizes).max())
        span = None
        if high - low <= min(_SPAN_BYTES, 4 * int(sizes.sum()) + (1 << 16)):
            span = memoryview(os.pread(self._descriptor, high - low, low))
        for start, size in zip(starts.tolist(), sizes.tolist(), strict=True):
            if span is None:
                stream: bytes | memoryview = os.pread(self._descriptor, size, start)
            else:
                stream = span[start - low : start - low + size]
            if len(stream) < size:
                name = self._dataset.file.filename
                raise CorruptInputError(f"{name} is damaged: it ends before its pixels do.")
            yield stream


def find_chunks(dataset: h5py.Dataset) -> np.ndarray:
    """Find where the chunks of a dataset lie in its file.

    Parameters
    ----------
    dataset
        Its chunks are single planes.

    Returns
    -------
    places
        First byte and number of bytes of each chunk, of the shape of the
        dataset without its last two axes, and two; zeros for chunks that are
        not there, or were not compressed.
    """
    places = np.zeros((*dataset.shape[:-2], 2), dtype=np.int64)

    def note(chunk: Any) -> None:
        if not chunk.filter_mask:
            places[chunk.chunk_offset[:-2]] = chunk.byte_offset, chunk.size

    dataset.id.chunk_iter(note)
    return places
