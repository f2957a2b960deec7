# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Directories of Parquet files that are one catalog, HATS among them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pyarrow as pa

from ..errors import UserError
from .files import Chunk, unreadable
from .hats import find_hats, hats_files
from .parquet_file import ParquetFile

__all__ = ("ParquetDirectory",)

SUFFIXES = (".parquet", ".parq", ".pq")


class ParquetDirectory:
    """Parquet files in a directory and those below it, one after the other.

    Files are read in the order of their paths, with numbers in them compared
    as numbers; rows are counted over all of them.  Keys in names of
    directories (``tract=5063``) become columns where the files have none of
    that name.  Names that begin with a dot or an underscore are passed over.

    Parameters
    ----------
    path
        The directory.

    Raises
    ------
    UserError
        Raised if there is no Parquet file, if one is damaged, or if they do
        not have the same columns.
    """

    is_text = False

    def __init__(self, path: Path) -> None:
        self.path = path
        self.warnings: list[str] = []
        metadata: dict[str, str] = {}
        try:
            hats = find_hats(path)
            paths = hats_files(hats) if hats else self._find_files()
        except OSError as error:
            raise unreadable(path, error) from error
        if hats:
            metadata = {f"{role}_column": name for role, name in hats.positions.items()}
        self._files = [ParquetFile(found) for found in paths]
        self.n_rows: int | None = sum(file.n_rows or 0 for file in self._files)
        if hats and hats.n_rows is not None and hats.n_rows != self.n_rows:
            self.warnings.append(
                f"Catalog {path}: its properties say that it has {hats.n_rows} rows, and its files have "
                f"{self.n_rows}."
            )
        self._keys = [_keys(found.relative_to(path)) for found in paths] if not hats else []
        self.schema = self._common_schema().with_metadata(metadata)

    def scan(self, columns: Sequence[str], *, batch_rows: int) -> Iterator[Chunk]:
        """Read some columns.

        Parameters
        ----------
        columns
            Names that occur once in `schema`, at least one.
        batch_rows
            Largest number of rows to read at a time.

        Yields
        ------
        chunk
            Rows in the order of the files, each row once.
        """
        start = 0
        for n, file in enumerate(self._files):
            own = [name for name in columns if name in file.schema.names]
            # Only keys are wanted: any column tells how many rows there are.
            read = own or [next(name for name in file.schema.names if file.schema.names.count(name) == 1)]
            for chunk in file.scan(read, batch_rows=batch_rows):
                arrays = {name: chunk.columns[name] for name in own}
                for name in columns:
                    if name not in own:
                        key = pa.scalar(self._keys[n][name], self.schema.field(name).type)
                        arrays[name] = pa.repeat(key, chunk.n_rows)
                yield Chunk(start + chunk.start, chunk.n_rows, arrays)
            start += file.n_rows or 0

    def _find_files(self) -> list[Path]:
        found, others = [], []
        for path in sorted(self.path.rglob("*"), key=lambda p: _natural(p.relative_to(self.path))):
            if any(part.startswith((".", "_")) for part in path.relative_to(self.path).parts):
                continue
            if path.is_dir():
                if find_hats(path):
                    raise UserError(
                        f"Catalog {self.path} is a directory with a HATS catalog in it, {path.name}: name "
                        "that one in catalog.uri."
                    )
            elif path.suffix.lower() in SUFFIXES:
                found.append(path)
            else:
                others.append(path)
        if not found:
            example = f" (it has {others[0].name})" if others else ""
            raise UserError(
                f"Catalog {self.path} is a directory without Parquet files{example}: name a file, or a "
                f"directory with files {', '.join(f'*{suffix}' for suffix in SUFFIXES)}."
            )
        if others:
            self.warnings.append(
                f"Catalog {self.path}: {len(others)} files that are not named as Parquet files are passed "
                f"over, {others[0].relative_to(self.path)} among them."
            )
        return found

    def _common_schema(self) -> pa.Schema:
        first = self._files[0]
        for file in self._files[1:]:
            if problem := _difference(first.schema, file.schema):
                raise UserError(
                    f"Catalog {self.path}: its files do not have the same columns. {file.path} {problem} "
                    f"{first.path}. Write them again alike, or name a directory with files of one kind."
                )
        schema = first.schema
        names = dict.fromkeys(name for keys in self._keys for name in keys)
        for name in names:
            if name in schema.names:
                continue
            values = [keys.get(name) for keys in self._keys]
            if None in values and any(name not in keys for keys in self._keys):
                raise UserError(
                    f"Catalog {self.path}: {self._files[[name in k for k in self._keys].index(False)].path} "
                    f"stands in no directory {name}=..., as others do."
                )
            are_numbers = all(value is None or re.fullmatch(r"-?\d{1,18}", value) for value in values)
            for keys in self._keys:
                if are_numbers and keys[name] is not None:
                    keys[name] = int(keys[name])
            schema = schema.append(pa.field(name, pa.int64() if are_numbers else pa.string()))
        return schema


def _difference(first: pa.Schema, other: pa.Schema) -> str:
    """Say how columns differ; their order and metadata do not count."""
    mine = {field.name: field.type for field in first}
    theirs = {field.name: field.type for field in other}
    if len(first) != len(other) or len(mine) != len(first):
        if len(mine) == len(first) and len(theirs) == len(other):
            for name in mine:
                if name not in theirs:
                    return f"has no column {name!r}, unlike"
    for name, dtype in theirs.items():
        if name not in mine:
            return f"has a column {name!r}, unlike"
        if dtype != mine[name]:
            return f"has {name!r} as {dtype}, and it is {mine[name]} in"
    for name in mine:
        if name not in theirs:
            return f"has no column {name!r}, unlike"
    return "" if len(first) == len(other) else "has columns of the same name, unlike"


def _keys(path: Path) -> dict[str, Any]:
    keys: dict[str, Any] = {}
    for part in path.parts[:-1]:
        name, sign, value = part.partition("=")
        if sign and name:
            keys[unquote(name)] = None if value == "__HIVE_DEFAULT_PARTITION__" else unquote(value)
    return keys


def _natural(path: Path) -> list[list[tuple[bool, int, str]]]:
    """What to sort paths by: numbers by value, all else as text."""
    return [
        [(not piece.isdecimal(), int(piece) if piece.isdecimal() else 0, piece) for piece in pieces]
        for pieces in (re.split(r"([0-9]+)", part) for part in path.parts)
    ]
