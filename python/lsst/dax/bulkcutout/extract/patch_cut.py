# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""All targets of one patch, out of all its images, into one file."""

from __future__ import annotations

import contextlib
import dataclasses
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from .. import tables
from ..boxes import Box, first_pixel
from ..cutout_dataset_writer import CutoutDatasetWriter
from ..errors import CorruptInputError, InternalError, UserError
from ..masks import mask_dtype, merge_mask_planes
from ..planes import BACKGROUND_STORED, EXTRA_PLANES
from ..precision import EXACT
from ..readers import ImageReader
from ..tables import NeighborInput
from ..target_table import read_targets
from .ahead import ahead
from .background_swap import BackgroundSwap
from .band_cut import BandCut, empty_columns
from .cut import BLOCK_BYTES
from .place import Place
from .psf_kernels import Kernels
from .scratch import Scratch
from .stitch import EVERYWHERE, Neighbor, find_shift

__all__ = ("NeighborImage", "PatchCut")

PLACE_TOLERANCE_PIXELS = 0.01
"""How far discovery and an image's own projection may differ."""

_NOWHERE = -(2.0**30)
"""A pixel that no image has."""

_COLUMNS = ("row", "ra", "dec", "size_pixels", "x", "y")


@dataclasses.dataclass(frozen=True)
class NeighborImage:
    """An image of another patch of the tract."""

    source: NeighborInput
    """Which one."""

    reader: ImageReader | None
    """The image; `None` if it is damaged."""

    corners: tuple[np.ndarray, np.ndarray] | None = None
    """Right ascensions and declinations of its corners, ICRS degrees, as the
    sky map has them; `None` if that is not known."""


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
        What to keep of `planes.PLANES`.
    memory_bytes
        Bound on the pixels that are held at a time.
    retry
        Runs something that storage can spoil, and runs it again if it does.
    neighbors
        Images of other patches, for cutouts that leave those of this one.
    background
        What is to be subtracted from the image plane, as the request says it.
    unusable
        Why images could not be used, a sentence for each.
    companions
        By the identifier of an image what belongs to it, in words of JSON.
    precision
        How exact float planes are, as the request says it.
    threads
        How many threads may work; the result does not depend on it.
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
        neighbors: Sequence[NeighborImage] = (),
        background: str = BACKGROUND_STORED,
        unusable: Sequence[str] = (),
        companions: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
        precision: str = EXACT,
        threads: int = 1,
    ) -> None:
        self._bands = bands
        self._inputs = inputs
        self._readers = readers
        self._planes = planes
        self._memory_bytes = memory_bytes
        self._retry = retry
        self._threads = threads
        self._scratch = Scratch()
        # The lowest patch comes first, in each band.
        self._neighbors = sorted(neighbors, key=lambda each: each.source)
        self.damage: list[str] = []
        """What was lost to damaged images, a sentence for each."""
        self.bytes_per_second = 0
        """How fast the cutout dataset was written."""
        self.counts: Counter[str] = Counter()
        """Number of targets by status, as the product will have them."""
        images = [readers[band] for band in bands if band in readers]
        images += [each.reader for each in self._neighbors if each.reader is not None]
        self._background = background
        self._precision = precision
        self._unusable = list(unusable)
        self._companions = companions
        self._swaps = {
            band: swap
            for band in bands
            if band in readers and (swap := self._swap(f"Band {band}", readers[band])) is not None
        }
        self._extra = {
            kind: sorted(
                {
                    name.partition("/")[2]
                    for image in images
                    for name in image.extra_planes
                    if name.startswith(f"{kind}/")
                },
                key=lambda name: (len(name), name) if kind == "noise" else (0, name),
            )
            for kind in EXTRA_PLANES
            if kind in planes
        }
        self._mask_planes = merge_mask_planes(image.mask_planes for image in images)
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
        # First of all, because it finds images that cannot be used.
        bands = {band: self._band_cut(band, swap) for band, swap in self._swaps.items()}
        writer = CutoutDatasetWriter(
            path,
            tract=tract,
            patch=patch,
            bands=self._bands,
            mask_planes=self._mask_planes,
            inputs=[self._inputs.get(band, "") for band in self._bands],
            backgrounds=[self._swaps[band].subtracted if band in self._swaps else "" for band in self._bands],
            units=[self._readers[band].unit if band in self._readers else "" for band in self._bands],
            psf_notes=[self._readers[band].psf_note if band in self._readers else "" for band in self._bands],
            wcs=[self._readers[band].wcs if band in self._readers else None for band in self._bands],
            neighbors=[each.source for each in self._neighbors],
            background=self._background,
            precision=self._precision,
            unusable=self._unusable,
            companions=self._companions,
            extra_planes=self._extra,
            extra_of_band=[
                [name for name in self._readers[band].extra_planes if name.partition("/")[0] in self._extra]
                if band in self._swaps
                else []
                for band in self._bands
            ],
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
                    self._write_targets(writer, bands, rows, size, written[size])
                    written[size] += rows.num_rows
        self.bytes_per_second = writer.bytes_per_second
        return sum(counts.values())

    def _write_targets(
        self,
        writer: CutoutDatasetWriter,
        bands: Mapping[str, BandCut],
        rows: pa.RecordBatch,
        size: int,
        offset: int,
    ) -> None:
        x, y = self._positions(rows)
        # Where every image is damaged there is no projection, and a distorted
        # one may not reach the target: a place then without any pixels.
        first_x = first_pixel(np.where(np.isnan(x), _NOWHERE, x), size)
        first_y = first_pixel(np.nan_to_num(y), size)
        where = slice(offset, offset + rows.num_rows)
        columns = {"row": rows.column("row").to_numpy(), "x": x, "y": y, "x0": first_x, "y0": first_y}
        for name, values in columns.items():
            writer.write(size, name, where, values)
        place = Place(x=x, y=y, first_x=first_x, first_y=first_y, size=size)
        good, failed = np.zeros((2, rows.num_rows), dtype=bool)
        for number, band in enumerate(self._bands):
            columns = empty_columns(rows.num_rows)
            if band not in bands:
                status = tables.BAND_READ_FAILED if band in self._inputs else tables.BAND_NO_DATASET
                columns["band_status"][:] = status
                self._write_no_kernels(writer, size, where, number)
            else:
                try:
                    lost = self._write_kernels(writer, bands[band], place, columns, offset, number)
                    for block in ahead(bands[band].cut(place, columns, lost), threads=self._threads):
                        if len(block.index):
                            writer.write_cutouts(size, block.index + offset, block.pixels, band=number)
                except CorruptInputError as error:
                    # What belongs to the whole image is damaged: its kernels.
                    self.damage.append(str(error))
                    columns = empty_columns(rows.num_rows)
                    columns["band_status"][:] = tables.BAND_READ_FAILED
                    self._write_no_kernels(writer, size, where, number)
            for name, values in columns.items():
                writer.write(size, name, where, values, band=number)
            good |= columns["band_status"] == tables.BAND_OK
            failed |= columns["band_status"] == tables.BAND_READ_FAILED
        self.counts[tables.DELIVERED] += int(good.sum())
        self.counts[tables.READ_FAILED] += int((failed & ~good).sum())
        self.counts[tables.NO_DATA] += int((~failed & ~good).sum())

    def _write_kernels(
        self,
        writer: CutoutDatasetWriter,
        band_cut: BandCut,
        place: Place,
        columns: dict[str, np.ndarray],
        offset: int,
        number: int,
    ) -> np.ndarray:
        """Write the PSF of one band; which targets' kernels are damaged."""
        lost = np.zeros(len(place.x), dtype=bool)
        for part, kernels in band_cut.kernels(place, columns, self._psf_shape):
            lost[part] = kernels.lost
            if "psf" in self._planes:
                self._write_chosen(
                    writer, place.size, offset + part.start, kernels.distinct, kernels.members, number
                )
        return lost

    def _write_chosen(
        self,
        writer: CutoutDatasetWriter,
        size: int,
        offset: int,
        distinct: np.ndarray,
        members: np.ndarray,
        number: int,
    ) -> None:
        """Write a kernel for each target; few at a time, so that they are in
        the processor's cache when they are written.
        """
        step = max(1, min(self._memory_bytes // 8, BLOCK_BYTES) // distinct[0].nbytes)
        for start in range(0, len(members), step):
            chosen = members[start : start + step]
            out = self._scratch.take("kernels", (len(chosen), *distinct.shape[1:]), distinct.dtype)
            np.take(distinct, chosen, axis=0, out=out, mode="clip")
            where = slice(offset + start, offset + start + len(chosen))
            writer.write(size, "psf", where, out, band=number)

    def _write_no_kernels(self, writer: CutoutDatasetWriter, size: int, where: slice, number: int) -> None:
        if "psf" not in self._planes:
            return
        nothing = Kernels.none(self._psf_shape, where.stop - where.start)
        self._write_chosen(writer, size, where.start, nothing.distinct, nothing.members, number)

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

    def _swap(self, what: str, image: ImageReader) -> BackgroundSwap | None:
        """What to do to the background of an image; `None` if it cannot be
        done.
        """
        try:
            swap: BackgroundSwap = self._retry(lambda: BackgroundSwap(image, self._background))
        except UserError as error:
            self._unusable.append(f"{what}: {error}")
        except CorruptInputError as error:
            self.damage.append(f"{what}: {error}")
        else:
            return swap
        return None

    def _band_cut(self, band: str, background: BackgroundSwap) -> BandCut:
        home = self._readers[band]
        neighbors = []
        for each in self._neighbors:
            if each.source.band != band:
                continue
            if each.reader is None:
                box = EVERYWHERE if each.corners is None else _box_of(home, *each.corners)
                neighbors.append(Neighbor(each.source.patch, None, box))
            elif (shift := find_shift(home, each.reader)) is None:
                self.damage.append(
                    f"Band {band}: the image of patch {each.source.patch} has other pixels than that of the "
                    "targets' own patch, and cannot complete cutouts."
                )
            elif each.reader.unit != home.unit:
                self.damage.append(
                    f"Band {band}: the image of patch {each.source.patch} is in {each.reader.unit}, not in "
                    f"{home.unit} as that of the targets' own patch, and cannot complete cutouts."
                )
            else:
                box = each.reader.bbox.shifted(-shift[0], -shift[1])
                swap = self._swap(f"Band {band}, patch {each.source.patch}", each.reader)
                reader = each.reader if swap is not None else None
                neighbors.append(Neighbor(each.source.patch, reader, box, shift, swap))
        return BandCut(
            band,
            home,
            neighbors,
            planes=self._planes,
            mask_planes=self._mask_planes,
            memory_bytes=self._memory_bytes,
            retry=self._retry,
            damage=self.damage,
            background=background,
            threads=self._threads,
            scratch=self._scratch,
        )


def _box_of(image: ImageReader, ra: np.ndarray, dec: np.ndarray) -> Box:
    """Pixels of an image's frame within corners on the sky."""
    x, y = image.wcs.sky_to_pixel(ra, dec)
    # Regions go to the outer edges of pixels.
    low_y, low_x = (int(np.floor(v.min() + 0.5 + PLACE_TOLERANCE_PIXELS)) for v in (y, x))
    high_y, high_x = (int(np.ceil(v.max() + 0.5 - PLACE_TOLERANCE_PIXELS)) for v in (y, x))
    return Box(y0=low_y, y1=high_y, x0=low_x, x1=high_x)
