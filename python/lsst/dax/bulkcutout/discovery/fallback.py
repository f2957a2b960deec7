# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Another patch for targets whose own has no image."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa

from lsst.daf.butler import DatasetRef

from .. import tables
from ..skymap.locate import Covering, Locator
from ..spool import Spool
from .refused_rows import RefusedRows
from .source_images import SourceImages

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
) -> dict[Place, dict[str, DatasetRef]]:
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
    places: set[Place] = set()
    for batch in rows.read_together(strays):
        covering = _covering(locator, _follow_rule(batch))
        keys = np.unique((covering.tract << 32) | covering.patch)
        places.update(zip((keys >> 32).tolist(), (keys & 0xFFFFFFFF).tolist(), strict=True))
    found = images.found(places)
    n_moved = 0
    for batch in rows.read_together(strays):
        for part, tract, patch in _move(batch, found, locator, images.description, refused):
            moved.add(tract, patch, part)
            n_moved += part.num_rows
    used = moved.groups()
    _LOG.info(
        "%d targets of %d patches without images are cut from %d other patches; found in %.1f s.",
        n_moved,
        len(strays),
        len(used),
        time.monotonic() - started,
    )
    return {place: found[place] for place in used}


def _move(
    batch: pa.RecordBatch,
    found: dict[Place, dict[str, DatasetRef]],
    locator: Locator,
    description: str,
    refused: RefusedRows,
) -> Iterator[tuple[pa.RecordBatch, np.ndarray, np.ndarray]]:
    """Rows that get another patch, with their tracts and patches."""
    by_rule = _follow_rule(batch)
    if by_rule.num_rows < batch.num_rows:
        given = batch.filter(batch.column(GIVEN))
        refused.add_with(given, tables.NO_DATASET, _no_image(given, f"{description}."))
    covering = _covering(locator, by_rule)
    best = _deepest(covering, found)
    member = covering.member[best]
    left = np.ones(by_rule.num_rows, dtype=bool)
    left[member] = False
    in_tract = by_rule.column("patch").to_numpy() >= 0
    if (lost := left & ~in_tract).any():
        rows = _without_place(by_rule.filter(pa.array(lost)))
        refused.add_with(rows, tables.OUTSIDE_FOOTPRINT, NO_IMAGE_IN_TRACT)
    if (lost := left & in_tract).any():
        rows = by_rule.filter(pa.array(lost))
        lacks = f"{description}, nor has another patch that covers the position."
        refused.add_with(rows, tables.NO_DATASET, _no_image(rows, lacks))
    if len(member):
        chosen = by_rule.take(pa.array(member)).drop_columns([GIVEN])
        values = {name: getattr(covering, name)[best] for name in ("tract", "patch", "x", "y")}
        values["fallback"] = np.ones(len(member), dtype=bool)
        arrays = [
            pa.array(values[field.name]).cast(field.type)
            if field.name in values
            else chosen.column(field.name)
            for field in chosen.schema
        ]
        moved = pa.RecordBatch.from_arrays(arrays, schema=chosen.schema)
        yield moved, values["tract"], values["patch"]


def _no_image(rows: pa.RecordBatch, lacks: str) -> pa.Array:
    """A sentence for each row, which says what its patch lacks."""
    keys = (rows.column("tract").to_numpy().astype(np.int64) << 32) | rows.column("patch").to_numpy()
    distinct, place = np.unique(keys, return_inverse=True)
    sentences = [f"Patch {key & 0xFFFFFFFF} of tract {key >> 32} has no {lacks}" for key in distinct.tolist()]
    return pa.array(sentences, pa.string()).take(pa.array(place))


def _follow_rule(batch: pa.RecordBatch) -> pa.RecordBatch:
    given = batch.column(GIVEN).to_numpy(zero_copy_only=False)
    return batch.filter(pa.array(~given)) if given.any() else batch


def _without_place(rows: pa.RecordBatch) -> pa.RecordBatch:
    for name in ("tract", "patch"):
        index = rows.schema.get_field_index(name)
        field = rows.schema.field(index)
        rows = rows.set_column(index, field, pa.nulls(rows.num_rows, field.type))
    return rows


def _covering(locator: Locator, rows: pa.RecordBatch) -> Covering:
    return locator.covering(rows.column("ra").to_numpy(), rows.column("dec").to_numpy())


def _deepest(covering: Covering, found: dict[Place, dict[str, DatasetRef]]) -> np.ndarray:
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
