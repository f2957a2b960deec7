# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Sorting tables that do not fit in memory."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lsst.dax.bulkcutout.row_order import stable_order
from lsst.dax.bulkcutout.spool import Spool

SCHEMA = pa.schema([("row", pa.int64()), ("name", pa.string()), ("turned", pa.int64())])


@given(
    groups=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 3)), max_size=200),
    batch=st.integers(1, 50),
    run_bytes=st.sampled_from([1, 300, 10**6]),
    share_bytes=st.sampled_from([1, 200, 10**6]),
    by_name=st.booleans(),
)
def test_rows_come_back_by_group_in_their_order(
    groups: list[tuple[int, int]], batch: int, run_bytes: int, share_bytes: int, by_name: bool
) -> None:
    """Whatever the sizes of batches, of runs and of what is read together;
    the expected order is that of Python's stable sort.
    """
    with TemporaryDirectory() as directory:
        spool = Spool(
            Path(directory),
            SCHEMA,
            run_bytes=run_bytes,
            share_bytes=share_bytes,
            order_by="turned" if by_name else None,
        )
        for start in range(0, len(groups), batch):
            part = groups[start : start + batch]
            rows = list(range(start, start + len(part)))
            spool.add(
                np.array([g[0] for g in part]),
                np.array([g[1] for g in part]),
                pa.RecordBatch.from_arrays(
                    [pa.array(rows), pa.array([f"é{r}" for r in rows]), pa.array([-r for r in rows])],
                    schema=SCHEMA,
                ),
            )
        rows = range(len(groups))
        expected = sorted(reversed(rows) if by_name else rows, key=lambda row: groups[row])
        found = [
            (group, row)
            for group, pieces in spool.read(spool.groups())
            for piece in pieces
            for row in piece.column("row").to_pylist()
        ]
        assert found == [(groups[row], row) for row in expected]
        # Some groups, one that nothing is in among them.
        some = [group for group in [(-1, 0), *spool.groups()[::2], (9, -1)]]
        assert [group for group, _ in spool.read(some)] == some
        together = [row for piece in spool.read_together(some) for row in piece.column("row").to_pylist()]
        assert together == [row for row in expected if groups[row] in some]
        spool.close()
        assert not list(Path(directory).iterdir())


@given(st.lists(st.integers(-(2**62), 2**62) | st.integers(-3, 3), max_size=100))
def test_order_of_whole_numbers_is_that_of_a_stable_sort(values: list[int]) -> None:
    order = stable_order(np.array(values, dtype=np.int64))
    assert order.tolist() == sorted(range(len(values)), key=values.__getitem__)


def test_memory_does_not_grow_with_the_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sixty times as many bytes as are held, in groups small and large."""
    generator = np.random.default_rng(5)
    monkeypatch.setattr("lsst.dax.bulkcutout.spool.PIECE_ROWS", 512)
    limit = 2**19
    spool = Spool(tmp_path, SCHEMA, run_bytes=limit, share_bytes=limit)
    before, most, n = pa.total_allocated_bytes(), 0, 10_000
    for start in range(0, 100 * n, n):
        rows = np.arange(start, start + n)
        group = np.where(generator.uniform(size=n) < 0.5, 3, generator.integers(0, 500, n))
        columns = [pa.array(rows), pa.array(np.char.mod("%012d", rows)), pa.array(rows)]
        spool.add(group, np.zeros(n), pa.RecordBatch.from_arrays(columns, schema=SCHEMA))
        del columns
        most = max(most, pa.total_allocated_bytes() - before)
    n_rows = 0
    for _, pieces in spool.read(spool.groups()):
        for piece in pieces:
            n_rows += piece.num_rows
            most = max(most, pa.total_allocated_bytes() - before)
    spool.close()
    assert n_rows == 100 * n
    assert most < 10 * limit
