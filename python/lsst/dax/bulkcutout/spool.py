# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Sorting of tables that do not fit in memory."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

__all__ = ("Spool", "merged")

RUN_BYTES = 48 * 1024 * 1024
"""Bytes of rows that are gathered before they are sorted and written."""

PIECE_ROWS = 8192
"""Rows that are read at a time."""


class Spool:
    """Rows on disk, grouped by a pair of whole numbers.

    Rows come in any order of groups and are given back group by group; within
    a group they keep the order in which they came, or are sorted.  Memory is
    bounded by `RUN_BYTES`, however many rows there are; a sorted group takes
    `PIECE_ROWS` for each run that it is in.

    Parameters
    ----------
    directory
        Where to put the temporary files; made if need be.
    schema
        Columns of the rows.
    run_bytes
        Bytes that are held before they are written.
    order_by
        Column of whole numbers that the rows of a group are sorted by; `None`
        for the order in which they come.
    """

    def __init__(
        self,
        directory: Path,
        schema: pa.Schema,
        *,
        run_bytes: int = RUN_BYTES,
        order_by: str | None = None,
    ) -> None:
        self._directory = directory
        self._schema = schema
        self._run_bytes = run_bytes
        self._order_by = order_by
        self._pending: list[tuple[np.ndarray, np.ndarray, pa.RecordBatch]] = []
        self._pending_bytes = 0
        self._runs: list[_Run] = []
        directory.mkdir(parents=True, exist_ok=True)

    def add(self, first: np.ndarray, second: np.ndarray, rows: pa.RecordBatch) -> None:
        """Take rows in.

        Parameters
        ----------
        first, second
            The group of each row, shape ``(n,)``.
        rows
            The rows, ``n`` of them.
        """
        if not rows.num_rows:
            return
        self._pending.append((first, second, rows))
        self._pending_bytes += rows.nbytes
        if self._pending_bytes >= self._run_bytes:
            self._flush()

    def groups(self) -> list[tuple[int, int]]:
        """List the groups.

        Returns
        -------
        groups
            All that any row is in, ascending.
        """
        self._flush()
        keys = np.unique(np.concatenate([np.zeros(0, dtype=np.int64), *(run.keys for run in self._runs)]))
        return list(zip((keys >> 32).tolist(), ((keys & 0xFFFFFFFF) - 1).tolist(), strict=True))

    def read(self, group: tuple[int, int]) -> Iterator[pa.RecordBatch]:
        """Rows of one group, in their order.

        Parameters
        ----------
        group
            One of `groups`; those read one after the other should ascend.

        Yields
        ------
        rows
            At least one row in each batch.
        """
        self._flush()
        key = int(_keys(*np.array(group, dtype=np.int64)))
        parts = []
        for number, run in enumerate(self._runs):
            place = int(np.searchsorted(run.keys, key))
            if place < len(run.keys) and run.keys[place] == key:
                parts.append(self._read_rows(number, int(run.starts[place]), int(run.starts[place + 1])))
        if self._order_by is None:
            for part in parts:
                yield from part
        else:
            yield from merged(parts, self._order_by)

    def close(self) -> None:
        """Delete the temporary files."""
        self._open_run.cache_clear()
        self._batch.cache_clear()
        for run in self._runs:
            run.path.unlink(missing_ok=True)

    def _flush(self) -> None:
        if not self._pending:
            return
        keys = np.concatenate([_keys(first, second) for first, second, _ in self._pending])
        table = pa.Table.from_batches([rows for _, _, rows in self._pending], schema=self._schema)
        self._pending, self._pending_bytes = [], 0
        # Both sorts are stable: rows of a group stay in order.
        if self._order_by is None:
            order = np.argsort(keys, kind="stable")
        else:
            order = np.lexsort((table.column(self._order_by).to_numpy(), keys))
        distinct, starts = np.unique(keys[order], return_index=True)
        batch = table.take(pa.array(order)).combine_chunks().to_batches()[0]
        path = self._directory / f"run-{len(self._runs):06d}.arrow"
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, self._schema) as writer:
            for start in range(0, len(order), PIECE_ROWS):
                writer.write_batch(batch.slice(start, PIECE_ROWS))
        self._runs.append(_Run(path, distinct, np.append(starts, len(order))))

    def _read_rows(self, run: int, start: int, stop: int) -> Iterator[pa.RecordBatch]:
        while start < stop:
            piece, offset = divmod(start, PIECE_ROWS)
            n = min(stop - start, PIECE_ROWS - offset)
            yield self._batch(run, piece).slice(offset, n)
            start += n

    # Both caches are cleared by close; the first bounds the number of open
    # files.
    @functools.lru_cache(maxsize=64)  # noqa: B019
    def _open_run(self, run: int) -> pa.ipc.RecordBatchFileReader:
        return pa.ipc.open_file(pa.OSFile(str(self._runs[run].path), "rb"))

    @functools.lru_cache(maxsize=64)  # noqa: B019
    def _batch(self, run: int, piece: int) -> pa.RecordBatch:
        return self._open_run(run).get_batch(piece)


@dataclasses.dataclass(frozen=True)
class _Run:
    """Rows that were sorted and written together."""

    path: Path
    """Their file."""

    keys: np.ndarray
    """The groups in it, ascending."""

    starts: np.ndarray
    """First row of each group, and the number of all rows."""


def _keys(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Both numbers of groups in one that sorts as they do; the second number
    may be -1.
    """
    return (np.asarray(first, dtype=np.int64) << 32) + np.asarray(second, dtype=np.int64) + 1


def merged(streams: Sequence[Iterator[pa.RecordBatch]], column: str) -> Iterator[pa.RecordBatch]:
    """Merge streams of rows that are sorted.

    Parameters
    ----------
    streams
        Rows of one schema, each stream sorted by the column.
    column
        Column of whole numbers without nulls.

    Yields
    ------
    rows
        All rows, sorted by the column.  A batch of each stream is held.
    """
    heads: list[tuple[pa.RecordBatch, Iterator[pa.RecordBatch]]] = []
    for stream in streams:
        if (first := _next(stream)) is not None:
            heads.append((first, stream))
    while len(heads) > 1:
        # Up to here all that is to come has been seen.
        end = min(batch.column(column)[-1].as_py() for batch, _ in heads)
        ready, left = [], []
        for batch, stream in heads:
            n = int(np.searchsorted(batch.column(column).to_numpy(), end, side="right"))
            ready.append(batch.slice(0, n))
            rest = batch.slice(n) if n < batch.num_rows else _next(stream)
            if rest is not None:
                left.append((rest, stream))
        heads = left
        rows = pa.Table.from_batches(ready).combine_chunks()
        yield rows.sort_by(column).combine_chunks().to_batches()[0]
    for batch, stream in heads:
        yield batch
        yield from stream


def _next(stream: Iterator[pa.RecordBatch]) -> pa.RecordBatch | None:
    return next((batch for batch in stream if batch.num_rows), None)
