# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Checks of single rows: each becomes a target, or gets its reason."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np
import pyarrow as pa

from ..tables import INVALID_ID, INVALID_POSITION, INVALID_SIZE, refusal_schema
from .census import Convert
from .columns import Columns
from .files import Chunk
from .positions import Positions
from .sizes import SizeRule
from .text import numbers_from, shown

__all__ = ("SIZE_ARCSEC", "Carried", "RowChecker")

SIZE_ARCSEC = "size_arcsec"
"""Column with sizes that are not known in pixels before the tract is."""

Carried = tuple[pa.Field, Convert]
"""A carried column and what brings its values to the type of the field."""


@dataclasses.dataclass
class RowChecker:
    """Turns rows as the file has them into target rows.

    The rules do not depend on other rows, so the size of a chunk makes no
    difference.
    """

    columns: Columns
    """Which columns are what."""

    positions: Positions
    """Where positions are, and how they become ICRS."""

    sizes: SizeRule
    """How sizes become pixels."""

    id_type: pa.DataType
    """Type of the identifiers."""

    convert_id: Convert
    """Brings identifiers to that type."""

    carried: Mapping[str, Carried]
    """By name, the carried columns and what brings them to their types."""

    schema: pa.Schema = dataclasses.field(init=False)
    """Columns of the rows that are given out.  Where sizes are in arcsec,
    ``size_pixels`` is null, and what is asked for is in `SIZE_ARCSEC`."""

    def __post_init__(self) -> None:
        schema = refusal_schema(self.id_type, [field for field, _ in self.carried.values()])
        if self.sizes.needs_scale:
            after = 1 + schema.get_field_index("size_pixels")
            schema = schema.insert(after, pa.field(SIZE_ARCSEC, pa.float64()))
        self.schema = schema

    def check(self, chunk: Chunk) -> pa.RecordBatch:
        """Check some rows.

        Parameters
        ----------
        chunk
            Rows of the file.

        Returns
        -------
        rows
            As many, of the type `schema`.  A row that cannot be used has
            ``status`` and ``reason``, and null where it has no good value.
        """
        columns = self.columns
        places = self.positions.read(chunk)
        identifiers = self.convert_id(chunk.columns[columns.id])
        asked = self.sizes.asked(chunk.columns.get(columns.size or ""), chunk.n_rows)
        sizes = np.zeros(len(asked), dtype=np.int32) if self.sizes.needs_scale else self.sizes.pixels(asked)
        bad_size = ~self.sizes.is_size(asked) if self.sizes.needs_scale else sizes == 0
        bad_id = np.asarray(identifiers.is_null())
        verdict = _Verdict(chunk)
        # The first that is wrong gives the status.
        verdict.refuse(
            bad_id,
            INVALID_ID,
            lambda bad: [f"{columns.id} in row {row} is missing." for row in (bad + chunk.start).tolist()],
        )
        verdict.refuse(places.is_bad, INVALID_POSITION, lambda bad: places.problems(bad, start=chunk.start))
        if columns.size is not None:
            verdict.refuse(bad_size, INVALID_SIZE, lambda bad: self._bad_sizes(chunk, asked, bad))
        status, reason = verdict.result()
        arrays = [
            pa.array(np.arange(chunk.start, chunk.start + chunk.n_rows)),
            identifiers,
            places.ra,
            places.dec,
            pa.array(sizes, mask=sizes == 0),
            *([pa.array(asked, mask=bad_size)] if self.sizes.needs_scale else []),
            self._whole_numbers(chunk, columns.tract),
            self._whole_numbers(chunk, columns.patch),
            *(convert(chunk.columns[name]) for name, (_, convert) in self.carried.items()),
            status,
            reason,
        ]
        return pa.RecordBatch.from_arrays(arrays, schema=self.schema)

    def _bad_sizes(self, chunk: Chunk, asked: np.ndarray, bad: np.ndarray) -> list[str]:
        name = self.sizes.column
        given = shown(chunk.columns[name], bad)
        return [
            f"{name} in row {row} is {value}: {self.sizes.problem(size)}."
            for row, value, size in zip((bad + chunk.start).tolist(), given, asked[bad].tolist(), strict=True)
        ]

    def _whole_numbers(self, chunk: Chunk, name: str | None) -> pa.Array:
        """Read a tract or patch; null where there is none that can be one."""
        if name is None:
            return pa.nulls(chunk.n_rows, pa.int32())
        values = numbers_from(chunk.columns[name]).to_numpy(zero_copy_only=False)
        with np.errstate(invalid="ignore"):
            is_good = (values >= 0) & (values < 2**31) & (values == np.floor(values))
        return pa.array(np.where(is_good, values, 0).astype(np.int32), mask=~is_good)


class _Verdict:
    """Status and reason of the rows of a chunk."""

    def __init__(self, chunk: Chunk) -> None:
        faulty = sorted(chunk.faults)
        self._is_open = np.ones(chunk.n_rows, dtype=bool)
        self._is_open[faulty] = False
        self._refused = [np.array(faulty, dtype=np.int64)]
        self._statuses = [INVALID_POSITION] * len(faulty)
        self._reasons = [chunk.faults[index] for index in faulty]

    def refuse(self, is_bad: np.ndarray, status: str, reasons: Callable[[np.ndarray], list[str]]) -> None:
        """Refuse rows, but for those that are refused already."""
        indices = np.flatnonzero(is_bad & self._is_open)
        if len(indices):
            self._is_open[indices] = False
            self._refused.append(indices)
            self._statuses += [status] * len(indices)
            self._reasons += reasons(indices)

    def result(self) -> tuple[pa.Array, pa.Array]:
        """Make columns, null for rows that are not refused."""
        refused = np.concatenate(self._refused)
        places = np.zeros(len(self._is_open), dtype=np.int64)
        places[refused] = np.arange(len(refused))
        take = pa.array(places, mask=self._is_open)
        return (
            pa.array(self._statuses, pa.string()).take(take),
            pa.array(self._reasons, pa.string()).take(take),
        )
