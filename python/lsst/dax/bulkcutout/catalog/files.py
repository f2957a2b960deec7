# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""What a reader of catalog files gives, and how its failures are told."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import pyarrow as pa

from ..errors import BulkCutoutError, TransientError, UserError

__all__ = ("CatalogFile", "Chunk", "unreadable")


@dataclasses.dataclass(frozen=True)
class Chunk:
    """Consecutive rows of a catalog file."""

    start: int
    """Zero-based number of the first row."""

    n_rows: int
    """Number of rows."""

    columns: Mapping[str, pa.Array]
    """Values by name of the column, each of length `n_rows`."""

    faults: Mapping[int, str] = dataclasses.field(default_factory=dict)
    """A sentence for each row that could not be read (index in this chunk);
    the columns have nulls there."""


class CatalogFile(Protocol):
    """A table on disk that can be read several times from the start."""

    path: Path
    """The file."""

    schema: pa.Schema
    """All columns, with units and descriptions where the file has them.
    Names may occur twice."""

    is_text: bool
    """Whether all values are text, of which types have to be found out."""

    @property
    def n_rows(self) -> int | None:
        """Number of rows; `None` where only reading the whole file tells."""

    @property
    def warnings(self) -> list[str]:
        """What the user should know about the file itself."""

    def scan(self, columns: Sequence[str], *, batch_rows: int) -> Iterator[Chunk]:
        """Read some columns.

        Parameters
        ----------
        columns
            Names that occur once in `schema`, at least one.
        batch_rows
            About how many rows to read at a time.

        Yields
        ------
        chunk
            Rows in the order of the file, each row once.
        """


def unreadable(path: Path, error: Exception, *, row: int | None = None) -> BulkCutoutError:
    """Find the error to raise for a catalog file that cannot be read.

    Parameters
    ----------
    path
        The file.
    error
        What the library raised.
    row
        First row that is affected, if known.

    Returns
    -------
    error
        The user's turn for a damaged or missing file, the machine's for
        other errors of input and output.
    """
    reason = str(error).strip().rstrip(".")
    if isinstance(error, FileNotFoundError | IsADirectoryError | PermissionError):
        return UserError(f"Catalog {path} cannot be opened: {error.strerror or reason}.")
    if isinstance(error, OSError) and error.errno is not None:
        return TransientError(f"Catalog {path} cannot be read: {reason}. Try again.")
    where = "" if row is None else f" from row {row} on"
    return UserError(
        f"Catalog {path} cannot be read{where}: it is damaged or was cut short ({reason}). "
        "Copy it or write it again."
    )
