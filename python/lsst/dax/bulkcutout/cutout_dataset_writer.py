# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Writes the cutout dataset of a quantum.

Pixels go past HDF5: floats to their places in the file as they come, in blocks
or scattered rows; masks and rounded planes as chunks that are compressed here.
All else is small, and is written at the end.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import h5py
import numpy as np

from .cutout_dataset import SCHEMA, SCHEMA_VERSION, column_dtype
from .errors import InternalError
from .masks import NO_DATA
from .pixel_chunks import FILTERS, compress
from .pixel_rounding import STEP_COLUMNS, round_pixels
from .planes import BACKGROUND_STORED
from .precision import EXACT, is_rounded
from .stored_rows import runs, write_all
from .tables import MaskPlane, NeighborInput
from .wcs import TangentWcs, Wcs

__all__ = ("CutoutDatasetWriter",)


_FILL_BYTES = 1024 * 1024


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
    precision
        How exact float planes are, as the request says it.
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
        precision: str = EXACT,
    ) -> None:
        self._n_bands = len(bands)
        self._extra = {kind: tuple(names) for kind, names in extra_planes.items()}
        self._no_data = next(1 << plane.bit for plane in mask_planes if plane.name == NO_DATA)
        self._precision = precision
        self._seconds = 0.0
        self.bytes_per_second = 0
        """How fast the file was written, compression included; once it is
        closed."""
        self._has_failed = False
        self._planes: dict[tuple[int, str], _Planes] = {}
        self._file = h5py.File(path, "w", libver=("v110", "v110"))
        self._descriptor = os.open(path, os.O_RDWR)
        planes = [{"name": p.name, "bit": p.bit, "description": p.description} for p in mask_planes]
        self._columns: dict[int, np.ndarray] = {}
        self._file.attrs["schema"] = SCHEMA
        self._file.attrs["schema_version"] = SCHEMA_VERSION
        # One attribute: each takes as long to read as all of them.
        self._file.attrs["header"] = json.dumps(
            {
                "tract": tract,
                "patch": patch,
                "bands": list(bands),
                "mask_planes": planes,
                "inputs": list(inputs),
                "backgrounds": list(backgrounds),
                "units": list(units),
                "psf_notes": list(psf_notes),
                "companions": json.dumps(companions, sort_keys=True) if companions else "",
                "neighbors": [dataclasses.astuple(each) for each in neighbors],
                "background": background,
                "precision": precision,
                "unusable": list(unusable),
                "extra_planes": self._extra,
                "extra_of_band": [list(each) for each in extra_of_band or [[]] * self._n_bands],
                "wcs": [None if one is None else one.cards for one in wcs],
                "tangent": _terms(next((one for one in wcs if one is not None), None)),
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
        self._columns[size] = np.zeros(n, dtype=column_dtype(self._n_bands))
        # What is never written is outside all coverage.
        for name, dtype in planes.items():
            fill = self._no_data if dtype.kind in "iu" else np.nan
            self._add_planes(group, name, (n, self._n_bands, size, size), dtype, fill)
        for kind, names in self._extra.items():
            shape = (n, self._n_bands, len(names), size, size)
            self._add_planes(group, kind, shape, np.dtype("f4"), np.nan)
        if psf_shape is not None:
            self._add_planes(group, "psf", (n, self._n_bands, *psf_shape), np.dtype("f4"), 0)

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

        Raises
        ------
        OSError
            Raised if the disk takes no more.
        """
        started = time.monotonic()
        kind, _, plane = name.partition("/")
        # What fails is said once: `close` does not try the rest.
        self._has_failed = True
        if (planes := self._planes.get((size, kind))) is None:
            self._columns[size][kind][index if band is None else (index, band)] = values
        else:
            assert band is not None
            rows = np.arange(index.start, index.stop) if isinstance(index, slice) else index
            number = (self._extra[kind].index(plane),) if plane else ()
            planes.write(rows, (band, *number), values)
        self._has_failed = False
        self._seconds += time.monotonic() - started

    def write_cutouts(
        self, size: int, index: np.ndarray, pixels: Mapping[str, np.ndarray], *, band: int
    ) -> None:
        """Write all planes of some targets in a band, rounded if need be.

        Parameters
        ----------
        size
            Size group.
        index
            Targets: ascending numbers of shape ``(k,)``.
        pixels
            Planes by name, also such as ``noise/0``; those that are not to be
            kept are left out.
        band
            Place on the band axis.

        Raises
        ------
        OSError
            Raised if the disk takes no more.
        """
        for name, values in round_pixels(pixels, self._precision).items():
            if name in STEP_COLUMNS or (size, name.partition("/")[0]) in self._planes:
                self.write(size, name, index, values, band=band)

    def close(self) -> None:
        """Finish the file.

        Raises
        ------
        OSError
            Raised if the disk takes no more.
        """
        started = time.monotonic()
        try:
            for planes in () if self._has_failed else self._planes.values():
                planes.fill()
            self._planes.clear()
            for size, columns in self._columns.items() if not self._has_failed else ():
                self._file[f"size={size}"].create_dataset("columns", data=columns, track_times=False)
        except BaseException:
            self._has_failed = True
            raise
        finally:
            with contextlib.suppress(OSError, RuntimeError) if self._has_failed else contextlib.nullcontext():
                self._file.close()
            written = os.fstat(self._descriptor).st_size
            os.close(self._descriptor)
        self.bytes_per_second = round(written / (self._seconds + time.monotonic() - started))

    def _add_planes(
        self, group: h5py.Group, name: str, shape: tuple[int, ...], dtype: np.dtype, fill: float
    ) -> None:
        options: dict[str, Any] = {}
        if dtype.kind in "iu" or is_rounded(name, self._precision):
            chunks = (*(1,) * (len(shape) - 2), *shape[-2:])
            options = {"fillvalue": fill, "chunks": chunks, **FILTERS}
        else:
            created = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
            created.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
            created.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
            options = {"dcpl": created}
        dataset = group.create_dataset(name, shape=shape, dtype=dtype, track_times=False, **options)
        kept = _Planes(dataset, self._descriptor, fill)
        self._planes[int(group.name.partition("=")[2]), name] = kept


class _Planes:
    """A dataset of planes while it is written."""

    def __init__(self, dataset: h5py.Dataset, descriptor: int, fill: float) -> None:
        self._dataset = dataset
        self._descriptor = descriptor
        self._start = dataset.id.get_offset()
        self._fill = fill
        self._is_written = np.zeros(dataset.shape[:-2], dtype=bool)

    def write(self, rows: np.ndarray, inner: tuple[int, ...], values: np.ndarray) -> None:
        """Write a plane of some rows: of a band, and a number in its set."""
        planes = np.ascontiguousarray(values, dtype=self._dataset.dtype)
        if planes.shape != (len(rows), *self._dataset.shape[-2:]):
            raise InternalError(f"{self._dataset.name} does not have {len(rows)} planes of {values.shape}.")
        which: Any = (rows, *inner)
        self._is_written[which] = True
        if self._dataset.chunks is not None:
            for row, stream in zip(rows.tolist(), compress(planes), strict=True):
                self._dataset.id.write_direct_chunk((row, *inner, 0, 0), stream)
            return
        view = memoryview(planes.reshape(-1).view(np.uint8))
        n_bytes = planes.nbytes // max(1, len(rows))
        per_row = math.prod(self._is_written.shape[1:])
        if per_row == 1:
            position = 0
            for row, n in runs(rows):
                write_all(
                    self._descriptor,
                    view[position : position + n * n_bytes],
                    self._start + row * n_bytes,
                )
                position += n * n_bytes
            return
        # Planes of other bands lie between: to bring them together first
        # would cost more than a call for each.
        first = np.ravel_multi_index((0, *inner), self._is_written.shape)
        places = (self._start + (rows * per_row + first) * n_bytes).tolist()
        for number, place in enumerate(places):
            write_all(self._descriptor, view[number * n_bytes : (number + 1) * n_bytes], place)

    def fill(self) -> None:
        """Write what was never written."""
        if self._dataset.chunks is None and self._fill == 0:
            # The system reads what was never written as zero.
            return
        plane = np.full(self._dataset.shape[-2:], self._fill, dtype=self._dataset.dtype)
        step = max(1, _FILL_BYTES // max(1, plane.nbytes))
        for inner in np.ndindex(*self._is_written.shape[1:]):
            rows = np.flatnonzero(~self._is_written[(slice(None), *inner)])
            for start in range(0, len(rows), step):
                part = rows[start : start + step]
                self.write(part, inner, np.broadcast_to(plane, (len(part), *plane.shape)))


def _terms(wcs: Wcs | None) -> dict[str, Any] | None:
    """Terms of a plain tangent plane; `None` for any other projection."""
    return dataclasses.asdict(wcs) if isinstance(wcs, TangentWcs) else None
