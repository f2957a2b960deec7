# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""All targets of one patch, out of its images of one band."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from .. import tables
from ..boxes import Box
from ..cutout_dataset import BAND_COLUMNS
from ..masks import NO_DATA, mask_dtype, merge_mask_planes, reencode_mask
from ..readers import ImageReader
from ..tables import MaskPlane
from .background_swap import BackgroundSwap
from .cut import BLOCK_BYTES, CutBlock, cut, join
from .place import Place
from .psf_kernels import Kernels, find_kernels
from .scratch import Scratch
from .stitch import Neighbor, stitch

__all__ = ("BandCut", "empty_columns")

_PIXEL_BYTES_IN_BLOCKS = 40
"""Bytes for each pixel of a block of cutouts: its planes, and those of the
blocks that it is made of."""

_PIXEL_BYTES_OF_EXTRA_PLANE = 8
"""The same for each plane of noise and mask fractions."""


class BandCut:
    """Cuts targets out of the images of one band.

    Parameters
    ----------
    band
        Name of the band, for messages.
    home
        The patch's own image.
    neighbors
        Images of other patches, the first one first, for cutouts that leave
        the home image.
    planes
        What to keep of `planes.PLANES`.
    mask_planes
        Table of the mask bits that is wanted; it has all planes of all
        images.
    memory_bytes
        Bound on the pixels that are held at a time.
    retry
        Runs something that storage can spoil, and runs it again if it does.
    damage
        What is lost to damaged images is added here, a sentence for each.
    background
        What is done to the background of the home image.
    threads
        How many threads may work.
    scratch
        Memory to use.
    """

    def __init__(
        self,
        band: str,
        home: ImageReader,
        neighbors: Sequence[Neighbor] = (),
        *,
        planes: Sequence[str],
        mask_planes: Sequence[MaskPlane],
        memory_bytes: int,
        retry: Callable[[Callable[[], Any]], Any],
        damage: list[str],
        background: BackgroundSwap | None = None,
        threads: int = 1,
        scratch: Scratch | None = None,
    ) -> None:
        self._band = band
        self._home = home
        self._neighbors = neighbors
        self._planes = planes
        self._mask_planes = mask_planes
        self._memory_bytes = memory_bytes
        self._retry = retry
        self._damage = damage
        self._background = background
        self._threads = threads
        self._scratch = scratch or Scratch()
        images = [home, *(each.reader for each in neighbors if each.reader is not None)]
        self._extra = tuple(
            dict.fromkeys(
                name for image in images for name in image.extra_planes if name.partition("/")[0] in planes
            )
        )
        pixel_bytes = _PIXEL_BYTES_IN_BLOCKS + _PIXEL_BYTES_OF_EXTRA_PLANE * len(self._extra)
        # Bound on the pixels of one plane of a block.
        self._plane_bytes = 4 * (memory_bytes // (2 * pixel_bytes))
        self._wanted = self._fill(mask_planes)

    def cut(self, place: Place, columns: dict[str, np.ndarray], lost: np.ndarray) -> Iterator[CutBlock]:
        """Cut pixels; fills what they tell into the columns.

        Parameters
        ----------
        place
            Where the cutouts are.
        columns
            Columns of the band, from `empty_columns`.
        lost
            Targets of which something is damaged, shape ``(n,)``: they are
            lost whole.

        Yields
        ------
        block
            Completed cutouts, perhaps none, the mask in the bits that are
            wanted.  As for `cut`, use its pixels before the next block is
            asked for.
        """
        leaving = ~place.inside(self._home.bbox) if self._neighbors else np.zeros(len(lost), dtype=bool)
        n_damaged = 0
        for block in self._home_blocks(place, leaving):
            index = block.index
            found = stitch(
                dataclasses.replace(block, damaged=block.damaged | lost[index]),
                first_y=place.first_y[index],
                first_x=place.first_x[index],
                home=self._home.bbox,
                neighbors=self._neighbors if leaving[index].any() else (),
                cut_neighbor=functools.partial(self._cut_neighbor, place.size),
                fill=self._wanted,
            )
            some_valid = self._count(block, place, columns)
            columns["n_patches"][index] = found.n_patches
            columns["stitched"][index] = found.stitched
            status = np.where(some_valid, tables.BAND_OK, tables.BAND_NO_DATA)
            columns["band_status"][index] = np.where(found.damaged, tables.BAND_READ_FAILED, status)
            n_damaged += int(found.damaged.sum())
            yield dataclasses.replace(block, damaged=found.damaged)
        if n_damaged:
            self._damage.append(f"Band {self._band}: {n_damaged} cutouts lie on damaged tiles or cells.")

    def kernels(
        self, place: Place, columns: dict[str, np.ndarray], shape: tuple[int, int]
    ) -> Iterator[tuple[slice, Kernels]]:
        """Find PSF kernels of the home image.

        Parameters
        ----------
        place, columns, shape
            See `find_kernels`.

        Returns
        -------
        parts
            As `find_kernels` gives them.
        """
        most = max(1, self._memory_bytes // 8 // (4 * shape[0] * shape[1]))
        return find_kernels(self._home, place, columns, shape, most=most, retry=self._retry)

    def _home_blocks(self, place: Place, leaving: np.ndarray) -> Iterator[CutBlock]:
        """Cut the home image; cutouts that leave it come many together,
        because they have tiles of the neighbours in common.
        """
        at_once = max(1, self._plane_bytes // (4 * place.size**2))
        waiting: list[CutBlock] = []
        for block in self._cut_image(
            self._home, self._background, place.first_y, place.first_x, place.size, scratch=self._scratch
        ):
            if not (leaves := leaving[block.index]).any():
                yield block
                continue
            waiting.append(block.part(leaves))
            # Though there may be none: for each block one, at least, because
            # its turn in the memory of blocks comes again.
            yield block.part(~leaves)
            if sum(len(each.index) for each in waiting) >= at_once:
                yield join(waiting)
                waiting.clear()
        if waiting:
            yield join(waiting)

    def _cut_neighbor(
        self, size: int, neighbor: Neighbor, first_y: np.ndarray, first_x: np.ndarray, clips: Sequence[Box]
    ) -> Iterator[CutBlock]:
        assert neighbor.reader is not None
        y, x = neighbor.shift
        moved = [clip.shifted(y, x) for clip in clips]
        return self._cut_image(
            neighbor.reader,
            neighbor.background,
            first_y + y,
            first_x + x,
            size,
            moved,
            scratch=self._scratch.other("neighbor"),
        )

    def _cut_image(
        self,
        image: ImageReader,
        background: BackgroundSwap | None,
        first_y: np.ndarray,
        first_x: np.ndarray,
        size: int,
        clips: Sequence[Box] | None = None,
        *,
        scratch: Scratch,
    ) -> Iterator[CutBlock]:
        """Cut one image; all that is done to the pixels of one image before
        they meet those of others.
        """
        from ..kernels.gather import mark_no_data

        # The file's own table, with a bit for NO_DATA where it has none.
        planes = merge_mask_planes([image.mask_planes])
        fill = self._fill(planes)
        there = image.planes | set(image.extra_planes)
        if image.mask_tells_nothing:
            there -= {"mask"}
        for block in cut(
            image,
            first_y=first_y,
            first_x=first_x,
            size=size,
            fill={plane: value for plane, value in fill.items() if plane in there},
            memory_bytes=self._memory_bytes,
            block_bytes=min(BLOCK_BYTES, self._plane_bytes),
            retry=self._retry,
            clips=clips,
            threads=self._threads,
            scratch=scratch,
        ):
            pixels = block.pixels
            for plane in fill:
                if plane not in there:
                    pixels[plane] = np.full(pixels["image"].shape, fill[plane])
            if "mask" not in there:
                floats = pixels["image"].view(np.uint32)
                mark_no_data(floats.reshape(-1), int(fill["mask"]), pixels["mask"].reshape(-1))
            pixels["mask"] = reencode_mask(pixels["mask"], planes, self._mask_planes)
            if background is not None:
                background.apply(pixels["image"], first_y[block.index], first_x[block.index])
            yield block

    def _count(self, block: CutBlock, place: Place, columns: dict[str, np.ndarray]) -> np.ndarray:
        """Fill in what pixels tell; which cutouts have any that is valid."""
        from ..kernels.gather import tally

        index, bits = block.index, {plane.name: 1 << plane.bit for plane in self._mask_planes}
        shape = (len(index), place.size**2)
        own_y, own_x = place.own_pixel(index)
        n_valid, n_inexact = np.empty((2, len(index)), dtype=np.int64)
        own_valid = np.empty(len(index), dtype=bool)
        tally(
            block.pixels["image"].view(np.uint32).reshape(shape),
            block.pixels["mask"].reshape(shape),
            bits[NO_DATA],
            bits.get("INEXACT_PSF", 0),
            own_y * place.size + own_x,
            n_valid,
            n_inexact,
            own_valid,
        )
        columns["valid_fraction"][index] = n_valid / place.size**2
        columns["inexact_psf_fraction"][index] = n_inexact / place.size**2
        columns["center_valid"][index] = own_valid
        return n_valid > 0

    def _fill(self, mask_planes: Sequence[MaskPlane]) -> dict[str, np.generic]:
        """Planes to cut, and their values where there is no data."""
        (no_data,) = (1 << plane.bit for plane in mask_planes if plane.name == NO_DATA)
        fill: dict[str, np.generic] = {
            "image": np.float32(np.nan),
            "mask": mask_dtype(mask_planes).type(no_data),
        }
        if "variance" in self._planes:
            fill["variance"] = np.float32(np.nan)
        return fill | dict.fromkeys(self._extra, np.float32(np.nan))


def empty_columns(n: int) -> dict[str, np.ndarray]:
    """Columns of a band that nothing is known of yet.

    Parameters
    ----------
    n
        Number of targets.

    Returns
    -------
    columns
        Those of `BAND_COLUMNS`, shape ``(n,)``, and ``psf_cell``, ``(n, 2)``.
    """
    columns: dict[str, np.ndarray] = {name: np.zeros(n, dtype) for name, dtype in BAND_COLUMNS.items()}
    columns["psf_fwhm"][:] = np.nan
    columns["psf_cell"] = np.full((n, 2), -1, dtype="i4")
    columns["inexact_psf_fraction"][:] = np.nan
    return columns
