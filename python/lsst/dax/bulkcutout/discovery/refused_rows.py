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

_WORDS = ("status", "reason")


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
        self._writer = pq.ParquetWriter(
            campaign.refused,
            schema,
            # Numbers neither repeat nor shrink; sentences do both.
            compression={name: "zstd" if name in _WORDS else "lz4" for name in schema.names},
            use_dictionary=list(_WORDS),
        )
        self._counts: Counter[str] = Counter()

    def add(self, rows: pa.RecordBatch) -> None:
        """Take rows that have a status and a reason.

        Parameters
        ----------
        rows
            Rows of the catalog's schema.
        """
        for each in rows.column("status").value_counts():
            self._counts[each["values"].as_py()] += each["counts"].as_py()
        self._writer.write_batch(rows)

    def add_with(self, rows: pa.RecordBatch, status: str, reason: str | pa.Array) -> None:
        """Take rows that share a status.

        Parameters
        ----------
        rows
            Rows with the catalog's columns, ``status`` and ``reason`` not
            needed; others are left out.
        status
            A key of `tables.STATUS`.
        reason
            A sentence, or one for each row.
        """
        words = {
            "status": pa.repeat(status, rows.num_rows),
            "reason": pa.repeat(reason, rows.num_rows) if isinstance(reason, str) else reason,
        }
        arrays = [words[name] if name in words else rows.column(name) for name in self._schema.names]
        self._counts[status] += rows.num_rows
        self._writer.write_batch(pa.RecordBatch.from_arrays(arrays, schema=self._schema))

    def close(self) -> dict[str, int]:
        """Finish the file.

        Returns
        -------
        counts
            Number of rows by status.
        """
        self._writer.close()
        return dict(sorted(self._counts.items()))
