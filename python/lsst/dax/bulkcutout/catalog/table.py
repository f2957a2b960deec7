# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Opening a catalog and reading its target rows."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from ..errors import UserError
from ..request import CatalogSpec, SizeColumn
from ..tables import field_description, field_unit, with_unit
from .census import CarriedCensus, Census, IdCensus, SizeCensus
from .column_choice import ColumnChoice
from .columns import choose_columns, choose_identifiers
from .files import CatalogFile
from .frames import ICRS
from .open_file import open_file
from .position_columns import choose_positions
from .rows import Carried, RowChecker
from .text import unpacked

__all__ = ("Catalog", "open_catalog")

BATCH_ROWS = 200_000
"""Rows that are looked at together."""

FEW_ROWS = 10
"""With fewer rows than this, nothing is guessed from their positions."""

WIDE_DEG = 30.0
"""Declinations over more than this belong to right ascensions over more than
24 degrees, most likely."""


def open_catalog(spec: CatalogSpec, size: int | SizeColumn, *, image_epoch: float | None = None) -> Catalog:
    """Open a catalog and check what concerns all of it.

    Parameters
    ----------
    spec
        Which file, and which columns of it.
    size
        Size of all cutouts in pixels, or the column that has it.
    image_epoch
        Julian year of the images, if the request tells.

    Returns
    -------
    catalog
        The catalog, from which rows can be read.

    Raises
    ------
    UserError
        Raised if the file cannot be read or is empty, if a column is not
        there or cannot be what it should be, if identifiers have lost
        digits, or if there are too many different sizes.

    Notes
    -----
    A CSV file is read once from start to end to learn the types of its
    columns; of a Parquet file only columns of sizes, and of identifiers that
    are floating-point numbers or uint64, are read.
    """
    file = open_file(spec.uri)
    if file.n_rows == 0:
        raise _empty(file)
    choice = ColumnChoice(file.path, file.schema)
    # Without a column of identifiers nothing else matters.
    choose_identifiers(spec, choice)
    positions = choose_positions(spec, image_epoch, choice)
    columns = choose_columns(spec, size, choice=choice, positions=positions.names)
    identifiers = IdCensus(file.path, file.schema.field(columns.id), is_text=file.is_text)
    sizes = SizeCensus(file.path, columns.size) if columns.size is not None else None
    carried = {name: CarriedCensus() for name in columns.carried} if file.is_text else {}
    questions: list[tuple[str, Census]] = [*carried.items()]
    if identifiers.is_needed:
        questions.append((columns.id, identifiers))
    if sizes is not None and columns.size is not None:
        questions.append((columns.size, sizes))
    _ask(file, questions)
    if file.n_rows is None:
        # So far nobody has asked for anything.
        for _ in file.scan([columns.id], batch_rows=BATCH_ROWS):
            pass
    if not file.n_rows:
        raise _empty(file)
    if sizes is not None:
        sizes.check()
    id_type, convert_id, id_warnings = identifiers.result()
    checker = RowChecker(
        columns=columns,
        positions=positions,
        size_pixels=None if isinstance(size, SizeColumn) else size,
        id_type=id_type,
        convert_id=convert_id,
        carried={name: _carry(file.schema.field(name), carried.get(name)) for name in columns.carried},
    )
    return Catalog(file, checker, [*choice.warnings, *id_warnings])


