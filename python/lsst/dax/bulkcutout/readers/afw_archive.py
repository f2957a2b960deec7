# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""The archive of an afw Exposure: tables that describe its components.

Only tables of plain numbers and words are read here. Some components hold
Python pickles, which are programs: nobody touches those.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import CorruptInputError
from .fits_extension import Extension
from .fits_table import FitsTable

__all__ = ("AfwArchive",)

_INDEX_COLUMNS = {"id", "cat.archive", "cat.persistable", "row0", "nrows", "name"}


class AfwArchive:
    """Components of an Exposure by their keys in the primary header.

    Parameters
    ----------
    extensions
        All HDUs of the file.
    """

    def __init__(self, extensions: Sequence[Extension]) -> None:
        self._extensions = extensions
        self._primary = extensions[0].header
        self._index: np.ndarray | None = None

    def name(self, key: str) -> str | None:
        """Class of a component.

        Parameters
        ----------
        key
            What it is, such as ``PSF`` or ``PHOTOCALIB``.

        Returns
        -------
        name
            Such as ``GaussianPsf``; `None` where the file has none.
        """
        rows = self._rows(key)
        return _text(rows[0]["name"]) if len(rows) else None

    def corrupt(self, what: str) -> CorruptInputError:
        """Make the error that says what is wrong with the file.

        Parameters
        ----------
        what
            What is wrong, without the full stop.

        Returns
        -------
        error
            To be raised; it names the file.
        """
        return self._primary.file.corrupt(what)

    def refers_to(self, key: str) -> bool:
        """Whether the primary header says that there is a component.

        Parameters
        ----------
        key
            What it is, such as ``PSF``.

        Returns
        -------
        refers
            Whether it does; the tables may have been cut off all the same.
        """
        return self._id(key) is not None

    def tables(self, key: str) -> list[np.ndarray]:
        """The tables of a component.

        Parameters
        ----------
        key
            What it is, such as ``PSF``.

        Returns
        -------
        tables
            Its rows of each table, as structured arrays; none where the file
            has no such component.

        Raises
        ------
        CorruptInputError
            Raised if the index leads to rows that are not there.
        """
        tables = []
        for row in self._rows(key):
            catalog, first, n = (int(row[name]) for name in ("cat.archive", "row0", "nrows"))
            extension = self._catalog(catalog)
            rows = FitsTable(extension.header).rows if extension is not None else np.empty(0)
            if not 0 <= first <= first + n <= len(rows):
                raise self.corrupt(f"its archive has no rows {first} to {first + n} of {key}")
            tables.append(rows[first : first + n])
        return tables

    def _id(self, key: str) -> int | None:
        for card in (f"ARCHIVE_ID_{key}", f"{key}_ID"):
            if card in self._primary.values:
                return self._primary.integer(card)
        return None

    def _rows(self, key: str) -> Any:
        """Rows of the index for a component, in order."""
        identifier = self._id(key)
        if identifier is None or identifier == 0:
            return ()
        index = self._read_index()
        rows = index[index["id"] == identifier] if len(index) else index
        return rows[np.argsort(rows["cat.persistable"], kind="stable")] if len(rows) else ()

    def _read_index(self) -> np.ndarray:
        if self._index is None:
            number = self._primary.integer("AR_HDU", 0) - 1
            self._index = np.empty(0)
            if 0 < number < len(self._extensions):
                header = self._extensions[number].header
                if str(header.values.get("EXTTYPE")).strip() == "ARCHIVE_INDEX":
                    self._index = FitsTable(header).rows
                    missing = _INDEX_COLUMNS - set(self._index.dtype.names or ())
                    if missing:
                        raise header.file.corrupt(f"its archive's index lacks the column {min(missing)}")
        return self._index

    def _catalog(self, number: int) -> Extension | None:
        for one in self._extensions:
            values = one.header.values
            if values.get("AR_CATN") == number and str(values.get("EXTTYPE")).strip() == "ARCHIVE_DATA":
                return one
        return None


def _text(value: Any) -> str:
    return bytes(value).rstrip(b" \0").decode("ascii", errors="replace")
