# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Sizes in arcsec become pixels where the tract of a target is known."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa

from .. import tables
from ..catalog.rows import SIZE_ARCSEC
from ..catalog.sizes import MOST_SIZES, SizeRule
from ..errors import UserError
from .refused_rows import RefusedRows
from .tract_geometry import TractGeometry

__all__ = ("TractSizes",)


class TractSizes:
    """Settles the sizes of targets.

    Parameters
    ----------
    rule
        How sizes become pixels.
    geometry
        Tells how large pixels are.
    refused
        Where to put targets whose size cannot be used.
    """

    def __init__(self, rule: SizeRule, geometry: TractGeometry, refused: RefusedRows) -> None:
        self._rule = rule
        self._geometry = geometry
        self._refused = refused
        self._scales: dict[int, float | None] = {}
        self._seen: set[int] = set()

    def settle(self, tract: int, rows: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Give targets their sizes in pixels.

        Parameters
        ----------
        tract
            Tract identifier.
        rows
            Targets of the tract, with sizes in arcsec if these are asked for.

        Yields
        ------
        rows
            The same without those that are refused; batches are not empty.

        Raises
        ------
        UserError
            Raised if the one size of all cutouts cannot be used, or there are
            too many different ones.
        """
        for batch in rows:
            settled = self._settle(tract, batch) if self._rule.needs_scale else batch
            if settled.num_rows:
                yield settled

    def _settle(self, tract: int, batch: pa.RecordBatch) -> pa.RecordBatch:
        if tract not in self._scales:
            self._scales[tract] = self._geometry.pixel_scale_arcsec(tract)
        scale = self._scales[tract]
        if scale is None:
            reason = f"Its size is in arcsec, and no image of tract {tract} can be read for the pixel scale."
            self._refused.add_with(batch, tables.READ_FAILED, reason)
            return _with_pixels(batch.slice(0, 0), np.zeros(0, dtype=np.int32))
        asked = batch.column(SIZE_ARCSEC).to_numpy()
        pixels = self._rule.pixels(asked, scale)
        self._count(np.unique(pixels[pixels > 0]).tolist())
        for size in np.unique(asked[pixels == 0]).tolist():
            problem = self._rule.problem(size, scale)
            if self._rule.fixed is not None:
                raise UserError(f"Request field 'size': {size:g} arcsec is {problem} in tract {tract}.")
            same = batch.filter(pa.array((pixels == 0) & (asked == size)))
            reason = f"{self._rule.column} is {size:g} arcsec: {problem}."
            self._refused.add_with(same, tables.INVALID_SIZE, reason)
        return _with_pixels(batch.filter(pa.array(pixels > 0)), pixels[pixels > 0])

    def _count(self, sizes: list[int]) -> None:
        self._seen.update(sizes)
        if len(self._seen) > MOST_SIZES:
            raise UserError(
                f"The catalog's column {self._rule.column} asks for more than {MOST_SIZES} different sizes "
                "in pixels, which is the most that are allowed in one request. Round them up to fewer with "
                "the field size_bins, as in size_bins: [32, 64, 128, 256]."
            )


def _with_pixels(batch: pa.RecordBatch, pixels: np.ndarray) -> pa.RecordBatch:
    """Replace sizes in arcsec."""
    index = batch.schema.get_field_index("size_pixels")
    field = batch.schema.field(index)
    return batch.set_column(index, field, pa.array(pixels, field.type)).drop_columns([SIZE_ARCSEC])
