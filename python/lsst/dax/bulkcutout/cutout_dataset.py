# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""The cutout dataset: what one quantum leaves for the repackaging.

An HDF5 file with a group for each cutout size.  Layout, for ``n`` targets in
the order of the target table, ``b`` bands and size ``s``:

===================================  ================  =======================
dataset                              shape             contents
===================================  ================  =======================
row                                  n                 row of the catalog
x, y                                 n                 target, tract pixels
x0, y0                               n                 first pixel of the box
image, variance, mask                n, b, s, s        planes
noise, mask_fraction                 n, b, k, s, s     sets of ``k`` planes
psf                                  n, b, ky, kx      kernel of the cell
see `BAND_COLUMNS`                   n, b              what else is known
===================================  ================  =======================

Planes of floats are contiguous and unfiltered, so that repackaging moves
bytes; masks, which almost vanish when compressed, are chunked by cutout.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import h5py
import numpy as np

from .errors import CorruptInputError
from .header_wcs import HeaderWcs
from .masks import NO_DATA
from .planes import BACKGROUND_STORED, PLANES
from .tables import MaskPlane, NeighborInput
from .wcs import TangentWcs, Wcs

__all__ = ("BAND_COLUMNS", "ROW_COLUMNS", "CutoutDataset", "CutoutDatasetWriter")

SCHEMA = "bulkcutout-cutouts"
SCHEMA_VERSION = 2

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


GAP_BYTES = 128 * 1024
"""Largest gap between two targets that is read and thrown away."""

WINDOW_BYTES = 16 * 1024 * 1024
"""Most that is read at once where targets are scattered."""


