# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""All targets of one patch, out of all its images, into one file."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from . import tables
from .boxes import first_pixel
from .cutout_dataset import BAND_COLUMNS, CutoutDatasetWriter
from .errors import CorruptInputError, InternalError
from .extract import CutBlock, cut, psf_fwhm
from .masks import NO_DATA, mask_dtype, merge_mask_planes, reencode_mask
from .readers import ImageReader
from .target_table import read_targets

__all__ = ("PatchCut",)

PLACE_TOLERANCE_PIXELS = 0.01
"""How far discovery and an image's own projection may differ."""

_COLUMNS = ("row", "ra", "dec", "size_pixels", "x", "y")
_PIXEL_BYTES_IN_BLOCKS = 40
"""Bytes for each pixel of a block of cutouts: its planes, what is worked out
from them, and the block before it."""


class PatchCut:
    """Cuts the targets of one patch, one band after another.

    Parameters
    ----------
    bands
        Band axis.
    inputs
        Identifier of the input dataset by band, also of damaged ones.
    readers
        Images that could be opened, by band.
    planes
        What to keep: image, variance, mask, psf.
    memory_bytes
        Bound on the pixels that are held at a time.
    retry
        Runs something that storage can spoil, and runs it again if it does.
    """

    def __init__(
        self,
        bands: Sequence[str],
        inputs: Mapping[str, str],
        readers: Mapping[str, ImageReader],
        *,
        planes: Sequence[str],
        memory_bytes: int,
        retry: Callable[[Callable[[], Any]], Any],
    ) -> None:
        self._bands = bands
        self._inputs = inputs
        self._readers = readers
        self._planes = planes
        self._memory_bytes = memory_bytes
        self._retry = retry
        self.damage: list[str] = []
        """What was lost to damaged images, a sentence for each."""
        self._mask_planes = merge_mask_planes(readers[band].mask_planes for band in bands if band in readers)
        shapes = [reader.psf_shape for reader in readers.values() if reader.has_psf]
        self._psf_shape = (max(s[0] for s in shapes), max(s[1] for s in shapes)) if shapes else (1, 1)
        self._wcs = next((readers[band].wcs for band in bands if band in readers), None)

    def write(self, path: Path, targets: Path, *, tract: int, patch: int) -> int:
        """Write the cutout dataset.

        Parameters
        ----------
        path
            File to write.
        targets
            Target file of the tract.
        tract, patch
            The patch.

        Returns
        -------
        rows
            Number of targets.

        Raises
        ------
        InternalError
            Raised if an image's projection contradicts discovery.
        """
        counts: Counter[int] = Counter()
        for batch in read_targets(targets, patch, columns=["size_pixels"]):
            for value in pc.value_counts(batch.column("size_pixels")):
                counts[value["values"].as_py()] += value["counts"].as_py()
        nothing = float("nan")
        wcs = {
            "crval": self._wcs.crval if self._wcs else (nothing, nothing),
            "crpix": self._wcs.crpix if self._wcs else (nothing, nothing),
            "cd": self._wcs.cd if self._wcs else ((nothing, nothing), (nothing, nothing)),
        }
        writer = CutoutDatasetWriter(
            path,
            tract=tract,
            patch=patch,
            bands=self._bands,
            mask_planes=self._mask_planes,
            inputs=[self._inputs.get(band, "") for band in self._bands],
            backgrounds=[
                self._readers[band].background or "" if band in self._readers else "" for band in self._bands
            ],
            wcs=wcs,
        )
        with contextlib.closing(writer):
            types = {
                "image": np.dtype("f4"),
                "variance": np.dtype("f4"),
                "mask": mask_dtype(self._mask_planes),
            }
            kept = {name: dtype for name, dtype in types.items() if name in self._planes}
            for size, n in sorted(counts.items()):
                writer.add_size(
                    size, n, planes=kept, psf_shape=self._psf_shape if "psf" in self._planes else None
                )
            written: Counter[int] = Counter()
            for batch in read_targets(targets, patch, columns=_COLUMNS):
                sizes = batch.column("size_pixels").to_numpy()
                for size in np.unique(sizes).tolist():
                    rows = batch.filter(pa.array(sizes == size))
                    self._write_targets(writer, rows, size, written[size])
                    written[size] += rows.num_rows
        return sum(counts.values())

    def _write_targets(
        self, writer: CutoutDatasetWriter, rows: pa.RecordBatch, size: int, offset: int
    ) -> None:
        x, y = self._positions(rows)
        # Where every image is damaged there is no projection: the place does
        # not matter then, for there is nothing to cut.
        first_x, first_y = first_pixel(np.nan_to_num(x), size), first_pixel(np.nan_to_num(y), size)
        where = slice(offset, offset + rows.num_rows)
        columns = {"row": rows.column("row").to_numpy(), "x": x, "y": y, "x0": first_x, "y0": first_y}
        for name, values in columns.items():
            writer.write(size, name, where, values)
        for number, band in enumerate(self._bands):
            columns, kernels = self._empty_band(rows.num_rows), _Kernels.none(self._psf_shape, rows.num_rows)
            if band not in self._inputs:
                columns["band_status"][:] = tables.BAND_NO_DATASET
            elif (reader := self._readers.get(band)) is None:
                columns["band_status"][:] = tables.BAND_READ_FAILED
            else:
                place = _Place(x=x, y=y, first_x=first_x, first_y=first_y, size=size)
                try:
                    kernels = self._fill_psf(reader, place, columns)
                    lost = kernels.lost
                    for block in self._cut_band(band, reader, place, columns, lost):
                        for plane, pixels in block.pixels.items():
                            if plane in self._planes:
                                writer.write(size, plane, block.index + offset, pixels, band=number)
                except CorruptInputError as error:
                    # What belongs to the whole image is damaged: its kernels.
                    self.damage.append(str(error))
                    columns = self._empty_band(rows.num_rows)
                    kernels = _Kernels.none(self._psf_shape, rows.num_rows)
                    columns["band_status"][:] = tables.BAND_READ_FAILED
            for name, values in columns.items():
                writer.write(size, name, where, values, band=number)
            if "psf" in self._planes:
                step = max(1, self._memory_bytes // 8 // kernels.distinct[0].nbytes)
                for start in range(0, rows.num_rows, step):
                    values = kernels.distinct[kernels.members[start : start + step]]
                    part = slice(offset + start, offset + start + len(values))
                    writer.write(size, "psf", part, values, band=number)

    def _positions(self, rows: pa.RecordBatch) -> tuple[np.ndarray, np.ndarray]:
        x, y = rows.column("x").to_numpy(), rows.column("y").to_numpy()
        if self._wcs is None:
            return x, y
        ra, dec = rows.column("ra").to_numpy(), rows.column("dec").to_numpy()
        own_x, own_y = self._wcs.sky_to_pixel(ra, dec)
        others = [("the sky map's formula", (x, y))]
        others += [
            (f"that of the image in {band}", reader.wcs.sky_to_pixel(ra, dec))
            for band, reader in self._readers.items()
            if reader.wcs != self._wcs
        ]
        for what, (other_x, other_y) in others:
            with np.errstate(invalid="ignore"):
                wrong = np.hypot(own_x - other_x, own_y - other_y) > PLACE_TOLERANCE_PIXELS
            if wrong.any():
                first = int(np.argmax(wrong))
                raise InternalError(
                    f"{wrong.sum()} targets are elsewhere by the image's own projection than by {what}; the "
                    f"first is row {rows.column('row')[first]}: ({own_x[first]:.3f}, {own_y[first]:.3f}) and "
                    f"({other_x[first]:.3f}, {other_y[first]:.3f}) px."
                )
        return own_x, own_y

    @staticmethod
    def _empty_band(n: int) -> dict[str, np.ndarray]:
        """Columns of a band that nothing is known of yet."""
        columns: dict[str, np.ndarray] = {name: np.zeros(n, dtype) for name, dtype in BAND_COLUMNS.items()}
        columns["psf_fwhm"][:] = np.nan
        columns["psf_cell"] = np.full((n, 2), -1, dtype="i4")
        columns["inexact_psf_fraction"][:] = np.nan
        return columns

    def _cut_band(
        self,
        band: str,
        reader: ImageReader,
        place: _Place,
        columns: dict[str, np.ndarray],
        lost: np.ndarray,
    ) -> Iterator[CutBlock]:
        """Cut one band; fills what the pixels tell into the columns.

        What is lost of a target already is lost whole.
        """
        # The file's own table, with a bit for NO_DATA where it has none.
        planes = merge_mask_planes([reader.mask_planes])
        bits = {plane.name: 1 << plane.bit for plane in planes}
        fill: dict[str, np.generic] = {
            "image": np.float32(np.nan),
            "mask": mask_dtype(planes).type(bits[NO_DATA]),
        }
        if "variance" in self._planes:
            fill["variance"] = np.float32(np.nan)
        for block in cut(
            reader,
            first_y=place.first_y,
            first_x=place.first_x,
            size=place.size,
            fill=fill,
            memory_bytes=self._memory_bytes,
            block_bytes=4 * (self._memory_bytes // (2 * _PIXEL_BYTES_IN_BLOCKS)),
            retry=self._retry,
        ):
            index, mask = block.index, block.pixels["mask"]
            for plane, pixels in block.pixels.items():
                pixels[lost[index]] = fill[plane]
            valid = np.isfinite(block.pixels["image"]) & ((mask & bits[NO_DATA]) == 0)
            columns["valid_fraction"][index] = valid.mean(axis=(1, 2))
            own_y, own_x = place.own_pixel(index)
            columns["center_valid"][index] = valid[np.arange(len(index)), own_y, own_x]
            inexact = (mask & bits.get("INEXACT_PSF", 0)) != 0
            columns["inexact_psf_fraction"][index] = inexact.mean(axis=(1, 2))
            status = np.where(valid.any(axis=(1, 2)), tables.BAND_OK, tables.BAND_NO_DATA)
            damaged = block.damaged | lost[index]
            columns["band_status"][index] = np.where(damaged, tables.BAND_READ_FAILED, status)
            if damaged.any():
                self.damage.append(f"Band {band}: {damaged.sum()} cutouts lie on damaged tiles or cells.")
            block.pixels["mask"] = reencode_mask(mask, planes, self._mask_planes)
            yield block

    def _fill_psf(self, reader: ImageReader, place: _Place, columns: dict[str, np.ndarray]) -> _Kernels:
        """Find kernels; fills what they and the cells tell."""
        if not reader.has_psf:
            return _Kernels.none(self._psf_shape, len(place.x))
        own_y, own_x = place.own_pixel()
        cells = reader.cell_of(place.first_y + own_y, place.first_x + own_x)
        distinct, members = np.unique(cells, axis=0, return_inverse=True)
        members = members.reshape(-1)
        found, damaged = self._read_kernels(reader, distinct)
        ky, kx = found.shape[1:]
        # Smaller kernels of other bands keep their centre at [ky//2, kx//2].
        y0, x0 = self._psf_shape[0] // 2 - ky // 2, self._psf_shape[1] // 2 - kx // 2
        usable = np.isfinite(found).all(axis=(1, 2))
        padded = np.zeros((len(found), *self._psf_shape), dtype=np.float32)
        padded[:, y0 : y0 + ky, x0 : x0 + kx] = found
        padded[~usable] = np.nan
        columns["psf_valid"][:] = usable[members]
        columns["psf_cell"][:] = np.where(usable[members, None], cells, -1)
        columns["psf_fwhm"][:] = psf_fwhm(found, reader.wcs.pixel_scale_arcsec)[members]
        columns["n_cells"][:] = place.count_cells(reader)
        return _Kernels(padded, members, damaged[members])

    def _read_kernels(self, reader: ImageReader, cells: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Kernels of cells, shape ``(n, ky, kx)``, and which are damaged."""
        damaged = np.zeros(len(cells), dtype=bool)
        with contextlib.suppress(CorruptInputError):
            return self._retry(lambda: reader.psf_kernels(cells)), damaged
        kernels = np.full((len(cells), *reader.psf_shape), np.nan, dtype=np.float32)
        for number, cell in enumerate(cells):
            try:
                kernels[number] = self._retry(functools.partial(reader.psf_kernels, cell[np.newaxis]))[0]
            except CorruptInputError:
                damaged[number] = True
        return kernels, damaged


@dataclasses.dataclass(frozen=True)
class _Kernels:
    """PSF kernels of some targets."""

    distinct: np.ndarray
    """Kernels of the cells, shape ``(n_cells, ky, kx)``; NaN where there is
    none."""

    members: np.ndarray
    """Which of them is each target's, shape ``(n,)``."""

    lost: np.ndarray
    """Whose kernel is damaged, shape ``(n,)``."""

    @classmethod
    def none(cls, shape: tuple[int, int], n: int) -> _Kernels:
        """No kernels for so many targets."""
        nothing = np.full((1, *shape), np.nan, dtype=np.float32)
        return cls(nothing, np.zeros(n, dtype=np.intp), np.zeros(n, dtype=bool))


@dataclasses.dataclass(frozen=True)
class _Place:
    """Where the cutouts of some targets are, tract pixels."""

    x: np.ndarray
    y: np.ndarray
    first_x: np.ndarray
    first_y: np.ndarray
    size: int

    def own_pixel(self, index: np.ndarray | slice = slice(None)) -> tuple[np.ndarray, np.ndarray]:
        """The target's own pixel (y, x) in its cutout."""

        def own(position: np.ndarray, first: np.ndarray) -> Any:
            nearest = np.floor(np.nan_to_num(position) + 0.5).astype(np.int64) - first
            # A cutout of one pixel can have its target on the pixel's border.
            return np.clip(nearest, 0, self.size - 1)

        return own(self.y[index], self.first_y[index]), own(self.x[index], self.first_x[index])

    def count_cells(self, reader: ImageReader) -> np.ndarray:
        """Number of cells with data that each cutout touches."""
        present = np.ones(reader.n_cells, dtype=np.int64)
        for cell in reader.missing_cells:
            present[cell] = 0
        sums = np.pad(present.cumsum(axis=0).cumsum(axis=1), ((1, 0), (1, 0)))
        box, last = reader.bbox, self.size - 1
        low_y, low_x = np.maximum(self.first_y, box.y0), np.maximum(self.first_x, box.x0)
        high_y = np.minimum(self.first_y + last, box.y1 - 1)
        high_x = np.minimum(self.first_x + last, box.x1 - 1)
        touches = (low_y <= high_y) & (low_x <= high_x)
        counts = np.zeros(len(touches), dtype=np.int64)
        y0, x0 = reader.cell_of(low_y[touches], low_x[touches]).T
        y1, x1 = reader.cell_of(high_y[touches], high_x[touches]).T + 1
        counts[touches] = sums[y1, x1] - sums[y0, x1] - sums[y1, x0] + sums[y0, x0]
        return counts
