# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Reading VOTables piece by piece."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa

from ..errors import UserError
from .files import Chunk
from .votable_parser import read_data, read_header
from .votable_text import check_votable
from .votable_values import BinaryRows, values_of_text

__all__ = ("VotableFile",)


class VotableFile:
    """A VOTable catalog: the first table that has rows.

    It is parsed anew each time, and in pieces: memory does not grow with it.

    Parameters
    ----------
    path
        The file.

    Raises
    ------
    UserError
        Raised if the file names other files, is damaged before its first row,
        or has no row.
    """

    is_text = False

    def __init__(self, path: Path) -> None:
        self.path = path
        self.n_rows: int | None = None
        self.warnings: list[str] = []
        check_votable(path)
        self._header, n_empty = read_header(path)
        if n_empty:
            self._warn(f"the first {n_empty} of its tables have no rows; the next one is read.")
        fields = self._header.fields
        self.schema = pa.schema(
            [field.arrow(self._header.systems) for field in fields], metadata=self._frame()
        )

    def scan(self, columns: Sequence[str], *, batch_rows: int) -> Iterator[Chunk]:
        """Read some columns.

        Parameters
        ----------
        columns
            Names that occur once in `schema`, at least one.
        batch_rows
            Not used: the number of rows follows from the size of the pieces.

        Yields
        ------
        chunk
            Rows in the order of the file, each row once.
        """
        is_text = self._header.kind == "TABLEDATA"
        scan = self._scan_text if is_text else self._scan_binary
        start = 0
        for chunk in scan(columns, [self.schema.get_field_index(name) for name in columns]):
            start = chunk.start + chunk.n_rows
            yield chunk
        self.n_rows = start

    def _scan_text(self, columns: Sequence[str], wanted: Sequence[int]) -> Iterator[Chunk]:
        n_fields = len(self._header.fields)
        nothing: list[str | None] = [None] * n_fields
        bad: Counter[str] = Counter()
        start = 0
        for piece in read_data(self.path, self._header):
            faults = {
                index: f"Row {start + index} has {len(row)} cells where the table has {n_fields} columns."
                for index, row in enumerate(piece.rows)
                if len(row) != n_fields
            }
            rows = piece.rows if not faults else [r if len(r) == n_fields else nothing for r in piece.rows]
            arrays = {}
            for name, index in zip(columns, wanted, strict=True):
                arrays[name], n_bad = values_of_text(
                    self._header.fields[index], self.schema.field(index).type, [row[index] for row in rows]
                )
                bad[name] += n_bad
            yield Chunk(start, len(rows), arrays, faults)
            start += len(rows)
        for name, n_bad in bad.items():
            if n_bad:
                datatype = self._header.fields[self.schema.get_field_index(name)].datatype
                self._warn(
                    f"column {name} has {n_bad} values that are no {datatype}, as they should be; they are "
                    "taken for missing."
                )

    def _scan_binary(self, columns: Sequence[str], wanted: Sequence[int]) -> Iterator[Chunk]:
        start = 0
        try:
            rows = BinaryRows(self._header.fields, with_mask=self._header.kind == "BINARY2", wanted=wanted)
            for piece in read_data(self.path, self._header):
                rows.add(piece.encoded)
                n_rows, arrays = rows.take()
                if n_rows:
                    yield Chunk(start, n_rows, dict(zip(columns, arrays, strict=True)))
                    start += n_rows
            rows.finish()
        except ValueError as error:
            raise UserError(
                f"Catalog {self.path} cannot be read from row {start} on: {str(error).rstrip('.')}. Copy it "
                "or write it again."
            ) from None

    def _frame(self) -> dict[str, str]:
        """What concerns all columns: a lone COOSYS that none refers to."""
        systems = self._header.systems
        if len(systems) != 1 or any(field.ref in systems for field in self._header.fields if field.ref):
            return {}
        (system,) = systems.values()
        return {"frame": system.frame, "epoch": system.epoch}

    def _warn(self, text: str) -> None:
        warning = f"Catalog {self.path}: {text}"
        if warning not in self.warnings:
            self.warnings.append(warning)
