# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Sorting of tables that do not fit in memory."""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

__all__ = ("Spool",)

RUN_BYTES = 48 * 1024 * 1024
"""Bytes of rows that are gathered before they are sorted and written."""


class Spool:
    """Rows on disk, grouped by a pair of whole numbers.

    Rows come in any order of groups and are given back group by group; within
    a group they keep the order in which they came.  Memory is bounded by
    `RUN_BYTES`, however many rows there are.

    Parameters
    ----------
    directory
        Where to put the temporary files; made if need be.
    schema
        Columns of the rows.
    run_bytes
        Bytes that are held before they are written.
    """

    def __init__(self, directory: Path, schema: pa.Schema, *, run_bytes: int = RUN_BYTES) -> None:
        self._directory = directory
        self._schema = schema
        self._run_bytes = run_bytes
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
        """Rows of one group, in the order in which they came.

        Parameters
        ----------
        group
            One of `groups`.

        Yields
        ------
        rows
            At least one row in each batch.
        """
        for run, batch in self._pieces.get(group, ()):
            yield self._open_run(run).get_batch(batch)

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
        order = np.lexsort((second, first))
        first, second = first[order], second[order]
        batch = table.take(pa.array(order)).combine_chunks().to_batches()[0]
        is_start = np.ones(len(order), dtype=bool)
        is_start[1:] = (first[1:] != first[:-1]) | (second[1:] != second[:-1])
        starts = np.flatnonzero(is_start)
        run = len(self._runs)
        path = self._directory / f"run-{run:06d}.arrow"
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, self._schema) as writer:
            for number, (start, stop) in enumerate(zip(starts, [*starts[1:], len(order)], strict=True)):
                writer.write_batch(batch.slice(start, stop - start))
                self._pieces[int(first[start]), int(second[start])].append((run, number))
        self._runs.append(path)

    @functools.lru_cache(maxsize=64)  # noqa: B019  (cleared by close; bounds the number of open files)
    def _open_run(self, run: int) -> pa.ipc.RecordBatchFileReader:
        return pa.ipc.open_file(pa.OSFile(str(self._runs[run]), "rb"))
