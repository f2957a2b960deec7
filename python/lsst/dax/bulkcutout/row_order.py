# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Rows in the order of whole numbers: sorting them, and merging what is
sorted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa

__all__ = ("merged", "stable_order")


def stable_order(values: np.ndarray) -> np.ndarray:
    """Find the order that sorts whole numbers; equal ones stay in theirs.

    By digits of 16 bits, and only those in which the values differ: several
    times faster than comparing where there are few different values, as there
    are tracts and patches.

    Parameters
    ----------
    values
        Whole numbers, int64, shape ``(n,)``.

    Returns
    -------
    order
        Indices, shape ``(n,)``.
    """
    if not len(values):
        return np.zeros(0, dtype=np.int64)
    above = (values - values.min()).view(np.uint64)
    largest = int(above.max())
    order: np.ndarray | None = None
    for shift in range(0, largest.bit_length(), 16):
        digit = (above >> np.uint64(shift)).astype(np.uint16)
        if digit.min() == digit.max():
            continue
        # NumPy sorts numbers of 16 bits by counting.
        if order is None:
            order = np.argsort(digit, kind="stable")
        else:
            order = order[np.argsort(digit[order], kind="stable")]
    return np.arange(len(values)) if order is None else order


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
        rows = pa.concat_batches(ready)
        yield rows.take(pa.array(stable_order(rows.column(column).to_numpy())))
    for batch, stream in heads:
        yield batch
        yield from stream


def _next(stream: Iterator[pa.RecordBatch]) -> pa.RecordBatch | None:
    return next((batch for batch in stream if batch.num_rows), None)