class Catalog:
    """A catalog that has been opened; see `open_catalog`.

    Parameters
    ----------
    file
        The file.
    checker
        What makes target rows of its rows.
    warnings
        What is known before its rows are read.
    """

    def __init__(self, file: CatalogFile, checker: RowChecker, warnings: Sequence[str]) -> None:
        self._file = file
        self._checker = checker
        self._warnings = list(warnings)
        self._warnings_of_pass: list[str] = []

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return self._file.n_rows or 0

    @property
    def id_type(self) -> pa.DataType:
        """Type of ``target_id``: int64 or string."""
        return self._checker.id_type

    @property
    def carried(self) -> tuple[pa.Field, ...]:
        """Carried columns under their own names, with unit, description."""
        return tuple(field for field, _ in self._checker.carried.values())

    @property
    def schema(self) -> pa.Schema:
        """Columns of the rows: those of `tables.refusal_schema`."""
        return self._checker.schema

    @property
    def warnings(self) -> list[str]:
        """What the user should know; complete when all rows were read."""
        return [*self._warnings, *self._file.warnings, *self._warnings_of_pass]

    def batches(self, batch_rows: int = 200_000) -> Iterator[pa.RecordBatch]:
        """Read all rows from the first on.

        Parameters
        ----------
        batch_rows
            Largest number of rows at a time.

        Yields
        ------
        rows
            Rows of the type `schema`: every row once, in the order of the
            file.  ``status`` and ``reason`` are null for a row that nothing
            is wrong with so far.

        Raises
        ------
        UserError
            Raised if the file is damaged further on, or was changed.
        """
        seen = _Positions(self._file.path)
        positions = self._checker.positions
        positions.restart()
        n_without_tract = n_rows = 0
        expected = self.n_rows
        for chunk in self._file.scan(self._checker.columns.names, batch_rows=batch_rows):
            try:
                rows = self._checker.check(chunk)
            except pa.ArrowInvalid as error:
                raise self._changed(f"row {chunk.start} and following: {error}") from error
            seen.see(rows)
            n_without_tract += rows.column("tract").null_count
            n_rows += rows.num_rows
            for start in range(0, rows.num_rows, batch_rows):
                yield rows.slice(start, batch_rows)
        if n_rows != expected:
            raise self._changed(f"{expected} rows before, {n_rows} now")
        self._warnings_of_pass = positions.warnings()
        if positions.frame == ICRS and positions.lon.unit.degrees == positions.lat.unit.degrees == 1.0:
            self._warnings_of_pass += seen.warnings()
        if self._checker.columns.tract is not None and n_without_tract:
            self._warnings_of_pass.append(
                f"Catalog {self._file.path}: {n_without_tract} rows have no tract number in column "
                f"{self._checker.columns.tract}; their tract follows from the position."
            )

    def _changed(self, what: str) -> UserError:
        return UserError(
            f"Catalog {self._file.path} was changed while it was read ({what}). Start again, and leave it "
            "alone meanwhile."
        )


class _Positions:
    """Tells whether positions look like radians or hours."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._n_rows = 0
        self._ra = self._dec = (math.inf, -math.inf)

    def see(self, rows: pa.RecordBatch) -> None:
        """Look at the rows that nothing is wrong with."""
        is_good = np.asarray(rows.column("status").is_null())
        if not is_good.any():
            return
        ra = rows.column("ra").to_numpy(zero_copy_only=False)[is_good]
        dec = rows.column("dec").to_numpy(zero_copy_only=False)[is_good]
        self._n_rows += len(ra)
        self._ra = (min(self._ra[0], ra.min()), max(self._ra[1], ra.max()))
        self._dec = (min(self._dec[0], dec.min()), max(self._dec[1], dec.max()))

    def warnings(self) -> list[str]:
        """Tell it in words."""
        if self._n_rows < FEW_ROWS:
            return []
        ra = f"right ascensions are from {self._ra[0]:.4f} to {self._ra[1]:.4f}"
        dec = f"declinations from {self._dec[0]:.4f} to {self._dec[1]:.4f}"
        if self._ra[1] <= 2 * math.pi and max(map(abs, self._dec)) <= math.pi / 2:
            unit = "radians"
        elif self._ra[1] <= 24 and self._dec[1] - self._dec[0] > WIDE_DEG:
            unit = "hours"
        else:
            return []
        return [
            f"Catalog {self._path}: all {ra} and {dec}, as if they were in {unit}. They are taken for "
            "degrees."
        ]


def _empty(file: CatalogFile) -> UserError:
    return UserError(f"Catalog {file.path} is empty: it has columns but no rows.")


def _ask(file: CatalogFile, questions: Sequence[tuple[str, Census]]) -> None:
    """Read columns from start to end for those who want to see them."""
    if questions:
        names = list(dict.fromkeys(name for name, _ in questions))
        for chunk in file.scan(names, batch_rows=BATCH_ROWS):
            for name, census in questions:
                census.see(chunk.columns[name], start=chunk.start)


def _carry(field: pa.Field, census: CarriedCensus | None) -> Carried:
    """Find the type of a carried column, and keep unit and description."""
    if census is not None:
        dtype, convert = census.result()
    else:
        dtype, convert = unpacked(pa.nulls(0, field.type)).type, unpacked
    plain = pa.field(field.name, dtype)
    return with_unit(plain, unit=field_unit(field), description=field_description(field)), convert
