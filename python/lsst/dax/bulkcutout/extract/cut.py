# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Pixels and targets become cutouts.

Works on one image at a time, through its tiles: each tile that a cutout
touches is decoded once, and its pixels go to all cutouts that want them.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Protocol

import numpy as np

from ..boxes import Box, hull
from ..errors import CorruptInputError

__all__ = ("CutBlock", "PixelSource", "cut", "psf_fwhm")

BLOCK_BYTES = 32 * 1024 * 1024
"""Size of a block of cutouts of one plane."""


class PixelSource(Protocol):
    """What `cut` needs of an image."""

    @property
    def bbox(self) -> Box:
        """Pixels that the image has, in tract pixels."""

    @property
    def tile_shape(self) -> tuple[int, int]:
        """Rows and columns of a tile, the smallest piece to decode."""

    def tiles_touching(self, box: Box) -> list[tuple[int, int]]:
        """Tiles that hold pixels of a box.

        Parameters
        ----------
        box
            Tract pixels.
        """

    def read_tiles(self, plane: str, tiles: Iterable[tuple[int, int]]) -> Iterator[tuple[Box, np.ndarray]]:
        """Decode tiles of a plane.

        Parameters
        ----------
        plane
            Name of the plane.
        tiles
            Indices ``(y, x)``.

        Notes
        -----
        A damaged tile raises `CorruptInputError` with its ``box``; ``next``
        then goes on with the tile that follows.
        """


@dataclasses.dataclass(frozen=True)
class CutBlock:
    """Cutouts of some targets from one image."""

    index: np.ndarray
    """Which of the targets these are, shape ``(n,)``."""

    pixels: dict[str, np.ndarray]
    """Pixels of each plane, shape ``(n, size, size)``; the fill value of the
    plane outside the image."""

    damaged: np.ndarray
    """Whether a tile under the cutout could not be decoded, shape ``(n,)``;
    its pixels are all fill then."""


