# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Another patch for targets whose own has no image."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from .. import tables
from ..skymap.locate import Covering, Locator
from ..spool import Spool
from .refused_rows import RefusedRows
from .source_images import Found, SourceImages

__all__ = ("GIVEN", "NO_IMAGE_IN_TRACT", "find_fallbacks")

_LOG = logging.getLogger(__name__)

GIVEN = "given"
"""Column that tells whether the catalog itself names the patch of a row."""

NO_IMAGE_IN_TRACT = "The position is in a tract without such images, and no other tract's images reach it."

type Place = tuple[int, int]


def find_fallbacks(
    strays: Sequence[Place],
    rows: Spool,
    locator: Locator,
    images: SourceImages,
    moved: Spool,
    refused: RefusedRows,
) -> Found:
    """Give targets another patch that covers them, or refuse them.

    Of the patches whose image area holds the position and that have an image
    in any of the bands, the one in which it lies deepest is taken; of several
    equally deep ones that of the lowest tract and patch.

    Parameters
    ----------
    strays
        Groups of ``rows`` whose patch has no image; patch -1 stands for a
        tract that has none at all.
    rows
        Located targets by patch, with a column `GIVEN`.
    locator
        The rule.
    images
        The images of the repository.
    moved
        Where to put targets that get another patch, by that patch.
    refused
        Where to put the others: those with a patch of the catalog's own
        choice, and those that no image holds.

    Returns
    -------
    datasets
        Images of each patch that stands in for another, by band.
    """
    if not strays:
        return {}
    started = time.monotonic()
    found: Found = {}
    n_moved = 0
    for batch in rows.read_together(strays):
        by_rule = _refuse_given(batch, images.description, refused)
        covering = locator.covering(by_rule.column("ra").to_numpy(), by_rule.column("dec").to_numpy())
        keys = np.unique((covering.tract << 32) | covering.patch)
        found |= images.found(list(zip((keys >> 32).tolist(), (keys & 0xFFFFFFFF).tolist(), strict=True)))
        best = _deepest(covering, found)
        _refuse_uncovered(by_rule, covering.member[best], images.description, refused)
        if len(best):
            tract, patch = covering.tract[best], covering.patch[best]
            moved.add(tract, patch, _moved(by_rule, covering, best))
            n_moved += len(best)
    used = moved.groups()
    _LOG.info(
        "%d targets of %d patches without images are cut from %d other patches; found in %.1f s.",
        n_moved,
        len(strays),
        len(used),
        time.monotonic() - started,
    )
    return {place: found[place] for place in used}


def _refuse_given(batch: pa.RecordBatch, description: str, refused: RefusedRows) -> pa.RecordBatch:
    """Refuse rows whose patch the catalog itself names; gives the others."""
    given = batch.column(GIVEN).to_numpy(zero_copy_only=False)
    if not given.any():
        return batch
    rows = batch.filter(pa.array(given))
    refused.add_with(rows, tables.NO_DATASET, _no_image(rows, f"{description}."))
    return batch.filter(pa.array(~given))


def _refuse_uncovered(
    rows: pa.RecordBatch, covered: np.ndarray, description: str, refused: RefusedRows
) -> None:
    """Refuse rows that no image holds; ``covered`` are the others' places."""
    left = np.ones(rows.num_rows, dtype=bool)
    left[covered] = False
    in_tract = rows.column("patch").to_numpy() >= 0
    if (lost := left & ~in_tract).any():
        nowhere = _without_place(rows.filter(pa.array(lost)))
        refused.add_with(nowhere, tables.OUTSIDE_FOOTPRINT, NO_IMAGE_IN_TRACT)
    if (lost := left & in_tract).any():
        lacking = rows.filter(pa.array(lost))
        lacks = f"{description}, nor has another patch that covers the position."
        refused.add_with(lacking, tables.NO_DATASET, _no_image(lacking, lacks))


def _moved(rows: pa.RecordBatch, covering: Covering, best: np.ndarray) -> pa.RecordBatch:
    """Rows in their other patches, an entry of ``covering`` each."""
    chosen = rows.take(pa.array(covering.member[best])).drop_columns([GIVEN])
    values = {name: getattr(covering, name)[best] for name in ("tract", "patch", "x", "y")}
    values["fallback"] = np.ones(len(best), dtype=bool)
    arrays = [
        pa.array(values[field.name]).cast(field.type) if field.name in values else chosen.column(field.name)
        for field in chosen.schema
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=chosen.schema)


def _no_image(rows: pa.RecordBatch, lacks: str) -> pa.Array:
    """A sentence for each row, which says what its patch lacks."""
    keys = (rows.column("tract").to_numpy().astype(np.int64) << 32) | rows.column("patch").to_numpy()
    distinct, place = np.unique(keys, return_inverse=True)
    sentences = [f"Patch {key & 0xFFFFFFFF} of tract {key >> 32} has no {lacks}" for key in distinct.tolist()]
    return pa.array(sentences, pa.string()).take(pa.array(place))


def _without_place(rows: pa.RecordBatch) -> pa.RecordBatch:
    for name in ("tract", "patch"):
        index = rows.schema.get_field_index(name)
        field = rows.schema.field(index)
        rows = rows.set_column(index, field, pa.nulls(rows.num_rows, field.type))
    return rows


def _deepest(covering: Covering, found: Found) -> np.ndarray:
    """The best entry for each position that has any, by position."""
    keys = (covering.tract << 32) | covering.patch
    have = np.array([(tract << 32) | patch for tract, patch in found], dtype=np.int64)
    entries = np.flatnonzero(np.isin(keys, have))
    order = np.lexsort(
        (covering.patch[entries], covering.tract[entries], -covering.depth[entries], covering.member[entries])
    )
    entries = entries[order]
    _, first = np.unique(covering.member[entries], return_index=True)
    return entries[first]
