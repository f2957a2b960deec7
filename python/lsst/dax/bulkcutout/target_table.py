# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""The target table: one Parquet file per tract, row groups by patch."""

from __future__ import annotations

import contextlib
import hashlib
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
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
            # Rows of a patch come in pieces of any size, of which nothing is
            # to be seen in the file.
            pending.append(batch)
            n_pending += batch.num_rows
            n_rows += batch.num_rows
            if n_pending >= ROW_GROUP_ROWS:
                whole = pa.concat_batches(pending)
                start = 0
                while n_pending - start >= ROW_GROUP_ROWS:
                    self._write_row_group(whole.slice(start, ROW_GROUP_ROWS))
                    start += ROW_GROUP_ROWS
                pending, n_pending = [whole.slice(start)], n_pending - start
        if n_pending:
            self._write_row_group(pa.concat_batches(pending))
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

    def _write_row_group(self, rows: pa.RecordBatch) -> None:
        """Write rows of one patch."""
        if self._writer is None:
            self._writer = pq.ParquetWriter(
                self._directory / self._name(self._tract),
                rows.schema,
                # Row groups can be small and many: what is quick to begin.
                compression="lz4",
                use_dictionary=False,
            )
        counts = np.bincount(rows.column("size_pixels").to_numpy())
        sizes = np.flatnonzero(counts)
        self._sizes.update(dict(zip(sizes.tolist(), counts[sizes].tolist(), strict=True)))
        if "fallback" in rows.schema.names:
            self._fallback += rows.column("fallback").true_count
        self._writer.write_batch(rows)

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

    @property
    def patches(self) -> list[int]:
        """Patches that have targets, ascending."""
        return list(self._groups)

    def limits(self, patch: int, column: str) -> tuple[float, float] | None:
        """Smallest and largest value of a column, without reading any.

        Parameters
        ----------
        patch
            Patch identifier.
        column
            Name of a column of numbers.

        Returns
        -------
        limits
            Of the targets of the patch, but for NaN; `None` where that is
            not on record, as where all are NaN.
        """
        index = self.schema.get_field_index(column)
        groups = self._groups[patch]
        found = [self._file.metadata.row_group(group).column(index).statistics for group in groups]
        if not all(each is not None and each.has_min_max for each in found):
            return None
        return min(each.min for each in found), max(each.max for each in found)

    def read(
        self, patch: int | Collection[int] | None = None, *, columns: Sequence[str] | None = None
    ) -> Iterator[pa.RecordBatch]:
        """Read targets.

        Parameters
        ----------
        patch
            Patch or patches whose targets are wanted; all if `None`.
        columns
            Columns that are wanted; all if `None`.

        Yields
        ------
        targets
            Rows by patch, then in the order of the catalog; at most
            `ROW_GROUP_ROWS` at a time.
        """
        wanted = None if columns is None else list(columns)
        patches = self._groups if patch is None else [patch] if isinstance(patch, int) else patch
        groups = sorted(group for each in patches for group in self._groups.get(each, ()))
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
