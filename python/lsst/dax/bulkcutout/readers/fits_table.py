# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Binary tables of a FITS file, and what their heaps hold."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from .fits_header import FitsHeader

__all__ = ("FitsTable", "row_type")

_FORMAT = re.compile(r"(\d*)([LXBIJKAEDCMPQ])([LXBIJKAEDCM]?)")
_TYPES = {"L": "S1", "X": "u1", "B": "u1", "I": ">i2", "J": ">i4", "K": ">i8", "A": "S1"} | {
    "E": ">f4",
    "D": ">f8",
    "C": ">c8",
    "M": ">c16",
}


class FitsTable:
    """The rows of a binary table, and its heap.

    Parameters
    ----------
    header
        Header of the HDU.
    """

    def __init__(self, header: FitsHeader) -> None:
        self._header = header
        n_bytes, n_rows = header.integer("NAXIS1", minimum=0), header.integer("NAXIS2", minimum=0)
        row, self._heap_item_size = row_type(header)
        if row.itemsize != n_bytes:
            raise header.file.corrupt(f"rows of {header.name} have {n_bytes} bytes, columns {row.itemsize}")
        self.rows = np.frombuffer(header.file.read(header.data_address, n_bytes * n_rows, header.name), row)
        """The rows as a structured array; a variable-length column holds
        pairs (count, offset in the heap)."""
        self._in_heap: dict[str, np.ndarray] = {}
        heap_offset = header.integer("THEAP", n_bytes * n_rows, minimum=n_bytes * n_rows)
        self._heap_address = header.data_address + heap_offset
        self._heap_size = n_bytes * n_rows + header.integer("PCOUNT", 0, minimum=0) - heap_offset

    def in_heap(self, column: str) -> np.ndarray:
        """Which cells of a variable-length column lie inside the heap.

        Parameters
        ----------
        column
            Name of the column.

        Returns
        -------
        inside
            Bool, shape ``(n_rows,)``.
        """
        if column not in self._heap_item_size:
            raise self._header.file.corrupt(f"{self._header.name} has no variable-length column {column}")
        if column not in self._in_heap:
            self._in_heap[column] = self._find_in_heap(column)
        return self._in_heap[column]

    def _find_in_heap(self, column: str) -> np.ndarray:
        counts = self.rows[column][:, 0].astype(np.int64)
        offsets = self.rows[column][:, 1].astype(np.int64)
        limit = self._heap_size // self._heap_item_size[column]
        # The bounds on each alone keep the sum within an int64.
        small = (counts >= 0) & (offsets >= 0) & (counts <= limit) & (offsets <= self._heap_size)
        sizes = np.where(small, counts, 0) * self._heap_item_size[column]
        return small & (sizes + np.where(small, offsets, 0) <= self._heap_size)

    def cells(self, column: str, first: int, stop: int) -> list[bytes]:
        """Bytes of some cells of a variable-length column.

        Parameters
        ----------
        column
            Name of the column.
        first, stop
            Rows, half-open.

        Returns
        -------
        contents
            One for each row.
        """
        if stop > len(self.rows) or not self.in_heap(column)[first:stop].all():
            raise self._header.file.corrupt(f"rows {first} to {stop} of {self._header.name} leave its heap")
        size = self._heap_item_size[column]
        places = [(count * size, offset) for count, offset in self.rows[column][first:stop].tolist()]
        # Neighbours lie side by side, so they come in one reading.
        begin = min(offset for _, offset in places)
        end = max(offset + count for count, offset in places)
        heap = self._header.file.read(self._heap_address + begin, end - begin, self._header.name)
        return [heap[offset - begin : offset - begin + count] for count, offset in places]

    def places(self, column: str) -> tuple[np.ndarray, np.ndarray]:
        """Where the cells of a variable-length column are in the file.

        Parameters
        ----------
        column
            Name of the column.

        Returns
        -------
        addresses, sizes
            First byte and number of bytes, int64, shape ``(n_rows,)``;
            zeros for those that are not `in_heap`.
        """
        inside = self.in_heap(column)
        counts, offsets = (self.rows[column][:, item].astype(np.int64) for item in (0, 1))
        sizes = np.where(inside, counts, 0) * self._heap_item_size[column]
        return np.where(inside, offsets + self._heap_address, 0), sizes


def row_type(header: FitsHeader) -> tuple[np.dtype[Any], dict[str, int]]:
    """What a row of a binary table consists of.

    Parameters
    ----------
    header
        Header of the HDU.

    Returns
    -------
    row
        Structured type; columns of arrays are flat.
    heap_item_size
        Bytes of an item in the heap, for variable-length columns.
    """
    heap_item_size: dict[str, int] = {}
    fields: list[tuple[str, str] | tuple[str, str, tuple[int, ...]]] = []
    for column in range(1, header.integer("TFIELDS", minimum=0) + 1):
        name, form = header.text(f"TTYPE{column}", f"column{column}"), header.text(f"TFORM{column}")
        match = _FORMAT.match(form)
        if match is None or any(name == field[0] for field in fields):
            raise header.file.corrupt(f"column {name!r} of {header.name} has the format {form[:20]!r}")
        repeat, kind, item = int(match[1] or 1), match[2], match[3]
        if repeat > 8 * header.integer("NAXIS1"):
            raise header.file.corrupt(f"column {name!r} of {header.name} is wider than a row")
        if kind in "PQ":
            fields.append((name, ">i4" if kind == "P" else ">i8", (2,)))
            heap_item_size[name] = np.dtype(_TYPES[item or "B"]).itemsize
        elif kind == "A":
            fields.append((name, f"S{repeat}"))
        elif repeat == 1:
            fields.append((name, _TYPES[kind]))
        else:
            fields.append((name, _TYPES[kind], (-(-repeat // 8) if kind == "X" else repeat,)))
    return np.dtype(fields), heap_item_size
