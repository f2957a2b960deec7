# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""The target table: one Parquet file per tract, row groups by patch."""

from __future__ import annotations

import contextlib
import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from .campaign import TractPlan
from .errors import InternalError
from .manifest import file_sha256

__all__ = ("TargetFile", "TargetTableWriter", "read_targets", "sha256_of", "target_counts", "target_patches")

ROW_GROUP_ROWS = 250_000
ROWS_TOGETHER = 50_000
"""Rows of small row groups that are read at a time."""


class TargetTableWriter:
    """Writes target files; patches come in ascending order.

    Parameters
    ----------
    directory
        Where to put the files; made if need be.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._writer: pq.ParquetWriter | None = None
        self._tract = -1
        self._patches = 0
        self._fallback = 0
        self._sizes: Counter[int] = Counter()
        self._tracts: list[TractPlan] = []
        directory.mkdir(parents=True, exist_ok=True)

    def write(self, tract: int, patch: int, rows: Iterable[pa.RecordBatch]) -> int:
        """Write the targets of one patch.

        Parameters
        ----------
        tract, patch
            Where the targets are; each pair comes once, in ascending order.
        rows
            The targets, in the order of the catalog.

        Returns
        -------
        n_rows
            Number of targets; a patch without any counts for nothing.
        """
        if tract != self._tract:
            self._finish_tract()
            self._tract = tract
        pending: list[pa.RecordBatch] = []
        n_pending = n_rows = 0
        for batch in rows:
            # Rows of a patch may come in many small pieces; a row group each
            # would be slow to write and to read.
            pending.append(batch)
            n_pending += batch.num_rows
            n_rows += batch.num_rows
            if n_pending >= ROW_GROUP_ROWS:
                self._write_rows(pending)
                pending, n_pending = [], 0
        self._write_rows(pending)
        self._patches += n_rows > 0
        return n_rows

    def close(self) -> tuple[TractPlan, ...]:
        """Finish the last file.

        Returns
        -------
        tracts
            The files that were written, by tract.
        """
        self._finish_tract()
        return tuple(self._tracts)

    def _write_rows(self, batches: list[pa.RecordBatch]) -> None:
        """Write row groups of one patch."""
        if not batches:
            return
        table = pa.Table.from_batches(batches)
        if self._writer is None:
            self._writer = pq.ParquetWriter(
                self._directory / self._name(self._tract),
                table.schema,
                # Row groups can be small and many: what is quick to begin.
                compression="lz4",
                use_dictionary=False,
            )
        for value in pc.value_counts(table.column("size_pixels")):
            self._sizes[value["values"].as_py()] += value["counts"].as_py()
        if "fallback" in table.schema.names:
            self._fallback += pc.sum(table.column("fallback")).as_py() or 0
        self._writer.write_table(table, row_group_size=ROW_GROUP_ROWS)

    @staticmethod
    def _name(tract: int) -> str:
        return f"tract={tract}.parquet"

    def _finish_tract(self) -> None:
        if self._writer is None:
            return
        self._writer.close()
        self._writer = None
        path = self._directory / self._name(self._tract)
        self._tracts.append(
            TractPlan(
                tract=self._tract,
                path=path.name,
                bytes=path.stat().st_size,
                sha256=file_sha256(path),
                patches=self._patches,
                rows_by_size=dict(sorted(self._sizes.items())),
                fallback=self._fallback,
            )
        )
        self._patches, self._fallback, self._sizes = 0, 0, Counter()


def read_targets(
    path: Path, patch: int | None = None, *, columns: Sequence[str] | None = None
) -> Iterator[pa.RecordBatch]:
    """Read targets of one tract.

    Parameters
    ----------
    path
        Target file.
    patch
        Patch whose targets are wanted; all if `None`.
    columns
        Columns that are wanted; all if `None`.

    Yields
    ------
    targets
        Rows by patch, then in the order of the catalog; at most
        `ROW_GROUP_ROWS` at a time.

    Raises
    ------
    InternalError
        Raised if a row group holds more than one patch.
    """
    with contextlib.closing(TargetFile(path)) as file:
        yield from file.read(patch, columns=columns)


class TargetFile:
    """A target file that is read several times.

    Parameters
    ----------
    path
        Target file.

    Raises
    ------
    InternalError
        Raised if a row group holds more than one patch.
    """

    def __init__(self, path: Path) -> None:
        self._file = pq.ParquetFile(path)
        self._groups: dict[int, list[int]] = {}
        for group, (_, patch) in enumerate(_places(self._file)):
            self._groups.setdefault(patch, []).append(group)
        self.schema: pa.Schema = self._file.schema_arrow
        """Columns of the targets."""

    def n_batches(self, patch: int) -> int:
        """Number of batches that a patch is read in.

        Parameters
        ----------
        patch
            Patch identifier.

        Returns
        -------
        n
            0 if it has no targets.
        """
        return len(self._groups.get(patch, ()))

    def read(
        self, patch: int | None = None, *, columns: Sequence[str] | None = None
    ) -> Iterator[pa.RecordBatch]:
        """Read targets.

        Parameters
        ----------
        patch
            Patch whose targets are wanted; all if `None`.
        columns
            Columns that are wanted; all if `None`.

        Yields
        ------
        targets
            Rows by patch, then in the order of the catalog; at most
            `ROW_GROUP_ROWS` at a time.
        """
        wanted = None if columns is None else list(columns)
        groups = range(self._file.num_row_groups) if patch is None else self._groups.get(patch, ())
        for some, n_rows in self._together(groups):
            table = self._file.read_row_groups(some, columns=wanted, use_threads=False).combine_chunks()
            batch = table.to_batches()[0]
            start = 0
            for n in n_rows:
                yield batch.slice(start, n)
                start += n

    def _together(self, groups: Iterable[int]) -> Iterator[tuple[list[int], list[int]]]:
        """Row groups that are read at a time, because reading a small one
        takes nearly as long as a large one; and their numbers of rows.
        """
        some: list[int] = []
        n_rows: list[int] = []
        for group in groups:
            n = self._file.metadata.row_group(group).num_rows
            if some and sum(n_rows) + n > ROWS_TOGETHER:
                yield some, n_rows
                some, n_rows = [], []
            some.append(group)
            n_rows.append(n)
        if some:
            yield some, n_rows

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def target_patches(path: Path) -> list[tuple[int, int]]:
    """Patches that have targets in a target file.

    Parameters
    ----------
    path
        Target file.

    Returns
    -------
    patches
        Tract and patch, each once, ascending.
    """
    return sorted(target_counts(path))


def target_counts(path: Path) -> Counter[tuple[int, int]]:
    """Count the targets of a target file, without reading any.

    Parameters
    ----------
    path
        Target file.

    Returns
    -------
    counts
        Number of targets by tract and patch.
    """
    counts: Counter[tuple[int, int]] = Counter()
    with pq.ParquetFile(path) as file:
        for group, place in enumerate(_places(file)):
            counts[place] += file.metadata.row_group(group).num_rows
    return counts


def _places(file: pq.ParquetFile) -> Iterator[tuple[int, int]]:
    """Tract and patch of each row group, from its statistics alone."""
    columns = [file.schema_arrow.get_field_index(name) for name in ("tract", "patch")]
    for group in range(file.num_row_groups):
        statistics = [file.metadata.row_group(group).column(column).statistics for column in columns]
        if any(each is None or each.min != each.max for each in statistics):
            raise InternalError(f"Row group {group} of a target file does not belong to one patch.")
        yield int(statistics[0].min), int(statistics[1].min)


def sha256_of(data: bytes) -> str:
    """Checksum of a small text.

    Parameters
    ----------
    data
        The bytes.

    Returns
    -------
    digest
        SHA-256, hexadecimal.
    """
    return hashlib.sha256(data).hexdigest()
