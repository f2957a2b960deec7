# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Reading Parquet catalogs in batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import yaml

from ..errors import UserError
from ..tables import field_description, field_unit, with_unit
from .files import Chunk, unreadable

__all__ = ("ParquetFile",)

BUFFER_BYTES = 1024 * 1024
"""Bytes that are read ahead for each column.  Without this limit a column of
a whole row group is read at once, and row groups are as large as users make
them."""


class ParquetFile:
    """A Parquet catalog.

    Parameters
    ----------
    path
        The file.

    Raises
    ------
    UserError
        Raised if the file is damaged.
    """

    is_text = False

    def __init__(self, path: Path) -> None:
        self.path = path
        self.warnings: list[str] = []
        with self._open() as file:
            self.n_rows: int | None = file.metadata.num_rows
            self.schema = _with_astropy_units(file.schema_arrow)

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
            Rows in the order of the file, each row once.
        """
        start = 0
        with self._open() as file:
            batches = file.iter_batches(batch_size=batch_rows, columns=list(columns))
            while True:
                try:
                    batch = next(batches)
                except StopIteration:
                    break
                except (pa.ArrowException, OSError, UnicodeError) as error:
                    raise unreadable(self.path, error, row=start) from error
                yield Chunk(start, batch.num_rows, {name: batch.column(name) for name in columns})
                start += batch.num_rows
        if start != self.n_rows:
            raise UserError(
                f"Catalog {self.path} is damaged: it says that it has {self.n_rows} rows, and {start} were "
                "read. Copy it or write it again."
            )

    def _open(self) -> Any:
        try:
            return pyarrow.parquet.ParquetFile(
                self.path, buffer_size=BUFFER_BYTES, pre_buffer=False, page_checksum_verification=True
            )
        except (pa.ArrowException, OSError) as error:
            raise unreadable(self.path, error) from error


def _with_astropy_units(schema: pa.Schema) -> pa.Schema:
    """Add the units and descriptions that astropy keeps beside the columns."""
    text = (schema.metadata or {}).get(b"table_meta_yaml")
    if text is None:
        return schema
    try:
        described = yaml.load(text.decode(), _TolerantLoader)["datatype"]
        by_name = {column["name"]: column for column in described}
    except (yaml.YAMLError, UnicodeDecodeError, LookupError, TypeError):
        return schema
    fields = []
    for field in schema:
        column = by_name.get(field.name, {})
        unit = field_unit(field) or str(column.get("unit") or "")
        description = field_description(field) or str(column.get("description") or "")
        fields.append(with_unit(field, unit=unit, description=description))
    return pa.schema(fields)


class _TolerantLoader(yaml.SafeLoader):  # type: ignore[misc]  # yaml has no types
    """Safe YAML that passes over the types of others."""


_TolerantLoader.add_multi_constructor("", lambda loader, suffix, node: None)
