# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Sorting of tables that do not fit in memory."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from .row_order import merged, stable_order

__all__ = ("Spool",)

RUN_BYTES = 24 * 1024 * 1024
"""Bytes of rows that are gathered before they are sorted and written."""

SHARE_BYTES = 24 * 1024 * 1024
"""Bytes of rows that are read and sorted together: many small groups, or a
part of a large one."""

PIECE_ROWS = 4096
"""Rows that are read at a time from the rows that were written together."""

type Group = tuple[int, int]


class Spool:
    """Rows on disk, grouped by a pair of whole numbers.

    Rows come in any order of groups and are given back group by group; within
    a group they keep the order in which they came, or are sorted.  Memory is
    bounded by `RUN_BYTES` and `SHARE_BYTES`, however many rows and groups
    there are; a sorted group that is larger takes `PIECE_ROWS` for each run
    that it is in.

    Parameters
    ----------
    directory
        Where to put the temporary files; made if need be.
    schema
        Columns of the rows.
    run_bytes, share_bytes
        Bytes that are held before they are written, and when they are read.
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
        share_bytes: int = SHARE_BYTES,
        order_by: str | None = None,
    ) -> None:
        self._directory = directory
        self._schema = schema
        self._run_bytes = run_bytes
        self._share_bytes = share_bytes
        self._order_by = order_by
        self._pending: list[tuple[np.ndarray, pa.RecordBatch]] = []
        self._pending_bytes = 0
        self._n_bytes = 0
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
        self._pending.append((_keys(first, second), rows))
        self._pending_bytes += rows.nbytes
        if self._pending_bytes >= self._run_bytes:
            self._flush()

    def groups(self) -> list[Group]:
        """List the groups.

        Returns
        -------
        groups
            All that any row is in, ascending.
        """
        keys, _ = self._sizes()
        return list(zip((keys >> 32).tolist(), ((keys & 0xFFFFFFFF) - 1).tolist(), strict=True))

    def read(self, groups: Iterable[Group]) -> Iterator[tuple[Group, Iterator[pa.RecordBatch]]]:
        """Read some groups.

        Parameters
        ----------
        groups
            Groups, ascending; a group may be without rows.

        Yields
        ------
        group
            Each of them.
        rows
            Its rows in their order, at least one in each batch; to be used
            before the next group is.
        """
        wanted = list(groups)
        places = _keys_of(wanted)
        for first, last, is_large in self._shares(places):
            if is_large:
                yield wanted[first], self._stream(int(places[first]))
                continue
            rows, starts, stops = self._share(places[first:last])
            for group, start, stop in zip(wanted[first:last], starts, stops, strict=True):
                yield group, iter([rows.slice(start, stop - start)] if stop > start else [])

    def read_together(self, groups: Iterable[Group]) -> Iterator[pa.RecordBatch]:
        """Read some groups, for those who do not mind where one ends.

        Parameters
        ----------
        groups
            Groups, ascending.

        Yields
        ------
        rows
            Their rows, by group and then in their order; of many groups in
            one batch, if these are small.
        """
        places = _keys_of(list(groups))
        for first, last, is_large in self._shares(places):
            if is_large:
                yield from self._stream(int(places[first]))
                continue
            rows, starts, stops = self._share(places[first:last])
            slices = [rows.slice(a, b - a) for a, b in zip(starts, stops, strict=True) if b > a]
            if slices:
                yield rows if sum(map(len, slices)) == len(rows) else _joined(slices, self._schema)

    def close(self) -> None:
        """Delete the temporary files."""
        self._open_run.cache_clear()
        self._batch.cache_clear()
        for run in self._runs:
            run.path.unlink(missing_ok=True)

    def _shares(self, places: np.ndarray) -> Iterator[tuple[int, int, bool]]:
        """Divide groups into those that are read together: the first one, the
        one after the last, and whether it is a single one that is too large.
        """
        keys, n_rows = self._sizes()
        # Rows up to a group, all groups counted: those between are read, too.
        before = np.append(0, np.cumsum(n_rows))
        starts = before[np.searchsorted(keys, places, side="left")]
        stops = before[np.searchsorted(keys, places, side="right")]
        share_rows = max(1, self._share_bytes * int(before[-1]) // max(1, self._n_bytes))
        first = 0
        while first < len(places):
            last = max(first + 1, int(np.searchsorted(stops, starts[first] + share_rows, side="right")))
            yield first, last, bool(stops[last - 1] - starts[first] > share_rows)
            first = last

    def _sizes(self) -> tuple[np.ndarray, np.ndarray]:
        """Keys of all groups, ascending, and their numbers of rows."""
        self._flush()
        nothing = np.zeros(0, dtype=np.int64)
        all_keys = np.concatenate([nothing, *(run.keys for run in self._runs)])
        counts = np.concatenate([nothing, *(np.diff(run.starts) for run in self._runs)])
        keys, place = np.unique(all_keys, return_inverse=True)
        n_rows = np.zeros(len(keys), dtype=np.int64)
        np.add.at(n_rows, place, counts)
        return keys, n_rows

    def _flush(self) -> None:
        if not self._pending:
            return
        keys = np.concatenate([keys for keys, _ in self._pending])
        rows = _joined([rows for _, rows in self._pending], self._schema)
        self._pending, self._pending_bytes = [], 0
        keys, rows = self._sorted(keys, rows)
        changes = np.flatnonzero(np.append(True, keys[1:] != keys[:-1]))
        path = self._directory / f"run-{len(self._runs):06d}.arrow"
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, self._schema) as writer:
            for start in range(0, len(keys), PIECE_ROWS):
                writer.write_batch(rows.slice(start, PIECE_ROWS))
        self._runs.append(_Run(path, keys[changes], np.append(changes, len(keys))))
        self._n_bytes += rows.nbytes

    def _sorted(self, keys: np.ndarray, rows: pa.RecordBatch) -> tuple[np.ndarray, pa.RecordBatch]:
        """Sort rows by group, and in a group by what it is sorted by."""
        if self._order_by is None:
            order = stable_order(keys)
        else:
            order = stable_order(rows.column(self._order_by).to_numpy())
            order = order[stable_order(keys[order])]
        return keys[order], rows.take(pa.array(order))

    def _share(self, places: np.ndarray) -> tuple[pa.RecordBatch, list[int], list[int]]:
        """Rows of groups that fit into memory, sorted; and where each group
        begins and ends in them.
        """
        keys = [np.zeros(0, dtype=np.int64)]
        pieces: list[pa.RecordBatch] = []
        for number, run in enumerate(self._runs):
            begin = int(np.searchsorted(run.keys, places[0], side="left"))
            end = int(np.searchsorted(run.keys, places[-1], side="right"))
            if begin < end:
                starts = run.starts[begin : end + 1]
                keys.append(np.repeat(run.keys[begin:end], np.diff(starts)))
                pieces += self._read_rows(number, int(starts[0]), int(starts[-1]))
        sorted_keys, rows = self._sorted(np.concatenate(keys), _joined(pieces, self._schema))
        return (
            rows,
            np.searchsorted(sorted_keys, places, side="left").tolist(),
            np.searchsorted(sorted_keys, places, side="right").tolist(),
        )

    def _stream(self, key: int) -> Iterator[pa.RecordBatch]:
        """Rows of one group that is too large for that."""
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

    # One share ends in the pieces that the next one begins in.
    @functools.lru_cache(maxsize=128)  # noqa: B019
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
    keys: np.ndarray = (np.asarray(first, dtype=np.int64) << 32) + np.asarray(second, dtype=np.int64) + 1
    return keys


def _keys_of(groups: Sequence[Group]) -> np.ndarray:
    return _keys(*np.array(groups, dtype=np.int64).reshape(-1, 2).T)


def _joined(batches: Sequence[pa.RecordBatch], schema: pa.Schema) -> pa.RecordBatch:
    """One batch of several, contiguous: taking rows out of many chunks is
    slow.
    """
    return pa.concat_batches(batches) if batches else pa.RecordBatch.from_pylist([], schema)
