# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Rows that no quantum will see, and why."""

from __future__ import annotations

from collections import Counter

import pyarrow as pa
import pyarrow.parquet as pq

from ..campaign import Campaign

__all__ = ("RefusedRows",)


class RefusedRows:
    """Rows that no quantum will see, written as they are met.

    Parameters
    ----------
    campaign
        Where to write them.
    schema
        Columns of the catalog's batches.
    """

    def __init__(self, campaign: Campaign, schema: pa.Schema) -> None:
        self._schema = schema
        self._writer = pq.ParquetWriter(campaign.refused, schema, compression="zstd")
        self._counts: Counter[str] = Counter()

    def add(self, rows: pa.RecordBatch) -> None:
        """Take rows that have a status and a reason.

        Parameters
        ----------
        rows
            Rows of the catalog's schema.
        """
        if rows.num_rows:
            for each in rows.column("status").value_counts():
                self._counts[each["values"].as_py()] += each["counts"].as_py()
            self._writer.write_batch(rows)

    def add_with(self, rows: pa.RecordBatch, status: str, reason: str) -> None:
        """Take rows that share a status and a reason.

        Parameters
        ----------
        rows
            Rows with the catalog's columns, ``status`` and ``reason`` not
            needed; others are left out.
        status
            A key of `tables.STATUS`.
        reason
            A sentence.
        """
        n = rows.num_rows
        columns = {
            "status": pa.array([status] * n, self._schema.field("status").type),
            "reason": pa.array([reason] * n, self._schema.field("reason").type),
        }
        arrays = [columns.get(field.name, None) for field in self._schema]
        arrays = [
            rows.column(field.name) if array is None else array
            for field, array in zip(self._schema, arrays, strict=True)
        ]
        self.add(pa.RecordBatch.from_arrays(arrays, schema=self._schema))

    def close(self) -> dict[str, int]:
        """Finish the file.

        Returns
        -------
        counts
            Number of rows by status.
        """
        self._writer.close()
        return dict(sorted(self._counts.items()))
