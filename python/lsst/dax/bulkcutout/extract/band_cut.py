# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""All targets of one patch, out of its images of one band."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from .. import tables
from ..boxes import Box
from ..cutout_dataset import BAND_COLUMNS
from ..errors import CorruptInputError
from ..masks import NO_DATA, mask_dtype, merge_mask_planes, reencode_mask
from ..readers import ImageReader
from ..tables import MaskPlane
from .background_swap import BackgroundSwap
from .cut import CutBlock, cut, psf_fwhm
from .place import Place
from .stitch import Neighbor, stitch

__all__ = ("BandCut", "Kernels", "empty_columns")

_PIXEL_BYTES_IN_BLOCKS = 40
"""Bytes for each pixel of a block of cutouts: its planes, what is worked out
from them, and the block before it."""

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
        images = [home, *(each.reader for each in neighbors if each.reader is not None)]
        self._extra = tuple(
            dict.fromkeys(
                name for image in images for name in image.extra_planes if name.partition("/")[0] in planes
            )
        )

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
            Completed cutouts, the mask in the bits that are wanted.
        """
        bits = {plane.name: 1 << plane.bit for plane in self._mask_planes}
        fill = self._fill(self._mask_planes)
        for block in self._cut_image(self._home, self._background, place.first_y, place.first_x, place.size):
            index, mask = block.index, block.pixels["mask"]
            found = stitch(
                dataclasses.replace(block, damaged=block.damaged | lost[index]),
                first_y=place.first_y[index],
                first_x=place.first_x[index],
                home=self._home.bbox,
                neighbors=self._neighbors,
                cut_neighbor=functools.partial(self._cut_neighbor, place.size),
                fill=fill,
            )
            valid = np.isfinite(block.pixels["image"]) & ((mask & bits[NO_DATA]) == 0)
            columns["valid_fraction"][index] = valid.mean(axis=(1, 2))
            own_y, own_x = place.own_pixel(index)
            columns["center_valid"][index] = valid[np.arange(len(index)), own_y, own_x]
            inexact = (mask & bits.get("INEXACT_PSF", 0)) != 0
            columns["inexact_psf_fraction"][index] = inexact.mean(axis=(1, 2))
            columns["n_patches"][index] = found.n_patches
            columns["stitched"][index] = found.stitched
            status = np.where(valid.any(axis=(1, 2)), tables.BAND_OK, tables.BAND_NO_DATA)
            columns["band_status"][index] = np.where(found.damaged, tables.BAND_READ_FAILED, status)
            if n := int(found.damaged.sum()):
                self._damage.append(f"Band {self._band}: {n} cutouts lie on damaged tiles or cells.")
            yield dataclasses.replace(block, damaged=found.damaged)

    def kernels(self, place: Place, columns: dict[str, np.ndarray], shape: tuple[int, int]) -> Kernels:
        """Find PSF kernels; fills what they and the cells tell.

        Parameters
        ----------
        place
            Where the cutouts are.
        columns
            Columns of the band, from `empty_columns`.
        shape
            Rows and columns of the kernels, at least those of the image's.

        Returns
        -------
        kernels
            Those of the cells of the home image that hold the targets.
        """
        home = self._home
        if not home.has_psf:
            return Kernels.none(shape, len(place.x))
        own_y, own_x = place.own_pixel()
        cells = home.cell_of(place.first_y + own_y, place.first_x + own_x)
        distinct, members = np.unique(cells, axis=0, return_inverse=True)
        members = members.reshape(-1)
        found, damaged = self._read_kernels(distinct)
        ky, kx = found.shape[1:]
        # Smaller kernels of other bands keep their centre at [ky//2, kx//2].
        y0, x0 = shape[0] // 2 - ky // 2, shape[1] // 2 - kx // 2
        usable = np.isfinite(found).all(axis=(1, 2))
        padded = np.zeros((len(found), *shape), dtype=np.float32)
        padded[:, y0 : y0 + ky, x0 : x0 + kx] = found
        padded[~usable] = np.nan
        columns["psf_valid"][:] = usable[members]
        columns["psf_cell"][:] = np.where(usable[members, None], cells, -1)
        columns["psf_fwhm"][:] = psf_fwhm(found, home.wcs.pixel_scale_arcsec)[members]
        columns["n_cells"][:] = place.count_cells(home)
        return Kernels(padded, members, damaged[members])

    def _cut_neighbor(
        self, size: int, neighbor: Neighbor, first_y: np.ndarray, first_x: np.ndarray, clips: Sequence[Box]
    ) -> Iterator[CutBlock]:
        assert neighbor.reader is not None
        y, x = neighbor.shift
        moved = [clip.shifted(y, x) for clip in clips]
        return self._cut_image(neighbor.reader, neighbor.background, first_y + y, first_x + x, size, moved)

    def _cut_image(
        self,
        image: ImageReader,
        background: BackgroundSwap | None,
        first_y: np.ndarray,
        first_x: np.ndarray,
        size: int,
        clips: Sequence[Box] | None = None,
    ) -> Iterator[CutBlock]:
        """Cut one image; all that is done to the pixels of one image before
        they meet those of others.
        """
        # The file's own table, with a bit for NO_DATA where it has none.
        planes = merge_mask_planes([image.mask_planes])
        fill = self._fill(planes)
        there = image.planes | set(image.extra_planes)
        pixel_bytes = _PIXEL_BYTES_IN_BLOCKS + _PIXEL_BYTES_OF_EXTRA_PLANE * len(self._extra)
        for block in cut(
            image,
            first_y=first_y,
            first_x=first_x,
            size=size,
            fill={plane: value for plane, value in fill.items() if plane in there},
            memory_bytes=self._memory_bytes,
            block_bytes=4 * (self._memory_bytes // (2 * pixel_bytes)),
            retry=self._retry,
            clips=clips,
        ):
            if "mask" not in block.pixels:
                # The image alone says where there are no pixels.
                none = np.isnan(block.pixels["image"])
                block.pixels["mask"] = np.where(none, fill["mask"], 0).astype(fill["mask"].dtype)
            for plane in fill.keys() - block.pixels.keys():
                block.pixels[plane] = np.full_like(block.pixels["image"], np.nan)
            block.pixels["mask"] = reencode_mask(block.pixels["mask"], planes, self._mask_planes)
            if background is not None:
                background.apply(block.pixels["image"], first_y[block.index], first_x[block.index])
            yield block

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

    def _read_kernels(self, cells: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Kernels of cells, shape ``(n, ky, kx)``, and which are damaged."""
        home = self._home
        damaged = np.zeros(len(cells), dtype=bool)
        with contextlib.suppress(CorruptInputError):
            return self._retry(lambda: home.psf_kernels(cells)), damaged
        kernels = np.full((len(cells), *home.psf_shape), np.nan, dtype=np.float32)
        for number, cell in enumerate(cells):
            try:
                kernels[number] = self._retry(functools.partial(home.psf_kernels, cell[np.newaxis]))[0]
            except CorruptInputError:
                damaged[number] = True
        return kernels, damaged


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


@dataclasses.dataclass(frozen=True)
class Kernels:
    """PSF kernels of some targets."""

    distinct: np.ndarray
    """Kernels of the cells, shape ``(n_cells, ky, kx)``; NaN where there is
    none."""

    members: np.ndarray
    """Which of them is each target's, shape ``(n,)``."""

    lost: np.ndarray
    """Whose kernel is damaged, shape ``(n,)``."""

    @classmethod
    def none(cls, shape: tuple[int, int], n: int) -> Kernels:
        """Make no kernels for so many targets.

        Parameters
        ----------
        shape
            Rows and columns of the kernels.
        n
            Number of targets.

        Returns
        -------
        kernels
            All NaN.
        """
        nothing = np.full((1, *shape), np.nan, dtype=np.float32)
        return cls(nothing, np.zeros(n, dtype=np.intp), np.zeros(n, dtype=bool))
