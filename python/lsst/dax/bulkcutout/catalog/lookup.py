# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Catalogs of identifiers alone: positions out of the object tables of the
release.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from ..errors import UserError
from ..tables import field_unit
from .angles import AngleColumn, AngleUnit, angle_unit
from .column_choice import ColumnChoice
from .files import CatalogFile, Chunk, unreadable
from .frames import ICRS
from .object_ids import SortedIds, whole_numbers
from .positions import Positions

__all__ = ("FindObjects", "LookedUpFile", "ObjectTables")

WINDOW_ROWS = 5_000_000
"""So many rows are looked up together; 40 bytes are held for each.  The
tables are read once for each window."""

BATCH_ROWS = 200_000

_FOUND = np.dtype([("ra", "f8"), ("dec", "f8"), ("tract", "i4"), ("patch", "i4")])
_PAIRS = (("coord_ra", "coord_dec"), ("ra", "dec"))


@dataclasses.dataclass(frozen=True)
class ObjectTables:
    """Tables of a release that have positions by identifier."""

    name: str
    """Their dataset type."""

    files: Mapping[int, Any]
    """By tract, the Parquet file (an `lsst.resources.ResourcePath`)."""


FindObjects = Callable[[str], ObjectTables | None]
"""Gives the tables of a dataset type; `None` if there are none."""


