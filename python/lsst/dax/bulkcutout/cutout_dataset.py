# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""The cutout dataset: what one quantum leaves for the repackaging.

An HDF5 file with a group for each cutout size.  Layout, for ``n`` targets in
the order of the target table, ``b`` bands and size ``s``:

===================================  ================  =======================
dataset                              shape             contents
===================================  ================  =======================
columns                              n                 records: `ROW_COLUMNS`,
                                                       and `BAND_COLUMNS` etc.
                                                       with an axis of ``b``
image, variance, mask                n, b, s, s        planes
noise, mask_fraction                 n, b, k, s, s     sets of ``k`` planes
psf                                  n, b, ky, kx      kernel of the cell
===================================  ================  =======================

Planes of floats are contiguous and unfiltered, and are written past HDF5 to
their places in the file; masks, which almost vanish when compressed, are
chunked by cutout and band, and so are rounded planes. So repackaging moves
the bytes of both.
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from .errors import CorruptInputError
from .header_wcs import HeaderWcs
from .pixel_rounding import STEP_COLUMNS
from .planes import PLANES
from .stored_rows import ChunkRows, FloatRows, find_chunks
from .tables import MaskPlane, NeighborInput
from .wcs import TangentWcs, Wcs

__all__ = ("BAND_COLUMNS", "ROW_COLUMNS", "SCHEMA", "SCHEMA_VERSION", "CutoutDataset", "column_dtype")

SCHEMA = "bulkcutout-cutouts"
SCHEMA_VERSION = 3

ROW_COLUMNS: dict[str, Any] = {"row": "i8", "x": "f8", "y": "f8", "x0": "i4", "y0": "i4"}
"""Columns with one value a target."""

BAND_COLUMNS: dict[str, Any] = {
    "band_status": "u1",
    "valid_fraction": "f4",
    "center_valid": "?",
    "psf_fwhm": "f4",
    "psf_valid": "?",
    "inexact_psf_fraction": "f4",
    "n_cells": "i2",
    "n_patches": "i2",
    "stitched": "?",
}
"""Columns with one value a target and band; ``psf_cell`` (y, x) is beside
them with a third axis of two."""


def column_dtype(n_bands: int) -> np.dtype:
    """Type of a record with all that is not pixels.

    Parameters
    ----------
    n_bands
        Length of the band axis.

    Returns
    -------
    dtype
        `ROW_COLUMNS`, `BAND_COLUMNS`, ``psf_cell`` and `STEP_COLUMNS`.
    """
    return np.dtype(
        [
            *ROW_COLUMNS.items(),
            *((name, dtype, (n_bands,)) for name, dtype in BAND_COLUMNS.items()),
            ("psf_cell", "i4", (n_bands, 2)),
            *((name, "f4", (n_bands,)) for name in STEP_COLUMNS),
        ]
    )


GAP_BYTES = 128 * 1024
"""Largest gap between two targets that is read and thrown away."""

WINDOW_BYTES = 16 * 1024 * 1024
"""Most that is read at once where targets are scattered."""


