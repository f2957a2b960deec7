# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Opening a catalog and reading its target rows."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from ..errors import UserError
from ..request import CatalogSpec, SizeArcsec, SizeColumn
from ..tables import field_description, field_unit, with_unit
from .census import CarriedCensus, Census, IdCensus
from .column_choice import ColumnChoice
from .columns import choose_columns, choose_identifiers
from .files import CatalogFile
from .frames import ICRS
from .lookup import FindObjects, LookedUpFile
from .open_file import open_file
from .position_columns import choose_positions, has_positions
from .position_limits import PositionLimits
from .positions import Positions
from .rows import Carried, RowChecker
from .sizes import SizeCensus, SizeRule, choose_sizes
from .text import unpacked

__all__ = ("Catalog", "open_catalog")

OBJECT_TABLES = "object"
"""Dataset type of the tables that have positions by identifier."""

BATCH_ROWS = 200_000
"""Rows that are looked at together."""

PASS_ROWS = 65_536
"""Rows that are checked together: what is in between stays in the cache."""


def open_catalog(
    spec: CatalogSpec,
    size: int | SizeArcsec | SizeColumn,
    *,
    size_bins: tuple[int, ...] = (),
    image_epoch: float | None = None,
    find_objects: FindObjects | None = None,
) -> Catalog:
    """Open a catalog and check what concerns all of it.

    Parameters
    ----------
    spec
        Which file, and which columns of it.
    size
        Size of all cutouts, or the column that has it.
    size_bins
        Sizes that others are rounded up to.
    image_epoch
        Julian year of the images, if the request tells.
    find_objects
        Finds tables of the release where positions can be looked up; none
        are without it.

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
    file, positions = _find_positions(file, spec, image_epoch, choice, find_objects)
    columns = choose_columns(spec, size, choice=choice, positions=positions.names)
    if isinstance(file, LookedUpFile) and columns.tract is None:
        columns = dataclasses.replace(columns, tract=file.columns[2], patch=file.columns[3])
    identifiers = IdCensus(file.path, file.schema.field(columns.id), is_text=file.is_text)
    rule, size_warnings = choose_sizes(size, size_bins, path=file.path, schema=file.schema)
    counted = columns.size is not None and not rule.needs_scale
    sizes = SizeCensus(file.path, rule) if counted else None
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
        sizes=rule,
        id_type=id_type,
        convert_id=convert_id,
        carried={name: _carry(file.schema.field(name), carried.get(name)) for name in columns.carried},
    )
    return Catalog(file, checker, [*choice.warnings, *size_warnings, *id_warnings])


def _find_positions(
    file: CatalogFile,
    spec: CatalogSpec,
    image_epoch: float | None,
    choice: ColumnChoice,
    find_objects: FindObjects | None,
) -> tuple[CatalogFile, Positions]:
    """Find positions in the catalog, or else by its identifiers."""
    if spec.lookup is None and (find_objects is None or has_positions(spec, choice)):
        return file, choose_positions(spec, image_epoch, choice)
    name = spec.lookup or OBJECT_TABLES
    tables = None if find_objects is None else find_objects(name)
    if tables is not None:
        for field in ("frame", "epoch", "ra_column", "dec_column"):
            if getattr(spec, field) is not None:
                raise UserError(
                    f"Request field 'catalog.{field}' says something about positions of catalog {file.path}, "
                    f"but they are looked up in the tables {name!r}: leave it out, or catalog.lookup."
                )
        looked_up = LookedUpFile(file, choose_identifiers(spec, choice), tables)
        return looked_up, looked_up.positions()
    if spec.lookup is None:
        try:
            return file, choose_positions(spec, image_epoch, choice)
        except UserError as error:
            raise UserError(
                f"{error} Its identifiers could be looked up, but the collections have no tables {name!r} "
                "(see catalog.lookup)."
            ) from None
    raise UserError(
        f"Request field 'catalog.lookup': the collections have no tables {name!r} with the dimensions skymap "
        "and tract."
    )


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
    def sizes(self) -> SizeRule:
        """How sizes become pixels."""
        return self._checker.sizes

    @property
    def warnings(self) -> list[str]:
        """What the user should know; complete when all rows were read."""
        return [*self._warnings, *self._file.warnings, *self._warnings_of_pass]

    def batches(self, batch_rows: int = PASS_ROWS) -> Iterator[pa.RecordBatch]:
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
        seen = PositionLimits(self._file.path)
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
            is_good = pc.is_null(rows.column("status"))
            n_without_tract += rows.column("tract").filter(is_good).null_count
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
