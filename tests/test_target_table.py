# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Target files: a quantum reads its own rows and no others."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lsst.dax.bulkcutout import target_table
from lsst.dax.bulkcutout.errors import InternalError
from lsst.dax.bulkcutout.target_table import TargetTableWriter, read_targets, target_patches


def batch(tract: int, patch: int, rows: list[int], size: int = 9) -> pa.RecordBatch:
    n = len(rows)
    return pa.RecordBatch.from_pydict(
        {
            "row": pa.array(rows, pa.int64()),
            "size_pixels": pa.array([size] * n, pa.int32()),
            "tract": pa.array([tract] * n, pa.int32()),
            "patch": pa.array([patch] * n, pa.int32()),
        }
    )


def test_patches_are_read_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With row groups smaller than a patch; small batches share one."""
    monkeypatch.setattr(target_table, "ROW_GROUP_ROWS", 3)
    writer = TargetTableWriter(tmp_path)
    writer.write(7, 2, [batch(7, 2, [5, 6, 8, 9])])
    writer.write(7, 11, [batch(7, 11, [1, 2]), batch(7, 11, [4], size=64)])
    writer.write(9, 0, [batch(9, 0, [3])])
    first, second = writer.close()
    assert (first.tract, first.patches, first.rows_by_size) == (7, 2, {9: 6, 64: 1})
    assert (second.tract, second.rows_by_size) == (9, {9: 1})
    path = tmp_path / first.path
    assert first.bytes == path.stat().st_size
    assert first.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    read = {patch: [b.column("row").to_pylist() for b in read_targets(path, patch)] for patch in (2, 11, 5)}
    assert read == {2: [[5, 6, 8], [9]], 11: [[1, 2, 4]], 5: []}
    assert target_patches(path) == [(7, 2), (7, 11)]
    assert sum(b.num_rows for b in read_targets(path)) == 7


@pytest.mark.parametrize("pieces", [[1] * 10, [10], [2, 7, 1], [9, 1]])
def test_file_does_not_tell_in_which_pieces_rows_came(
    pieces: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten rows in row groups of four."""
    monkeypatch.setattr(target_table, "ROW_GROUP_ROWS", 4)
    digests = set()
    for name, lengths in (("as they come", pieces), ("one by one", [1] * 10)):
        starts = np.cumsum([0, *lengths])
        batches = [
            batch(7, 2, list(range(a, b)))
            for a, b in zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True)
        ]
        writer = TargetTableWriter(tmp_path / name)
        assert writer.write(7, 2, batches) == 10
        digests.add(writer.close()[0].sha256)
    assert len(digests) == 1
    with pq.ParquetFile(tmp_path / "one by one" / "tract=7.parquet") as file:
        assert [file.metadata.row_group(group).num_rows for group in range(3)] == [4, 4, 2]


def test_mixed_row_group_is_an_error(tmp_path: Path) -> None:
    table = pa.Table.from_batches([batch(7, 2, [0]), batch(7, 3, [1])])
    pq.write_table(table, tmp_path / "mixed.parquet")
    with pytest.raises(InternalError, match="does not belong to one patch"):
        list(read_targets(tmp_path / "mixed.parquet", 2))