class CutoutDatasetWriter:
    """Writes a cutout dataset.

    Parameters
    ----------
    path
        File to write.
    tract, patch
        The patch.
    bands
        Band axis.
    mask_planes
        Table of the mask planes of the whole file; ``NO_DATA`` is one.
    inputs
        For each band the identifier of the input dataset, ``""`` for none.
    backgrounds
        For each band the name of the background model that is subtracted from
        its pixels, ``none`` if none is, ``""`` where the image does not say.
    units
        For each band the unit of the image, ``""`` where there is none; nJy
        for all if not given.
    psf_notes
        For each band why there is no PSF, ``""`` where there is one; for no
        band if not given.
    companions
        By the identifier of an image what belongs to it, for JSON.
    wcs
        For each band the projection of its image, absolute pixels; `None`
        where there is none. The first is that of the cutouts.
    neighbors
        Images of other patches that may have given pixels.
    background
        What the request wanted to be subtracted.
    unusable
        Why images that are not damaged cannot be used, a sentence for each.
    extra_planes
        Names of the planes of ``noise`` and ``mask_fraction``, of those that
        are wanted.
    extra_of_band
        For each band those that its own image has, such as ``noise/0``.
    """

    def __init__(
        self,
        path: Path,
        *,
        tract: int,
        patch: int,
        bands: Sequence[str],
        mask_planes: Sequence[MaskPlane],
        inputs: Sequence[str],
        backgrounds: Sequence[str],
        units: Sequence[str] = (),
        psf_notes: Sequence[str] = (),
        companions: Mapping[str, Any] | None = None,
        wcs: Sequence[Wcs | None],
        neighbors: Sequence[NeighborInput] = (),
        background: str = BACKGROUND_STORED,
        unusable: Sequence[str] = (),
        extra_planes: Mapping[str, Sequence[str]] = MappingProxyType({}),
        extra_of_band: Sequence[Sequence[str]] = (),
    ) -> None:
        self._n_bands = len(bands)
        self._extra = {kind: tuple(names) for kind, names in extra_planes.items()}
        self._no_data = next(1 << plane.bit for plane in mask_planes if plane.name == NO_DATA)
        self._file = h5py.File(path, "w", libver=("v110", "v110"))
        planes = [{"name": p.name, "bit": p.bit, "description": p.description} for p in mask_planes]
        self._file.attrs.update(
            {
                "schema": SCHEMA,
                "schema_version": SCHEMA_VERSION,
                "tract": tract,
                "patch": patch,
                "bands": json.dumps(list(bands)),
                "mask_planes": json.dumps(planes),
                "inputs": json.dumps(list(inputs)),
                "backgrounds": json.dumps(list(backgrounds)),
                "units": json.dumps(list(units)),
                "psf_notes": json.dumps(list(psf_notes)),
                "companions": json.dumps(companions, sort_keys=True) if companions else "",
                "neighbors": json.dumps([dataclasses.astuple(each) for each in neighbors]),
                "background": background,
                "unusable": json.dumps(list(unusable)),
                "extra_planes": json.dumps(self._extra),
                "extra_of_band": json.dumps([list(each) for each in extra_of_band or [[]] * self._n_bands]),
                "wcs": json.dumps([None if one is None else one.cards for one in wcs]),
                **_terms(next((one for one in wcs if one is not None), None)),
            }
        )

    def add_size(
        self, size: int, n: int, *, planes: Mapping[str, np.dtype], psf_shape: tuple[int, int] | None
    ) -> None:
        """Make room for all targets of one size.

        Parameters
        ----------
        size
            Side of the cutouts in pixels.
        n
            Number of targets.
        planes
            Pixel planes to keep, with their types.
        psf_shape
            Rows and columns of the kernels; `None` to keep no kernels.
        """
        group = self._file.create_group(f"size={size}")
        for name, dtype in ROW_COLUMNS.items():
            group.create_dataset(name, shape=(n,), dtype=dtype, track_times=False)
        for name, dtype in BAND_COLUMNS.items():
            group.create_dataset(name, shape=(n, self._n_bands), dtype=dtype, track_times=False)
        group.create_dataset("psf_cell", shape=(n, self._n_bands, 2), dtype="i4", track_times=False)
        for name, dtype in planes.items():
            # What is never written is outside all coverage.
            options: dict[str, Any] = {"fillvalue": np.nan}
            if dtype.kind in "iu":
                chunks = (1, 1, size, size)
                options = {"fillvalue": self._no_data, "chunks": chunks, "shuffle": True, "compression": 1}
            shape = (n, self._n_bands, size, size)
            group.create_dataset(name, shape=shape, dtype=dtype, track_times=False, **options)
        for kind, names in self._extra.items():
            sets = (n, self._n_bands, len(names), size, size)
            group.create_dataset(kind, shape=sets, dtype="f4", track_times=False, fillvalue=np.nan)
        if psf_shape is not None:
            shape = (n, self._n_bands, *psf_shape)
            group.create_dataset("psf", shape=shape, dtype="f4", track_times=False)

    def write(
        self, size: int, name: str, index: slice | np.ndarray, values: np.ndarray, *, band: int | None = None
    ) -> None:
        """Write values of some targets.

        Parameters
        ----------
        size
            Size group.
        name
            Dataset, or a plane of one such as ``noise/0``.
        index
            Targets: a range, or ascending numbers of shape ``(k,)``.
        values
            One element a target.
        band
            Place on the band axis, for datasets that have one.
        """
        kind, _, plane = name.partition("/")
        dataset = self._file[f"size={size}"][kind]
        rest = () if band is None else (band,)
        if plane:
            rest = (*rest, self._extra[kind].index(plane))
        if isinstance(index, np.ndarray) and len(index) and index[-1] - index[0] + 1 == len(index):
            index = slice(int(index[0]), int(index[-1]) + 1)
        if isinstance(index, slice):
            dataset[(index, *rest)] = values
            return
        # h5py's own selection of scattered rows is slower than a loop.
        for row, value in zip(index.tolist(), values, strict=True):
            dataset[(row, *rest)] = value

    def close(self) -> None:
        """Finish the file."""
        self._file.close()


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
        self.tract = int(attributes["tract"])
        self.patch = int(attributes["patch"])
        self.bands: tuple[str, ...] = tuple(json.loads(attributes["bands"]))
        self.mask_planes = tuple(MaskPlane(**plane) for plane in json.loads(attributes["mask_planes"]))
        self.inputs: tuple[str, ...] = tuple(json.loads(attributes["inputs"]))
        self.backgrounds: tuple[str, ...] = tuple(json.loads(attributes["backgrounds"]))
        self.units: tuple[str, ...] = tuple(json.loads(attributes.get("units", "[]")))
        self.companions = str(attributes.get("companions", ""))
        self.psf_notes: tuple[str, ...] = tuple(json.loads(attributes.get("psf_notes", "[]")))
        self.neighbors = tuple(NeighborInput(*each) for each in json.loads(attributes["neighbors"]))
        self.background = str(attributes["background"])
        self.unusable: tuple[str, ...] = tuple(json.loads(attributes["unusable"]))
        self.extra_planes: dict[str, tuple[str, ...]] = {
            kind: tuple(names) for kind, names in json.loads(attributes["extra_planes"]).items()
        }
        self.extra_of_band = tuple(tuple(each) for each in json.loads(attributes["extra_of_band"]))
        self.wcs: Wcs | None
        """Projection of the cutouts, absolute pixels; `None` where no image
        could be opened."""
        self.wcs_cards: tuple[str, ...] = tuple(cards or "" for cards in json.loads(attributes["wcs"]))
        self.wcs = _projection(attributes, self.wcs_cards)

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
        return int(self._file[name]["row"].shape[0]) if name in self._file else 0

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
        dataset = self._file[f"size={size}"][name]
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

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _terms(wcs: Wcs | None) -> dict[str, np.ndarray]:
    """Attributes of a plain tangent plane; NaN for any other projection."""
    if isinstance(wcs, TangentWcs):
        return {name: np.array(getattr(wcs, name), dtype=np.float64) for name in ("crval", "crpix", "cd")}
    return {"crval": np.full(2, np.nan), "crpix": np.full(2, np.nan), "cd": np.full((2, 2), np.nan)}


def _projection(attributes: Mapping[str, Any], cards: Sequence[str]) -> Wcs | None:
    crval, crpix, cd = (np.array(attributes[name]).tolist() for name in ("crval", "crpix", "cd"))
    if np.isfinite(crval[0]):
        return TangentWcs(crval=tuple(crval), crpix=tuple(crpix), cd=(tuple(cd[0]), tuple(cd[1])))
    text = next(filter(None, cards), None)
    return None if text is None else HeaderWcs(text)
