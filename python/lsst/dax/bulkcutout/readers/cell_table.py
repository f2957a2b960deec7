# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""The table of a MultipleCellCoadd, one row for each cell."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from .fits_header import FitsHeader
from .fits_table import row_type

__all__ = ("CellTable", "missing_cells")


class CellTable:
    """Rows of cells, of which one value at a time is read.

    Parameters
    ----------
    header
        Header of the table.
    n_cells
        Number of cells in y and x.

    Raises
    ------
    CorruptInputError
        Raised if the table contradicts itself.
    """

    def __init__(self, header: FitsHeader, n_cells: tuple[int, int]) -> None:
        self._header = header
        self._file = header.file
        self._row, _ = row_type(header)
        if self._row.itemsize != header.integer("NAXIS1"):
            raise self._file.corrupt(
                f"rows of {header.name} have {header.integer('NAXIS1')} bytes, columns {self._row.itemsize}"
            )
        self.require({"cell_id": 2})
        rows: dict[tuple[int, int], int] = {}
        for row in range(header.integer("NAXIS2", minimum=0)):
            x, y = (int(value) for value in self.read("cell_id", row))
            if (y, x) in rows or not (0 <= y < n_cells[0] and 0 <= x < n_cells[1]):
                raise self._file.corrupt(f"its row {row} is of cell {(y, x)}, twice or outside the grid")
            rows[y, x] = row
        self.row_of: Mapping[tuple[int, int], int] = rows
        """Row of each cell ``(y, x)`` that has one."""

    def __contains__(self, column: str) -> bool:
        return column in (self._row.names or ())

    def require(self, sizes: Mapping[str, int]) -> None:
        """Check that columns are there.

        Parameters
        ----------
        sizes
            Number of values that a row must have in each column.

        Raises
        ------
        CorruptInputError
            Raised if one is missing, or has another number.
        """
        for name, size in sizes.items():
            found = int(np.prod(self._row[name].shape)) if name in self else 0
            if found != size:
                raise self._file.corrupt(f"its column {name} has {found} values in a row instead of {size}")

    def read(self, column: str, row: int) -> np.ndarray:
        """Values of one row in one column.

        Parameters
        ----------
        column
            Name of the column.
        row
            Number of the row.

        Returns
        -------
        values
            One-dimensional, as they are stored.

        Raises
        ------
        CorruptInputError
            Raised if the file ends before them.
        OSError
            Raised if they cannot be read.
        """
        assert self._row.fields is not None
        kind, offset = self._row.fields[column][:2]
        address = self._header.data_address + row * self._row.itemsize + offset
        return np.frombuffer(self._file.read(address, kind.itemsize, f"row {row}"), dtype=kind.base)


def missing_cells(n_cells: tuple[int, int], present: Iterable[tuple[int, int]]) -> frozenset[tuple[int, int]]:
    """Cells of a grid that are not there.

    Parameters
    ----------
    n_cells
        Number of cells in y and x.
    present
        Indices ``(y, x)`` of those that are.

    Returns
    -------
    missing
        Indices of the others.
    """
    return frozenset(np.ndindex(*n_cells)) - frozenset(present)