def cut(
    image: PixelSource,
    *,
    first_y: np.ndarray,
    first_x: np.ndarray,
    size: int,
    fill: Mapping[str, np.generic],
    memory_bytes: int,
    block_bytes: int | None = None,
    retry: Callable[[Callable[[], None]], None] = lambda action: action(),
    clips: Sequence[Box] | None = None,
) -> Iterator[CutBlock]:
    """Cut square boxes out of the planes of one image.

    Parameters
    ----------
    image
        Where the pixels are.
    first_y, first_x
        First pixel of each cutout, whole tract pixels, shape ``(n,)``.
    size
        Side of the cutouts in pixels.
    fill
        Planes that are wanted, each with the value of pixels outside the
        image; its type is that of the result.
    memory_bytes
        Bound on the pixels that are held at a time, as far as one tile row
        permits.
    block_bytes
        Bound on the pixels of one plane of a block, as far as one cutout
        permits; `BLOCK_BYTES` if `None`.
    retry
        Runs the decoding of a plane, and may run it again.
    clips
        For each target the only pixels that are wanted; all if `None`.

    Yields
    ------
    block
        Some of the cutouts; every target is in one block.
    """
    limit = image.bbox
    y0, y1 = np.maximum(first_y, limit.y0), np.minimum(first_y + size, limit.y1)
    x0, x1 = np.maximum(first_x, limit.x0), np.minimum(first_x + size, limit.x1)
    if clips is not None:
        edges = np.array([(clip.y0, clip.y1, clip.x0, clip.x1) for clip in clips]).reshape(-1, 4)
        y0, y1 = np.maximum(y0, edges[:, 0]), np.minimum(y1, edges[:, 1])
        x0, x1 = np.maximum(x0, edges[:, 2]), np.minimum(x1, edges[:, 3])
    tile_rows = image.tile_shape[0]
    width = image.bbox.shape[1]
    strip_rows = max(size + 2 * tile_rows, memory_bytes // (2 * 4 * width * max(1, len(fill))))
    for members in _strips(y0, y1, strip_rows):
        corners = (edge[members].tolist() for edge in (y0, y1, x0, x1))
        boxes = [
            Box(y0=a, y1=b, x0=c, x1=d) if a < b and c < d else None
            for a, b, c, d in zip(*corners, strict=True)
        ]
        canvas = _Canvas(image, hull(boxes), fill, boxes, retry)
        n_block = max(1, (BLOCK_BYTES if block_bytes is None else block_bytes) // (4 * size * size))
        for start in range(0, len(members), n_block):
            block = members[start : start + n_block]
            yield _cut_block(canvas, block, boxes[start : start + n_block], first_y, first_x, size, fill)


def psf_fwhm(kernels: np.ndarray, pixel_scale_arcsec: float) -> np.ndarray:
    """Width of PSF kernels.

    Parameters
    ----------
    kernels
        Shape ``(..., ky, kx)``.
    pixel_scale_arcsec
        Side of a pixel.

    Returns
    -------
    fwhm
        Full width at half maximum, arcsec, shape ``(...)``, of the Gaussian
        that has the kernel's effective area ``sum(k)**2 / sum(k**2)`` (for a
        Gaussian ``4 pi sigma**2``); NaN where a kernel is not finite.
    """
    flat = kernels.reshape(*kernels.shape[:-2], -1).astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        area = flat.sum(axis=-1) ** 2 / (flat**2).sum(axis=-1)
    fwhm = 2 * math.sqrt(2 * math.log(2)) * np.sqrt(area / (4 * math.pi)) * pixel_scale_arcsec
    return np.asarray(fwhm, dtype=np.float32)


class _Canvas:
    """The touched tiles of a strip of an image."""

    def __init__(
        self,
        image: PixelSource,
        strip: Box | None,
        fill: Mapping[str, np.generic],
        boxes: Sequence[Box | None],
        retry: Callable[[Callable[[], None]], None],
    ) -> None:
        self.strip = strip
        self.planes: dict[str, np.ndarray] = {}
        self._damaged: list[Box] = []
        if strip is None:
            return
        tiles = sorted({tile for box in boxes if box is not None for tile in image.tiles_touching(box)})
        for plane, value in fill.items():
            canvas = self.planes[plane] = np.zeros(strip.shape, dtype=value.dtype)
            retry(functools.partial(self._load, image, plane, tiles, strip, canvas))

    def _load(
        self,
        image: PixelSource,
        plane: str,
        tiles: Sequence[tuple[int, int]],
        strip: Box,
        canvas: np.ndarray,
    ) -> None:
        for box, pixels in self._decode(image, plane, tiles):
            if (part := box.intersection(strip)) is not None:
                canvas[part.slices(strip)] = pixels[part.slices(box)]

    def is_damaged(self, box: Box) -> bool:
        return any(box.intersection(damaged) is not None for damaged in self._damaged)

    def _decode(
        self, image: PixelSource, plane: str, tiles: Sequence[tuple[int, int]]
    ) -> Iterator[tuple[Box, np.ndarray]]:
        tile = iter(image.read_tiles(plane, tiles))
        while True:
            try:
                yield next(tile)
            except StopIteration:
                return
            except CorruptInputError as error:
                # Without a box it is the whole plane that cannot be read.
                if error.box is None:
                    raise
                self._damaged.append(error.box)


def _strips(tops: np.ndarray, bottoms: np.ndarray, strip_rows: int) -> Iterator[np.ndarray]:
    """Groups of targets that lie within so many rows; each group in the
    order of the targets, all in one group where they fit.
    """
    order = np.argsort(tops, kind="stable")
    start = 0
    while start < len(order):
        inside = bottoms[order[start:]] <= tops[order[start]] + strip_rows
        count = len(inside) if inside.all() else max(1, int(np.argmin(inside)))
        yield np.sort(order[start : start + count])
        start += count


def _cut_block(
    canvas: _Canvas,
    members: np.ndarray,
    boxes: Sequence[Box | None],
    first_y: np.ndarray,
    first_x: np.ndarray,
    size: int,
    fill: Mapping[str, np.generic],
) -> CutBlock:
    pixels = {}
    damaged = np.array([box is not None and canvas.is_damaged(box) for box in boxes], dtype=bool)
    for plane, value in fill.items():
        source = canvas.planes.get(plane)
        out = np.full((len(members), size, size), value, dtype=value.dtype)
        pixels[plane] = out
        if source is None or canvas.strip is None:
            continue
        for row, (member, box) in enumerate(zip(members.tolist(), boxes, strict=True)):
            if box is not None and not damaged[row]:
                y, x = int(first_y[member]), int(first_x[member])
                place = box.slices(Box(y0=y, y1=y + size, x0=x, x1=x + size))
                out[row][place] = source[box.slices(canvas.strip)]
    return CutBlock(index=members, pixels=pixels, damaged=damaged)