class CutoutDataset:
    """Reads a cutout dataset; a context manager.

    Parameters
    ----------
    path
        File to read.

    Raises
    ------
    CorruptInputError
        Raised if the file is no cutout dataset of a known version.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._file = h5py.File(path, "r")
        except FileNotFoundError:
            raise
        except OSError as error:
            raise CorruptInputError(f"Cutout dataset {path} cannot be opened: {error}") from error
        attributes = self._file.attrs
        if attributes.get("schema") != SCHEMA or attributes.get("schema_version") != SCHEMA_VERSION:
            self._file.close()
            raise CorruptInputError(f"{path} is not a cutout dataset of version {SCHEMA_VERSION}.")
        header = json.loads(attributes["header"])
        self._descriptor = os.open(path, os.O_RDONLY)
        self._chunks: dict[tuple[int, str], np.ndarray] = {}
        self._records: tuple[int, slice | np.ndarray, np.ndarray] | None = None
        self.tract = int(header["tract"])
        self.patch = int(header["patch"])
        self.bands: tuple[str, ...] = tuple(header["bands"])
        self.mask_planes = tuple(MaskPlane(**plane) for plane in header["mask_planes"])
        self.inputs: tuple[str, ...] = tuple(header["inputs"])
        self.backgrounds: tuple[str, ...] = tuple(header["backgrounds"])
        self.units: tuple[str, ...] = tuple(header["units"])
        self.companions = str(header["companions"])
        self.psf_notes: tuple[str, ...] = tuple(header["psf_notes"])
        self.neighbors = tuple(NeighborInput(*each) for each in header["neighbors"])
        self.background = str(header["background"])
        self.precision = str(header["precision"])
        self.unusable: tuple[str, ...] = tuple(header["unusable"])
        self.extra_planes: dict[str, tuple[str, ...]] = {
            kind: tuple(names) for kind, names in header["extra_planes"].items()
        }
        self.extra_of_band = tuple(tuple(each) for each in header["extra_of_band"])
        self.wcs_cards: tuple[str, ...] = tuple(cards or "" for cards in header["wcs"])
        self.wcs: Wcs | None = _projection(header["tangent"], self.wcs_cards)
        """Projection of the cutouts, absolute pixels; `None` where no image
        could be opened."""

    def __enter__(self) -> CutoutDataset:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def psf_shape(self) -> tuple[int, int] | None:
        """Rows and columns of the kernels; `None` if there are none."""
        for name in self._file:
            if "psf" in self._file[name]:
                return tuple(self._file[name]["psf"].shape[2:])
        return None

    def planes_of(self, size: int) -> frozenset[str]:
        """Planes that the cutouts of one size have.

        Parameters
        ----------
        size
            Side of the cutouts in pixels.

        Returns
        -------
        planes
            Some of `planes.PLANES`.
        """
        found = self._file.get(f"size={size}", ())
        return frozenset(name for name in PLANES if name in found)

    def count(self, size: int) -> int:
        """Number of targets of one size.

        Parameters
        ----------
        size
            Side of the cutouts in pixels.

        Returns
        -------
        count
            0 if there are none.
        """
        name = f"size={size}"
        return int(self._file[name]["columns"].shape[0]) if name in self._file else 0

    def read(self, size: int, name: str, index: slice | np.ndarray = slice(None)) -> np.ndarray:
        """Read values of some targets.

        Parameters
        ----------
        size
            Size group.
        name
            Dataset.
        index
            Targets: a range, or ascending numbers of shape ``(k,)``.

        Returns
        -------
        values
            The first axis is the target.
        """
        group = self._file[f"size={size}"]
        if name in group:
            return self._read(group[name], index)
        # All columns lie together, and are wanted of the same targets.
        known = self._records
        if known is None or known[0] != size or not _is_same(known[1], index):
            self._records = known = (size, index, self._read_records(group["columns"], index))
        return np.asarray(known[2][name])

    def _read_records(self, dataset: h5py.Dataset, index: slice | np.ndarray) -> np.ndarray:
        dtype, start = column_dtype(len(self.bands)), dataset.id.get_offset()
        if (
            not isinstance(index, slice)
            or start is None
            or dataset.id.get_type().get_size() != dtype.itemsize
        ):
            return self._read(dataset, index)
        # To make out the type of a record takes h5py longer than to read one.
        first, stop, _ = index.indices(dataset.id.shape[0])
        n_bytes = max(0, stop - first) * dtype.itemsize
        found = os.pread(self._descriptor, n_bytes, start + first * dtype.itemsize)
        if len(found) < n_bytes:
            raise CorruptInputError(f"{self._file.filename} is damaged: it ends before its columns do.")
        return np.frombuffer(found, dtype=dtype)

    def _read(self, dataset: h5py.Dataset, index: slice | np.ndarray) -> np.ndarray:
        if isinstance(index, slice):
            return np.asarray(dataset[index])
        # h5py's own selection of scattered rows is slower than this.
        values = np.empty((len(index), *dataset.shape[1:]), dtype=dataset.dtype)
        row_bytes = max(1, values[:1].nbytes)
        # What is compressed costs more than to be called once more.
        gap = 1 if dataset.chunks else 1 + GAP_BYTES // row_bytes
        window = max(1, WINDOW_BYTES // row_bytes)
        ends = np.flatnonzero((np.diff(index) > gap) | (np.diff(index // window) > 0)) + 1
        for start, stop in itertools.pairwise([0, *ends.tolist(), len(index)]):
            if start < stop:
                first, last = int(index[start]), int(index[stop - 1])
                values[start:stop] = dataset[first : last + 1][index[start:stop] - first]
        return values

    def rows(self, size: int, name: str, rows: np.ndarray) -> FloatRows | ChunkRows:
        """Find rows of pixels, to be moved to another file.

        Parameters
        ----------
        size
            Size group.
        name
            Dataset of pixels.
        rows
            Ascending numbers of targets, shape ``(k,)``.

        Returns
        -------
        found
            What can be moved, and can be read, as long as this file is open.
        """
        dataset = self._file[f"size={size}"][name]
        if dataset.chunks is None:
            return FloatRows(dataset, self._descriptor, rows)
        if (size, name) not in self._chunks:
            self._chunks[size, name] = find_chunks(dataset)
        return ChunkRows(dataset, self._descriptor, rows, self._chunks[size, name])

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        os.close(self._descriptor)


def _is_same(one: slice | np.ndarray, other: slice | np.ndarray) -> bool:
    if isinstance(one, slice) or isinstance(other, slice):
        return isinstance(one, slice) and isinstance(other, slice) and one == other
    return np.array_equal(one, other)


def _projection(tangent: Mapping[str, Any] | None, cards: Sequence[str]) -> Wcs | None:
    if tangent is not None:
        crval, crpix, cd = (tangent[name] for name in ("crval", "crpix", "cd"))
        return TangentWcs(crval=tuple(crval), crpix=tuple(crpix), cd=(tuple(cd[0]), tuple(cd[1])))
    text = next(filter(None, cards), None)
    return None if text is None else HeaderWcs(text)
