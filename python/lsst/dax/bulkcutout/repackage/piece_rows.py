# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""The target rows of a file's pieces, and their places in cutout datasets.

A patch can have targets in many files (HEALPix pixels are smaller than it at
high orders), which come one after the other: so the last patches are kept.
"""

from __future__ import annotations

import collections
from collections.abc import Iterator, Mapping

import numpy as np
import pyarrow as pa

from ..campaign import Campaign, TractPlan
from ..target_table import TargetFile
from .product_files import Piece, ProductFilePlan, pixels_of

__all__ = ("Part", "PieceRows")

type Part = slice | np.ndarray
"""Targets, counted among those of a patch and size: a range, or ascending
numbers."""

CACHE_BYTES = 64 * 1024 * 1024
"""Target rows that are kept."""

_MOST_OPEN_FILES = 4


class PieceRows:
    """Reads target rows.

    Parameters
    ----------
    campaign
        The campaign, for its target table.
    tracts
        The tracts of its plan.
    order
        Order of the HEALPix pixels that files are divided by; `None` if they
        are not.
    """

    def __init__(self, campaign: Campaign, tracts: Mapping[int, TractPlan], order: int | None) -> None:
        self._campaign = campaign
        self._tracts = tracts
        self._order = order
        self._files: collections.OrderedDict[int, TargetFile] = collections.OrderedDict()
        self._cache: collections.OrderedDict[tuple[int, int, int], _Rows] = collections.OrderedDict()
        self._cached_bytes = 0

    def schema(self, tract: int) -> pa.Schema:
        """Columns of the target table.

        Parameters
        ----------
        tract
            Any tract.

        Returns
        -------
        schema
            As `tables.target_schema`.
        """
        return self._file(tract).schema

    def read(
        self, file: ProductFilePlan, piece: Piece, *, max_rows: int | None = None
    ) -> Iterator[tuple[pa.RecordBatch, Part]]:
        """Read the targets of a piece.

        Parameters
        ----------
        file
            File of the product.
        piece
            One of its pieces.
        max_rows
            Most rows of a batch; by default what the target table has.

        Yields
        ------
        rows
            Targets, in the order of the file.
        part
            Their places in the cutout dataset of the patch.
        """
        counted = 0
        for rows in self._patch(piece, file.size):
            members = None if file.healpix is None else np.flatnonzero(rows.pixels == file.healpix)
            n = rows.rows.num_rows if members is None else len(members)
            first, last = max(piece.start - counted, 0), min(piece.stop - counted, n)
            step = max_rows or max(1, last - first)
            for start in range(first, last, step):
                stop = min(start + step, last)
                if members is None:
                    yield rows.rows.slice(start, stop - start), slice(rows.start + start, rows.start + stop)
                else:
                    some = members[start:stop]
                    yield rows.rows.take(pa.array(some)), rows.start + some
            counted += n

    def close(self) -> None:
        """Close all files."""
        while self._files:
            self._files.popitem()[1].close()
        self._cache.clear()
        self._cached_bytes = 0

    def _patch(self, piece: Piece, size: int) -> Iterator[_Rows]:
        """All targets of a patch and size."""
        key = (piece.tract, piece.patch, size)
        if key in self._cache:
            self._cache.move_to_end(key)
            yield self._cache[key]
            return
        start = 0
        batches = self._file(piece.tract).read(piece.patch)
        for number, batch in enumerate(batches):
            chosen = batch.filter(pa.array(batch.column("size_pixels").to_numpy() == size))
            # Pixels of the whole batch, as when they were counted: the last
            # digit of a sine may depend on what stands beside it.
            pixels = None
            if self._order is not None:
                pixels = pixels_of(batch, self._order)[batch.column("size_pixels").to_numpy() == size]
            rows = _Rows(chosen, start, pixels)
            start += chosen.num_rows
            if number == 0 and self._file(piece.tract).n_batches(piece.patch) == 1 and pixels is not None:
                self._keep(key, rows)
            yield rows

    def _keep(self, key: tuple[int, int, int], rows: _Rows) -> None:
        self._cache[key] = rows
        self._cached_bytes += rows.rows.nbytes
        while self._cached_bytes > CACHE_BYTES and self._cache:
            self._cached_bytes -= self._cache.popitem(last=False)[1].rows.nbytes

    def _file(self, tract: int) -> TargetFile:
        if tract in self._files:
            self._files.move_to_end(tract)
            return self._files[tract]
        file = self._files[tract] = TargetFile(self._campaign.targets / self._tracts[tract].path)
        if len(self._files) > _MOST_OPEN_FILES:
            self._files.popitem(last=False)[1].close()
        return file


class _Rows:
    """Targets of one size from a batch of the target table."""

    def __init__(self, rows: pa.RecordBatch, start: int, pixels: np.ndarray | None) -> None:
        self.rows = rows
        self.start = start
        self.pixels = pixels