class LookedUpFile:
    """A catalog with positions, tracts and patches from other tables.

    It has four columns more than the catalog, of which `columns` are the
    names.  24 bytes for each row are kept in a temporary file.

    Parameters
    ----------
    file
        The catalog.
    identifiers
        Its column of identifiers.
    tables
        Where to look them up.

    Raises
    ------
    UserError
        Raised if the tables have no such columns.
    """

    def __init__(self, file: CatalogFile, identifiers: str, tables: ObjectTables) -> None:
        self._file = file
        self._identifiers = identifiers
        self._tables = tables
        self._found: np.memmap[Any, Any] | np.ndarray | None = None
        self._warnings: list[str] = []
        self.path: Path = file.path
        self.is_text = file.is_text
        self._find_columns()
        self.columns = tuple(self._new_name(own) for own in ("ra", "dec", "tract", "patch"))
        kinds = (pa.float64(), pa.float64(), pa.int32(), pa.int32())
        fields = [pa.field(*each) for each in zip(self.columns, kinds, strict=True)]
        self.schema = pa.schema([*file.schema, *fields], metadata=file.schema.metadata)

    @property
    def n_rows(self) -> int | None:
        """Number of rows; `None` where only reading the whole file tells."""
        return self._file.n_rows

    @property
    def warnings(self) -> list[str]:
        """What the user should know about the file, and the tables."""
        return [*self._file.warnings, *self._warnings]

    def positions(self) -> Positions:
        """Describe where positions are.

        Returns
        -------
        positions
            What reads them.
        """
        ra, dec = (
            AngleColumn(name, AngleUnit(1.0, "degrees", ""), -limit, most)
            for name, limit, most in zip(self.columns, (180.0, 90.0), (360.0, 90.0), strict=False)
        )
        return Positions(self.path, ra, dec, ICRS, None)

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
        given = [name for name in columns if name not in self.columns]
        if len(given) == len(columns):
            yield from self._file.scan(columns, batch_rows=batch_rows)
            return
        if self._found is None:
            self._found = self._look_up()
        read = list(dict.fromkeys([*given, self._identifiers]))
        for chunk in self._file.scan(read, batch_rows=batch_rows):
            found = self._found[chunk.start : chunk.start + chunk.n_rows]
            if len(found) < chunk.n_rows:
                # Told by whoever counts the rows.
                found = np.concatenate([found, _nothing(chunk.n_rows - len(found))])
            is_found = found["tract"] != _UNKNOWN
            arrays = {name: chunk.columns[name] for name in given}
            for name, own in zip(self.columns, _FOUND.names or (), strict=True):
                if name in columns:
                    arrays[name] = pa.array(np.ascontiguousarray(found[own]), mask=~is_found)
            ids = chunk.columns[self._identifiers]
            lost = np.flatnonzero(~is_found & np.asarray(ids.is_valid()))
            yield Chunk(
                chunk.start, chunk.n_rows, arrays, {**self._reasons(chunk.start, lost, ids), **chunk.faults}
            )

    def _reasons(self, start: int, lost: np.ndarray, ids: pa.Array) -> dict[int, str]:
        shown = ids.take(pa.array(lost)).to_pylist()
        return {
            index: f"{self._identifiers} in row {start + index} is {name}: the tables "
            f"{self._tables.name!r} have no such {self._table_id}."
            for index, name in zip(lost.tolist(), shown, strict=True)
        }

    def _look_up(self) -> np.ndarray:
        """Find the positions of all rows."""
        n_rows = self._file.n_rows
        if n_rows is None:
            for _ in self._file.scan([self._identifiers], batch_rows=BATCH_ROWS):
                pass
            n_rows = self._file.n_rows or 0
        with tempfile.TemporaryFile(prefix="bulkcutout-") as stream:
            stream.truncate(max(n_rows, 1) * _FOUND.itemsize)
            found = np.memmap(stream, _FOUND, "r+", shape=(max(n_rows, 1),))
        n_repeated, window = 0, []
        start = n_held = n_seen = 0
        for chunk in self._file.scan([self._identifiers], batch_rows=BATCH_ROWS):
            window.append(whole_numbers(chunk.columns[self._identifiers]))
            n_held += chunk.n_rows
            n_seen += chunk.n_rows
            if n_held >= WINDOW_ROWS:
                n_repeated += self._look_up_window(pa.concat_arrays(window), found[start:n_seen])
                start, n_held, window = n_seen, 0, []
        if window:
            n_repeated += self._look_up_window(pa.concat_arrays(window), found[start:n_seen])
        self._warnings = [
            f"Catalog {self.path}: it has no positions; those of {self._table_ra} and {self._table_dec} in "
            f"the tables {self._tables.name!r} are taken, by {self._table_id}."
        ]
        if n_repeated:
            self._warnings.append(
                f"Catalog {self.path}: {n_repeated} of its identifiers occur more than once in the tables "
                f"{self._tables.name!r}; the row in the lowest tract is taken."
            )
        return found

    def _look_up_window(self, identifiers: pa.Array, found: np.ndarray) -> int:
        """Look some rows up; gives the number of repeated identifiers."""
        wanted = SortedIds(identifiers)
        answers = _nothing(len(wanted.values))
        n_times = np.zeros(len(wanted.values), dtype=np.int32)
        for tract, path in sorted(self._tables.files.items()):
            for rows in self._matching(path, wanted):
                places = wanted.places(rows.column(self._table_id))
                hits = np.flatnonzero(places >= 0)
                places = places[hits]
                # The first one wins, also of two in one batch.
                first, index = np.unique(places, return_index=True)
                index = index[n_times[first] == 0]
                np.add.at(n_times, places, 1)
                hits, places = hits[index], places[index]
                answer = np.empty(len(hits), _FOUND)
                answer["ra"] = _floats(rows.column(self._table_ra), hits) * self._degrees
                answer["dec"] = _floats(rows.column(self._table_dec), hits) * self._degrees
                answer["tract"] = tract
                answer["patch"] = -1
                if self._table_patch is not None:
                    patch = _floats(rows.column(self._table_patch), hits)
                    answer["patch"] = np.where(patch >= 0, patch, -1)
                answers[places] = answer
        wanted.spread(answers, found)
        return int(np.count_nonzero(n_times > 1))

    def _matching(self, path: Any, wanted: SortedIds) -> Iterator[pa.RecordBatch]:
        """Read the row groups that may have identifiers that are wanted."""
        names = [self._table_id, self._table_ra, self._table_dec]
        names += [self._table_patch] if self._table_patch is not None else []
        try:
            with path.open("rb") as stream, pyarrow.parquet.ParquetFile(stream) as file:
                index = file.schema_arrow.get_field_index(self._table_id)
                if missing := [name for name in names if name not in file.schema_arrow.names]:
                    raise KeyError(f"no column {missing[0]}")
                groups = []
                for group in range(file.num_row_groups):
                    limits = file.metadata.row_group(group).column(index).statistics
                    if limits is None or not limits.has_min_max or wanted.has_any(limits.min, limits.max):
                        groups.append(group)
                if groups:
                    yield from file.iter_batches(BATCH_ROWS, row_groups=groups, columns=names)
        except (pa.ArrowException, OSError, KeyError) as error:
            raise self._damaged(path, error) from error

    def _find_columns(self) -> None:
        """Find the columns of the tables, in the first of them."""
        tract = min(self._tables.files)
        path = self._tables.files[tract]
        try:
            with path.open("rb") as stream:
                schema = pyarrow.parquet.read_schema(stream)
        except (pa.ArrowException, OSError) as error:
            raise self._damaged(path, error) from error
        names = set(schema.names)
        choice = ColumnChoice(self.path, schema)
        candidates = [self._identifiers] if self._identifiers in names else choice.candidates("id")
        pair = next((pair for pair in _PAIRS if names.issuperset(pair)), None)
        if len(candidates) != 1 or pair is None or not pa.types.is_integer(schema.field(candidates[0]).type):
            raise UserError(
                f"Catalog {self.path} has no positions, and the tables {self._tables.name!r} cannot tell "
                f"them: they need one column of whole numbers for {self._identifiers!r}, and coord_ra and "
                "coord_dec or ra and dec. Name other tables with catalog.lookup."
            )
        self._table_id, (self._table_ra, self._table_dec) = candidates[0], pair
        self._table_patch = "patch" if "patch" in names else None
        unit = field_unit(schema.field(self._table_ra))
        try:
            self._degrees = angle_unit(unit, is_ra=False, is_text=False).degrees
        except ValueError:
            raise UserError(
                f"Catalog {self.path} has no positions, and {self._table_ra} in the tables "
                f"{self._tables.name!r} states the unit {unit!r}, which is not known."
            ) from None

    def _new_name(self, own: str) -> str:
        table = {"ra": self._table_ra, "dec": self._table_dec}
        name = f"{self._tables.name}.{table.get(own, own)}"
        while name in self._file.schema.names:
            name += "'"
        return name

    def _damaged(self, path: Any, error: Exception) -> Exception:
        problem = unreadable(self.path, error)
        return type(problem)(
            f"Catalog {self.path}: its positions cannot be looked up, because {path} cannot be read "
            f"({error})."
        )


_UNKNOWN = -1


def _nothing(n: int) -> np.ndarray:
    answers = np.zeros(n, _FOUND)
    answers["ra"] = answers["dec"] = np.nan
    answers["tract"] = answers["patch"] = _UNKNOWN
    return answers


def _floats(values: pa.Array, indices: np.ndarray) -> np.ndarray:
    taken = values.take(pa.array(indices)).cast(pa.float64())
    numbers: np.ndarray = taken.to_numpy(zero_copy_only=False)
    return numbers
