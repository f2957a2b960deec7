# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""``status.parquet``: one row for each row of the catalog, in its order."""

from __future__ import annotations

import itertools
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from .. import tables
from ..campaign import Campaign
from ..errors import TransientError
from ..manifest import STATUS_NAME
from ..spool import Spool

__all__ = ("write_status_table",)

ROWS_PER_GROUP = 1_000_000
"""Rows that are sorted and written at a time."""


def write_status_table(
    campaign: Campaign, answers: Iterable[pa.RecordBatch], directory: Path
) -> tuple[dict[str, int], int]:
    """Write the table.

    Parameters
    ----------
    campaign
        The campaign.
    answers
        Rows of `tables.status_schema` for all targets, in any order; they are
        taken once.
    directory
        Directory of the product.

    Returns
    -------
    counts
        Number of rows by status.
    fallback
        Number of delivered rows that are cut from another patch than that of
        the rule.

    Raises
    ------
    TransientError
        Raised if the disk takes no more.
    """
    refused = pq.ParquetFile(campaign.refused)
    source = refused.schema_arrow
    carried = tables.carried_fields(source)
    schema = tables.status_schema(source.field("target_id").type, carried)
    spool = Spool(campaign.scratch / "status", schema)
    counts: Counter[str] = Counter()
    fallback = 0
    temporary = directory / f".{STATUS_NAME}"
    try:
        for batch in itertools.chain(_refused_rows(refused, schema, carried), answers):
            for each in batch.column("status").value_counts():
                counts[each["values"].as_py()] += each["counts"].as_py()
            delivered = pc.equal(batch.column("status"), tables.DELIVERED)
            fallback += pc.sum(pc.and_(delivered, batch.column("fallback"))).as_py() or 0
            group = batch.column("row").to_numpy() // ROWS_PER_GROUP
            spool.add(group, np.zeros_like(group), batch)
        with pq.ParquetWriter(temporary, schema, compression="zstd") as writer:
            for _, rows in spool.read(spool.groups()):
                writer.write_table(pa.Table.from_batches(rows).sort_by("row"))
        with temporary.open("rb") as stream:
            # Some disks say only now that they are full.
            os.fsync(stream.fileno())
        temporary.replace(directory / STATUS_NAME)
    except OSError as error:
        raise TransientError(f"Cannot write {STATUS_NAME}: {error}") from error
    finally:
        refused.close()
        spool.close()
        temporary.unlink(missing_ok=True)
    return dict(sorted(counts.items())), fallback


def _refused_rows(
    refused: pq.ParquetFile, schema: pa.Schema, carried: Iterable[pa.Field]
) -> Iterator[pa.RecordBatch]:
    originals = {
        name: tables.CARRIED_PREFIX + field.name
        for name, field in zip(tables.status_names([field.name for field in carried]), carried, strict=True)
    }
    for batch in refused.iter_batches():
        columns = []
        for field in schema:
            name = originals.get(field.name, field.name)
            if name in batch.schema.names:
                columns.append(batch.column(name).cast(field.type))
            elif field.name == "bands":
                columns.append(pa.array([""] * batch.num_rows, field.type))
            elif field.name == "fallback":
                columns.append(pa.array(np.zeros(batch.num_rows, dtype=bool)))
            else:
                columns.append(pa.nulls(batch.num_rows, field.type))
        yield pa.RecordBatch.from_arrays(columns, schema=schema)
