# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Sorting of tables that do not fit in memory."""

from __future__ import annotations

import functools
import itertools
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

__all__ = ("Spool", "merged")

RUN_BYTES = 48 * 1024 * 1024
"""Bytes of rows that are gathered before they are sorted and written."""

PIECE_ROWS = 50_000
"""Rows of a group that are read at a time."""


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
        self._runs: list[Path] = []
        # For each group the batches that hold its rows: (run, batch) pairs.
        self._pieces: dict[tuple[int, int], list[tuple[int, int]]] = defaultdict(list)
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
        return sorted(self._pieces)

    def read(self, group: tuple[int, int]) -> Iterator[pa.RecordBatch]:
        """Rows of one group, in their order.

        Parameters
        ----------
        group
            One of `groups`.

        Yields
        ------
        rows
            At least one row in each batch.
        """
        self._flush()
        pieces = self._pieces.get(group, ())
        if self._order_by is None:
            for run, batch in pieces:
                yield self._open_run(run).get_batch(batch)
            return
        runs = [list(of_run) for _, of_run in itertools.groupby(pieces, key=lambda piece: piece[0])]
        yield from merged([self._read_run(run) for run in runs], self._order_by)

    def close(self) -> None:
        """Delete the temporary files."""
        self._open_run.cache_clear()
        for path in self._runs:
            path.unlink(missing_ok=True)

    def _flush(self) -> None:
        if not self._pending:
            return
        first = np.concatenate([piece[0] for piece in self._pending])
        second = np.concatenate([piece[1] for piece in self._pending])
        table = pa.Table.from_batches([piece[2] for piece in self._pending], schema=self._schema)
        self._pending, self._pending_bytes = [], 0
        # lexsort is stable: rows of a group stay in order.
        within = [table.column(self._order_by).to_numpy()] if self._order_by is not None else []
        order = np.lexsort((*within, second, first))
        first, second = first[order], second[order]
        batch = table.take(pa.array(order)).combine_chunks().to_batches()[0]
        is_start = np.ones(len(order), dtype=bool)
        is_start[1:] = (first[1:] != first[:-1]) | (second[1:] != second[:-1])
        if self._order_by is not None:
            is_start[::PIECE_ROWS] = True
        starts = np.flatnonzero(is_start)
        run = len(self._runs)
        path = self._directory / f"run-{run:06d}.arrow"
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, self._schema) as writer:
            for number, (start, stop) in enumerate(zip(starts, [*starts[1:], len(order)], strict=True)):
                writer.write_batch(batch.slice(start, stop - start))
                self._pieces[int(first[start]), int(second[start])].append((run, number))
        self._runs.append(path)

    def _read_run(self, pieces: Iterable[tuple[int, int]]) -> Iterator[pa.RecordBatch]:
        for run, batch in pieces:
            yield self._open_run(run).get_batch(batch)

    @functools.lru_cache(maxsize=64)  # noqa: B019  (cleared by close; bounds the number of open files)
    def _open_run(self, run: int) -> pa.ipc.RecordBatchFileReader:
        return pa.ipc.open_file(pa.OSFile(str(self._runs[run]), "rb"))


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
