# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Reading CSV catalogs in batches.

The reader of pyarrow is fast, but takes column types from the first block and
gives up at the first row that does not fit.  So everything is read as text
here, and rows with a wrong number of fields are put back in their places.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv

from ..errors import BulkCutoutError, UserError
from .csv_lines import count_lines, find_undecodable, not_utf8, read_header
from .file_bytes import check_expansion, native_stream
from .files import Chunk, unreadable

__all__ = ("CsvFile",)

BLOCK_BYTES = 4 * 1024 * 1024
"""Bytes that are parsed at a time; a row must be smaller."""

MOST_BAD_ROWS = 10_000
"""So many rows with a wrong number of fields that are also more than half of
all rows, and the file is taken for something else."""


class CsvFile:
    """A CSV catalog: commas, a line with the names of the columns, UTF-8.

    Lines that begin with ``#`` are passed over before the names, empty lines
    everywhere.  Compressed files are known by their first bytes.

    Parameters
    ----------
    path
        The file.

    Raises
    ------
    UserError
        Raised if the file has no header or is not text.
    """

    is_text = True

    def __init__(self, path: Path) -> None:
        self.path = path
        self.n_rows: int | None = None
        self.warnings: list[str] = []
        check_expansion(path)
        names, self._header_lines = read_header(path)
        self.schema = pa.schema([pa.field(name, pa.string()) for name in names])
        self._line_is_row = False

    def scan(self, columns: Sequence[str], *, batch_rows: int) -> Iterator[Chunk]:
        """Read some columns as text.

        Parameters
        ----------
        columns
            Names that occur once in `schema`, at least one.
        batch_rows
            Not used: the number of rows follows from `BLOCK_BYTES`.

        Yields
        ------
        chunk
            Rows in the order of the file, each row once; a field that is
            empty and not quoted is null.
        """
        bad = _BadRows(self.path, self._header_lines, line_is_row=self._line_is_row)
        start = 0
        try:
            batches = self._batches([str(self.schema.get_field_index(name)) for name in columns], bad)
            for batch in batches:
                # Rows are parsed before they are converted: the bad rows that
                # stand before the last row of this batch are known by now.
                places, faults = bad.place(start, batch.num_rows)
                arrays = batch.columns if places is None else [c.take(places) for c in batch.columns]
                n_rows = len(arrays[0])
                yield Chunk(start, n_rows, dict(zip(columns, arrays, strict=True)), faults)
                start += n_rows
        except (pa.ArrowException, OSError, UnicodeError) as error:
            bad.check()
            raise self._explain(error, row=start) from error
        places, faults = bad.place(start, None)
        if places is not None:
            nothing = pa.nulls(len(places), pa.string())
            yield Chunk(start, len(places), dict.fromkeys(columns, nothing), faults)
            start += len(places)
        if self.n_rows is None:
            self._compare_lines(n_rows=start)
        self.n_rows = start

    def _batches(self, keys: list[str], bad: _BadRows) -> Iterator[pa.RecordBatch]:
        # Columns are known by number, so that names may occur twice.
        names = [str(number) for number in range(len(self.schema))]
        try:
            reader = pyarrow.csv.open_csv(
                native_stream(self.path)[0],
                # With threads the reader does not tell which row is bad.
                pyarrow.csv.ReadOptions(
                    use_threads=False,
                    block_size=BLOCK_BYTES,
                    skip_rows=self._header_lines,
                    column_names=names,
                ),
                pyarrow.csv.ParseOptions(newlines_in_values=True, invalid_row_handler=bad.add),
                pyarrow.csv.ConvertOptions(
                    include_columns=keys,
                    column_types=dict.fromkeys(names, pa.string()),
                    null_values=[""],
                    strings_can_be_null=True,
                    quoted_strings_can_be_null=False,
                ),
            )
        except pa.ArrowInvalid as error:
            # How the reader calls a file that ends with its header.
            if "too short" in str(error) or "Empty CSV" in str(error):
                return
            raise
        with reader:
            yield from reader

    def _compare_lines(self, *, n_rows: int) -> None:
        """Learn whether each row is a line, so that messages can tell it."""
        n_lines, n_empty, n_quotes = count_lines(self.path, skip=self._header_lines)
        self._line_is_row = n_lines == n_rows and not n_empty
        if (n_more := n_lines - n_empty - n_rows) <= 0:
            return
        if n_quotes % 2:
            # The reader takes the rest of the file for one row.
            raise UserError(
                f"Catalog {self.path} has a quotation mark that is not closed: there are {n_quotes}, and "
                f"{n_more} lines would be lost in quoted text."
            )
        self.warnings.append(
            f"Catalog {self.path}: {n_more} lines belong to quoted text that goes on over several lines. If "
            "it should not, quotation marks are wrong, and rows are missing."
        )

    def _explain(self, error: Exception, *, row: int) -> BulkCutoutError:
        if (line := find_undecodable(self.path)) is not None:
            return not_utf8(self.path, line=line)
        if "straddling" in str(error):
            return UserError(
                f"Catalog {self.path} has a row of more than {BLOCK_BYTES} bytes after row {row}: is there a "
                "quotation mark that is not closed?"
            )
        return unreadable(self.path, error, row=row)


class _BadRows:
    """Rows with a wrong number of fields, and where they belong."""

    def __init__(self, path: Path, header_lines: int, *, line_is_row: bool) -> None:
        self._path = path
        self._header_lines = header_lines
        self._line_is_row = line_is_row
        self._pending: list[tuple[int, str]] = []
        self._n_bad = 0
        self._too_many = ""

    def add(self, bad: Any) -> str:
        """Take a row from the reader (an ``InvalidRow``) and let it go on."""
        # The reader counts rows from 1, skipped lines included, empty lines
        # not.
        row = bad.number - 1 - self._header_lines
        line = f" (line {bad.number})" if self._line_is_row else ""
        text = bad.text if len(bad.text) <= 80 else bad.text[:77] + "..."
        self._pending.append(
            (
                row,
                f"Row {row}{line} has {bad.actual_columns} fields where the header has "
                f"{bad.expected_columns}: {text!r}.",
            )
        )
        self._n_bad += 1
        if self._n_bad > MOST_BAD_ROWS and 2 * self._n_bad > row:
            self._too_many = self._pending[-1][1]
            return "error"
        return "skip"

    def check(self) -> None:
        """Raise if the reader was stopped because of too many bad rows."""
        if self._too_many:
            raise UserError(
                f"Catalog {self._path}: more than half of the rows have another number of fields than the "
                f"header. {self._too_many} Are header and rows separated by commas, and complete?"
            )

    def place(self, start: int, n_good: int | None) -> tuple[pa.Array | None, Mapping[int, str]]:
        """Put bad rows between good ones.

        Parameters
        ----------
        start
            Number of the first row that has no place yet.
        n_good
            How many good rows follow; `None` for the end of the file.

        Returns
        -------
        places
            For each row its index among the good ones, null for bad rows;
            `None` if there are only good rows.
        faults
            What is wrong, by index in ``places``.
        """
        if not self._pending:
            return None, {}
        index = np.array([row for row, _ in self._pending], dtype=np.int64) - start
        n_good_before = index - np.arange(len(index))
        n_bad = len(index) if n_good is None else int(np.searchsorted(n_good_before, n_good))
        faults = {int(i): text for i, (_, text) in zip(index[:n_bad], self._pending, strict=False)}
        del self._pending[:n_bad]
        is_bad = np.zeros((n_good or 0) + n_bad, dtype=bool)
        is_bad[index[:n_bad]] = True
        return pa.array(np.cumsum(~is_bad) - 1, mask=is_bad), faults
