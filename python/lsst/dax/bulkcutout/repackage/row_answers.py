# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""What becomes of each target of a patch."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from .. import tables
from ..cutout_dataset import CutoutDataset
from .piece_rows import Part
from .product_files import Piece, ProductFilePlan

__all__ = ("RowAnswers", "answer_rows", "not_processed", "status_rows")


@dataclasses.dataclass(frozen=True)
class RowAnswers:
    """What becomes of some targets of one piece, ``n`` of them."""

    status: list[str]
    """A key of `tables.STATUS` for each."""

    reason: list[str | None]
    """A sentence that says why; `None` for what is delivered."""

    delivered: np.ndarray
    """Whether the target is in the product, shape ``(n,)``."""

    valid_fraction: np.ndarray
    """Fraction of pixels with data in the best band; NaN if not known."""

    bands: list[str]
    """Bands that have data, joined by commas."""


def answer_rows(
    source: CutoutDataset, file: ProductFilePlan, piece: Piece, part: Part, bands: Sequence[str]
) -> RowAnswers:
    """Find out what becomes of some targets.

    Parameters
    ----------
    source
        Cutout dataset of the patch.
    file
        File that the targets would go to.
    piece
        The piece of it that they are in.
    part
        Places of the targets among those of the patch and size.
    bands
        Band axis.

    Returns
    -------
    answers
        One for each target.
    """
    band_status = source.read(file.size, "band_status", part)
    good = band_status == tables.BAND_OK
    delivered = good.any(axis=1)
    failed = ~delivered & (band_status == tables.BAND_READ_FAILED).any(axis=1)
    kind = np.where(delivered, 0, np.where(failed, 1, 2))
    lost = f"The images of {piece.place} are damaged at this position"
    if source.unusable:
        lost += f", or cannot be used: {' '.join(source.unusable)}".removesuffix(".")
    names = (tables.DELIVERED, tables.READ_FAILED, tables.NO_DATA)
    reasons = (
        None,
        f"{lost}.",
        f"No pixel of the cutout has data in the images of {piece.place}.",
    )
    # There are few sets of bands, whatever the number of rows.
    sets, members = np.unique(good, axis=0, return_inverse=True)
    joined = [",".join(band for band, has in zip(bands, each, strict=True) if has) for each in sets.tolist()]
    best = source.read(file.size, "valid_fraction", part).max(axis=1).astype(np.float64)
    return RowAnswers(
        status=[names[k] for k in kind.tolist()],
        reason=[reasons[k] for k in kind.tolist()],
        delivered=delivered,
        valid_fraction=best,
        bands=[joined[m] for m in members.reshape(-1).tolist()],
    )


def not_processed(n: int, reason: str) -> RowAnswers:
    """Say of targets that nothing was done for them.

    Parameters
    ----------
    n
        Number of targets.
    reason
        A sentence that says why.

    Returns
    -------
    answers
        One for each target.
    """
    return RowAnswers(
        status=[tables.NOT_PROCESSED] * n,
        reason=[reason] * n,
        delivered=np.zeros(n, dtype=bool),
        valid_fraction=np.full(n, np.nan),
        bands=[""] * n,
    )


def status_rows(
    rows: pa.RecordBatch, file: ProductFilePlan, answer: RowAnswers, index: int
) -> pa.RecordBatch:
    """Rows of ``status.parquet`` for some targets.

    Parameters
    ----------
    rows
        The targets.
    file
        File that they would go to.
    answer
        What becomes of them.
    index
        Row of the file that the first delivered one gets.

    Returns
    -------
    rows
        Rows of `tables.status_schema`.
    """
    id_type = rows.schema.field("target_id").type
    carried = tables.carried_fields(rows.schema)
    schema = tables.status_schema(id_type, carried)
    n = rows.num_rows
    place = index + np.cumsum(answer.delivered) - 1
    columns: dict[str, Any] = {
        "status": answer.status,
        "reason": answer.reason,
        "file": [file.path if each else None for each in answer.delivered.tolist()],
        "index": pa.array(place, mask=~answer.delivered),
        "valid_fraction": pa.array(answer.valid_fraction, mask=np.isnan(answer.valid_fraction)),
        "bands": answer.bands,
        "size_pixels": pa.array(np.full(n, file.size, dtype=np.int32)),
    }
    names = tables.status_names([field.name for field in carried])
    for name, field in zip(names, carried, strict=True):
        columns[name] = rows.column(tables.CARRIED_PREFIX + field.name)
    arrays = []
    for field in schema:
        values = columns.get(field.name)
        if values is None:
            values = rows.column(field.name)
        arrays.append(pa.array(values, field.type) if isinstance(values, list) else values.cast(field.type))
    return pa.RecordBatch.from_arrays(arrays, schema=schema)
