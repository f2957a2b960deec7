# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Sorting tables that do not fit in memory."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from lsst.dax.bulkcutout.spool import Spool

SCHEMA = pa.schema([("row", pa.int64()), ("name", pa.string())])


@given(
    groups=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 3)), max_size=200),
    batch=st.integers(1, 50),
    run_bytes=st.sampled_from([1, 300, 10**6]),
)
def test_rows_come_back_by_group_in_their_order(
    groups: list[tuple[int, int]], batch: int, run_bytes: int
) -> None:
    """Whatever the sizes of batches and runs; the expected order is that of
    Python's stable sort.
    """
    with TemporaryDirectory() as directory:
        spool = Spool(Path(directory), SCHEMA, run_bytes=run_bytes)
        for start in range(0, len(groups), batch):
            part = groups[start : start + batch]
            rows = list(range(start, start + len(part)))
            spool.add(
                np.array([g[0] for g in part]),
                np.array([g[1] for g in part]),
                pa.RecordBatch.from_arrays(
                    [pa.array(rows), pa.array([f"é{r}" for r in rows])], schema=SCHEMA
                ),
            )
        expected = sorted(range(len(groups)), key=lambda row: groups[row])
        found = [
            (group, row)
            for group in spool.groups()
            for piece in spool.read(group)
            for row in piece.column("row").to_pylist()
        ]
        assert found == [(groups[row], row) for row in expected]
        spool.close()
        assert not list(Path(directory).iterdir())
