# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Product files in HDF5: the writer (`hdf5_reader` reads them).

A file's bytes follow from its contents alone: no times, a fixed version of
the HDF5 format, datasets created in a fixed order, and space given to them
before the first row comes, so that neither the size of the blocks nor their
order matters.

Pixels are written past HDF5, to the places that it has given them: as they
are, or as chunks that are compressed already. Those that come from a file of
the same layout are moved without being looked at.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import math
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import h5py
import numpy as np
import pyarrow as pa

from ..errors import InternalError, TransientError, UserError
from ..pixel_chunks import FILTERS, compress
from ..planes import EXTRA_PLANES
from ..stored_rows import ChunkRows, FloatRows, write_all
from . import part_path
from .healpix import nested_pixel
from .layout import Column, ProductLayout, is_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

__all__ = ("HDF5Writer",)

_TEXT_CHUNK_BYTES = 1 << 18
"""Text is padded to its longest value, so it is stored compressed, in chunks
of about this size."""


class HDF5Writer:
    """Writes one product file; the file has its name only once it is whole.

    Parameters
    ----------
    path
        File to write; its directory is made if need be.
    layout
        What the file holds.
    n_rows
        Number of rows, which may be zero.

    Raises
    ------
    TransientError
        Raised if the disk takes no more.
    UserError
        Raised if writing is not allowed there.

    Notes
    -----
    Text columns are kept in memory until the end, because their longest value
    must be known before space is given to them; all else goes to disk.
    """

    def __init__(self, path: str | os.PathLike[str], layout: ProductLayout, n_rows: int) -> None:
        self._path = Path(path)
        self._part = part_path(self._path)
        self._layout = layout
        self._n_rows = n_rows
        self._written = {path: 0 for path in layout.columns if not _is_derived(path)}
        self._text: dict[str, list[str]] = {
            path: []
            for path, column in layout.columns.items()
            if column.dtype is None and path in self._written
        }
        # Kept open: a dataset that is opened anew has the default chunk cache.
        self._datasets: dict[str, h5py.Dataset] = {}
        self._file: h5py.File | None = None
        self._descriptor = -1
        with self._disk_errors():
            self._path.parent.mkdir(parents=True, exist_ok=True)
            # This version is the oldest with compact chunk indices; every
            # HDF5 library since 2016 reads it.
            self._file = h5py.File(self._part, "w", libver=("v110", "v110"), track_order=False)
            self._descriptor = os.open(self._part, os.O_RDWR)
            self._create_file()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, exc_type: type[BaseException] | None, *exc_info: object) -> None:
        if exc_type is None:
            self.close()
        else:
            self._abandon()

    def write(self, start: int, columns: Mapping[str, Any]) -> None:
        """Write consecutive rows.

        Parameters
        ----------
        start
            Row of the file where the block begins.  Each dataset must get all
            its rows in order; different datasets need not go in step.
        columns
            Arrays by path (``catalog/row``, ``images/flux``, ...; keys of
            `ProductLayout.columns`), the first axis the row.  Text and carried
            columns may be Arrow arrays, whose nulls go to ``carried_null``,
            and pixels rows of another file (`FloatRows`, `ChunkRows`).
            ``images/band``, ``catalog/healpix`` and ``carried_null`` are not
            to be given; ``catalog/ra`` and ``catalog/dec`` go together.

        Raises
        ------
        InternalError
            Raised if rows or datasets are not those of the layout, or if one
            that is compressed comes before the one before it is whole.
        TransientError
            Raised if the disk takes no more.
        """
        for path, values in columns.items():
            if path not in self._written:
                raise InternalError(f"{self._path.name} has no place for a dataset {path}.")
            stop = start + len(values)
            if start != self._written[path] or stop > self._n_rows:
                raise InternalError(
                    f"{self._path.name}: rows {start} to {stop} of {path} do not follow on the"
                    f" {self._written[path]} rows written of {self._n_rows}."
                )
            with self._disk_errors():
                self._write_rows(self._layout.columns[path], start, values)
            self._written[path] = stop
        if "catalog/ra" in columns:
            pixels = nested_pixel(columns["catalog/ra"], columns["catalog/dec"], self._layout.healpix_order)
            with self._disk_errors():
                self._write_array("catalog/healpix", start, pixels.astype("<i8", copy=False))

    def close(self) -> None:
        """Finish the file and give it its name.

        Raises
        ------
        InternalError
            Raised if rows are missing; no file is left then.
        TransientError
            Raised if the disk takes no more; no file is left then.
        """
        missing = sorted(path for path, count in self._written.items() if count != self._n_rows)
        if missing:
            self._abandon()
            raise InternalError(f"{self._path.name} lacks some of its {self._n_rows} rows of {missing}.")
        assert self._file is not None
        with self._disk_errors():
            for path, texts in self._text.items():
                self._create_text(self._layout.columns[path], texts)
            self._datasets.clear()
            self._file.close()
            os.fsync(self._descriptor)
            self._close_descriptor()
            os.replace(self._part, self._path)

    def _create_file(self) -> None:
        assert self._file is not None
        for name in ("meta", "catalog", "carried", "carried_null", "images", "wcs", "provenance"):
            self._file.create_group(name, track_times=False)
        for name, value in self._layout.meta.items():
            self._create_constant(f"meta/{name}", value)
        if "mask" in self._layout.planes:
            planes = self._layout.mask_planes
            self._create_constant("meta/mask_planes/name", [plane.name for plane in planes])
            self._create_constant("meta/mask_planes/bit", np.array([plane.bit for plane in planes], "<i4"))
            self._create_constant("meta/mask_planes/description", [plane.description for plane in planes])
        patches = self._layout.provenance
        self._create_constant("provenance/tract", np.array([patch.tract for patch in patches], "<i4"))
        self._create_constant("provenance/patch", np.array([patch.patch for patch in patches], "<i4"))
        self._create_constant(
            "provenance/companions", np.array([patch.companions for patch in patches], dtype=str)
        )
        shape = (len(patches), len(self._layout.bands))
        for name, texts in (
            ("dataset_uuid", [patch.dataset_uuids for patch in patches]),
            ("background", [patch.backgrounds for patch in patches]),
            ("unit", [patch.units or ("nJy",) * shape[1] for patch in patches]),
            ("psf_note", [patch.psf_notes or ("",) * shape[1] for patch in patches]),
            ("wcs", [patch.wcs or ("",) * shape[1] for patch in patches]),
        ):
            self._create_constant(f"provenance/{name}", np.array(texts, dtype=str).reshape(shape))
        if set(EXTRA_PLANES) & set(self._layout.planes):
            extra = [
                [",".join(names) for names in patch.extra_planes or ((),) * shape[1]] for patch in patches
            ]
            self._create_constant("provenance/extra_planes", np.array(extra, dtype=str).reshape(shape))
        self._create_neighbors()
        self._file["wcs"].attrs["ctype"] = ["RA---TAN", "DEC--TAN"]
        self._file["wcs"].attrs["radesys"] = "ICRS"
        for column in self._layout.columns.values():
            if column.path not in self._text:
                self._create_column(column)

    def _create_neighbors(self) -> None:
        """Write which images of other patches may have given pixels."""
        table = [(patch, each) for patch in self._layout.provenance for each in patch.neighbors]
        for name, numbers in (
            ("tract", [patch.tract for patch, _ in table]),
            ("patch", [patch.patch for patch, _ in table]),
            ("neighbor", [each.patch for _, each in table]),
        ):
            self._create_constant(f"provenance/neighbors/{name}", np.array(numbers, "<i4"))
        for name, texts in (
            ("band", [each.band for _, each in table]),
            ("dataset_uuid", [each.dataset_id for _, each in table]),
        ):
            self._create_constant(f"provenance/neighbors/{name}", np.array(texts, dtype=str))

    def _create_constant(self, path: str, value: Any) -> None:
        assert self._file is not None
        data = np.asarray(value)
        dtype = data.dtype
        if dtype.kind == "U" or data.size == 0 and dtype.kind == "f":
            data = _encode(data)
            dtype = _text_dtype(data)
        group, _, name = path.rpartition("/")
        self._file.require_group(group).create_dataset(
            name, data=data.astype(dtype), dtype=dtype, track_times=False
        )

    def _create_column(self, column: Column) -> None:
        assert self._file is not None
        shape = (self._n_rows, *column.shape)
        if column.path == "images/band":
            self._create_constant(column.path, np.broadcast_to(np.array(self._layout.bands), shape))
            self._describe(self._file[column.path], column)
            return
        settings: dict[str, Any] = {}
        if column.is_compressed and self._n_rows:
            # A cutout of a band is a chunk, as in the quanta's outputs.
            settings = {"chunks": (*(1,) * (len(shape) - 2), *shape[-2:]), **FILTERS}
        else:
            created = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
            created.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
            created.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
            settings = {"dcpl": created}
        dataset = self._file.create_dataset(column.path, shape, column.dtype, track_times=False, **settings)
        self._describe(dataset, column)
        self._datasets[column.path] = dataset

    def _create_text(self, column: Column, texts: list[str]) -> None:
        assert self._file is not None
        data = _encode(np.array(texts, dtype=str))
        settings: dict[str, Any] = {}
        if texts:
            rows = min(len(texts), max(1, _TEXT_CHUNK_BYTES // data.itemsize))
            settings = {"chunks": (rows,), "rdcc_nbytes": 0, **FILTERS}
        dtype = _text_dtype(data)
        dataset = self._file.create_dataset(
            column.path, data=data.astype(dtype), dtype=dtype, track_times=False, **settings
        )
        self._describe(dataset, column)

    def _describe(self, dataset: h5py.Dataset, column: Column) -> None:
        dataset.attrs["unit"] = column.unit
        dataset.attrs["description"] = column.description

    def _write_rows(self, column: Column, start: int, values: Any) -> None:
        if column.path.startswith("carried/"):
            values, null = _without_nulls(values)
            self._write_array(f"carried_null/{column.path[8:]}", start, null)
        if column.dtype is None:
            self._text[column.path] += (
                values.to_pylist() if hasattr(values, "to_pylist") else map(str, values)
            )
            return
        if not isinstance(values, FloatRows | ChunkRows):
            values = np.asarray(values)
        if values.shape[1:] != column.shape:
            raise InternalError(
                f"{self._path.name}: a row of {column.path} is {column.shape}, not {values.shape[1:]}."
            )
        dataset = self._datasets[column.path]
        if isinstance(values, FloatRows) and values.dtype == column.dtype and dataset.chunks is None:
            values.copy_to(self._descriptor, self._place(column.path, start))
        elif isinstance(values, ChunkRows) and self._takes_chunks(dataset, values):
            self._write_chunks(dataset, start, values.streams())
        else:
            self._write_array(column.path, start, self._as_stored(column, np.asarray(values)))

    def _as_stored(self, column: Column, given: np.ndarray) -> np.ndarray:
        array = given.astype(column.dtype, copy=False)
        if array.dtype != given.dtype and array.dtype.kind in "iub" and not np.array_equal(array, given):
            raise InternalError(f"{self._path.name}: values of {column.path} do not fit {column.dtype}.")
        return array

    def _write_array(self, path: str, start: int, values: np.ndarray) -> None:
        dataset = self._datasets[path]
        if not values.size:
            return
        if dataset.chunks is not None:
            self._write_chunks(dataset, start, compress(values.reshape(-1, *values.shape[-2:])))
        else:
            view = memoryview(np.ascontiguousarray(values).reshape(-1).view(np.uint8))
            write_all(self._descriptor, view, self._place(path, start))

    def _write_chunks(self, dataset: h5py.Dataset, start: int, streams: Iterable[bytes | memoryview]) -> None:
        # They lie in the file as they come, so their order is seen in it.
        for column in self._layout.columns.values():
            if f"/{column.path}" == dataset.name:
                break
            if column.is_compressed and self._written[column.path] < self._n_rows:
                raise InternalError(
                    f"{self._path.name}: {dataset.name[1:]} comes before {column.path} is whole."
                )
        shape = dataset.shape[1:-2]
        places = ((row, *inner) for row in itertools.count(start) for inner in np.ndindex(*shape))
        # The streams are the shorter ones.
        for stream, place in zip(streams, places, strict=False):
            dataset.id.write_direct_chunk((*place, 0, 0), stream)

    def _takes_chunks(self, dataset: h5py.Dataset, rows: ChunkRows) -> bool:
        return rows.chunks == dataset.chunks and rows.dtype == dataset.dtype and rows.is_whole

    def _place(self, path: str, row: int) -> int:
        """Where the first byte of a row lies in the file."""
        column = self._layout.columns[path]
        assert column.dtype is not None
        start: int = self._datasets[path].id.get_offset() or 0
        return start + row * math.prod(column.shape) * column.dtype.itemsize

    def _abandon(self) -> None:
        # On a full disk closing fails for the same reason as writing.
        self._datasets.clear()
        with contextlib.suppress(OSError, RuntimeError):
            if self._file is not None:
                self._file.close()
        with contextlib.suppress(OSError):
            self._close_descriptor()
        with contextlib.suppress(OSError):
            self._part.unlink()

    def _close_descriptor(self) -> None:
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            os.close(descriptor)

    @contextlib.contextmanager
    def _disk_errors(self) -> Iterator[None]:
        try:
            yield
        except (OSError, RuntimeError) as error:
            self._abandon()
            number = _errno_of(error)
            if number is None and not isinstance(error, OSError):
                raise
            if number in _NOT_ALLOWED:
                raise UserError(
                    f"Cannot write {self._path}: {error}. Choose an output that can be."
                ) from error
            raise TransientError(
                f"Cannot write {self._path}: {error}. See to the space there and try again."
            ) from error


def _errno_of(error: OSError | RuntimeError) -> int | None:
    """Number of an error of the disk; h5py gives some only in its text."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    found = re.search(r"\berrno = ([0-9]+)", str(error))
    return int(found[1]) if found else None


_NOT_ALLOWED = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST)


def _is_derived(path: str) -> bool:
    return path in ("images/band", "catalog/healpix") or path.startswith("carried_null/")


def _without_nulls(values: Any) -> tuple[pa.Array, np.ndarray]:
    array = values if isinstance(values, pa.Array | pa.ChunkedArray) else pa.array(values)
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks()
    null = array.is_null().to_numpy(zero_copy_only=False)
    if is_text(array.type):
        return array.fill_null(""), null
    filler = float("nan") if pa.types.is_floating(array.type) else 0
    filled = array.fill_null(pa.scalar(filler).cast(array.type))
    return filled.to_numpy(zero_copy_only=False), null


def _encode(texts: np.ndarray) -> np.ndarray:
    return np.strings.encode(texts.astype(str), "utf-8")


def _text_dtype(encoded: np.ndarray) -> np.dtype:
    dtype: np.dtype = h5py.string_dtype("utf-8", max(1, encoded.dtype.itemsize))
    return dtype
