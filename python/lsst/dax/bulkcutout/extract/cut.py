# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Pixels and targets become cutouts.

Works on one image at a time, from its first row to its last: each tile that a
cutout touches is decoded once, and its pixels go to all cutouts that want
them.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from ..boxes import Box
from .canvas import Canvas, PixelSource
from .scratch import Scratch

__all__ = ("CutBlock", "PixelSource", "cut", "join")

BLOCK_BYTES = 1024 * 1024
"""Size of a block of cutouts of one plane: what is written to it is still in
the processor's cache when it is read."""

CANVAS_BYTES = 16 * 1024 * 1024
"""How much of the image is decoded at a time, all planes: more is no faster,
because it leaves the cache before it is used."""


@dataclasses.dataclass(frozen=True)
class CutBlock:
    """Cutouts of some targets from one image."""

    index: np.ndarray
    """Which of the targets these are, ascending, shape ``(n,)``."""

    pixels: dict[str, np.ndarray]
    """Pixels of each plane, shape ``(n, size, size)``; the fill value of the
    plane outside the image."""

    damaged: np.ndarray
    """Whether a tile under the cutout could not be decoded, shape ``(n,)``;
    its pixels are all fill then."""

    def part(self, chosen: np.ndarray) -> CutBlock:
        """Copy some of the cutouts.

        Parameters
        ----------
        chosen
            Which, shape ``(n,)``.

        Returns
        -------
        block
            In memory of its own.
        """
        pixels = {plane: values[chosen] for plane, values in self.pixels.items()}
        return CutBlock(self.index[chosen], pixels, self.damaged[chosen])


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
    threads: int = 1,
    scratch: Scratch | None = None,
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
        Bound on the pixels that are held at a time, as far as one cutout and
        one tile row permit.
    block_bytes
        Bound on the pixels of one plane of a block, as far as one cutout
        permits; `BLOCK_BYTES` if `None`.
    retry
        Runs the decoding of a plane, and may run it again.
    clips
        For each target the only pixels that are wanted; all if `None`.
    threads
        How many threads may decode.  With more than one the block after the
        next has the same memory, not the next one (see `ahead`).
    scratch
        Memory to use; with that of an earlier call there are no page faults.

    Yields
    ------
    block
        Some of the cutouts; every target is in one block, and those that are
        near each other in the image are in the same.  Use its pixels, or copy
        them, before the next block is asked for: that has the same memory.

    Notes
    -----
    Pixels do not depend on ``memory_bytes``, ``block_bytes`` and ``threads``.
    """
    from ..kernels.gather import gather

    if not len(first_y):
        return
    scratch = scratch or Scratch()
    boxes = _boxes(image.bbox, first_y, first_x, size, clips)
    canvas = Canvas(
        image,
        boxes,
        fill,
        memory_bytes=min(CANVAS_BYTES, memory_bytes // 2),
        scratch=scratch,
        retry=retry,
        threads=threads,
    )
    n_block = max(1, (BLOCK_BYTES if block_bytes is None else block_bytes) // (4 * size * size))
    values = {plane: np.array([value]) for plane, value in fill.items()}
    turns = itertools.cycle(range(1 if threads == 1 else 2))
    for group in _groups(canvas, boxes):
        for start in range(0, len(group), n_block):
            index = np.sort(group[start : start + n_block])
            wanted = boxes[index]
            damaged = canvas.is_damaged(wanted)
            wanted[damaged] = 0
            pixels = {}
            turn = next(turns)
            for plane, value in values.items():
                out = scratch.take(f"block {turn} of {plane}", (len(index), size, size), value.dtype)
                # As they are, also floats that are no numbers.
                bits = np.dtype(f"u{value.itemsize}")
                gather(
                    canvas.planes[plane].view(bits),
                    canvas.rows.y0,
                    canvas.rows.x0,
                    wanted,
                    first_y[index],
                    first_x[index],
                    value.view(bits),
                    out.view(bits),
                )
                pixels[plane] = out
            yield CutBlock(index=index, pixels=pixels, damaged=damaged)


def join(blocks: Sequence[CutBlock]) -> CutBlock:
    """Make one block of several.

    Parameters
    ----------
    blocks
        At least one, of the same planes.

    Returns
    -------
    block
        All cutouts, in memory of its own; the targets ascend again.
    """
    index = np.concatenate([block.index for block in blocks])
    order = np.argsort(index)
    places = np.split(np.argsort(order), np.cumsum([len(block.index) for block in blocks])[:-1])
    pixels = {}
    for plane, values in blocks[0].pixels.items():
        pixels[plane] = np.empty((len(index), *values.shape[1:]), dtype=values.dtype)
        for place, block in zip(places, blocks, strict=True):
            pixels[plane][place] = block.pixels[plane]
    damaged = np.concatenate([block.damaged for block in blocks])[order]
    return CutBlock(index=index[order], pixels=pixels, damaged=damaged)


def _boxes(
    limit: Box, first_y: np.ndarray, first_x: np.ndarray, size: int, clips: Sequence[Box] | None
) -> np.ndarray:
    """Pixels ``(y0, y1, x0, x1)`` that each cutout gets of an image; where
    there are none, none at the place where the others begin.
    """
    boxes = np.stack(
        [
            np.maximum(first_y, limit.y0),
            np.minimum(first_y + size, limit.y1),
            np.maximum(first_x, limit.x0),
            np.minimum(first_x + size, limit.x1),
        ],
        axis=1,
    ).astype(np.int64)
    if clips is not None:
        edges = np.array([(clip.y0, clip.y1, clip.x0, clip.x1) for clip in clips]).reshape(-1, 4)
        boxes[:, 0::2] = np.maximum(boxes[:, 0::2], edges[:, 0::2])
        boxes[:, 1::2] = np.minimum(boxes[:, 1::2], edges[:, 1::2])
    some = (boxes[:, 0] < boxes[:, 1]) & (boxes[:, 2] < boxes[:, 3])
    boxes[~some] = np.repeat(boxes[some, 0::2].min(axis=0), 2) if some.any() else 0
    return boxes


def _groups(canvas: Canvas, boxes: np.ndarray) -> Iterator[np.ndarray]:
    """Targets in the order of their first rows, in groups that are on the
    canvas together; it moves on with them.
    """
    order = np.argsort(boxes[:, 0], kind="stable")
    tops, bottoms = boxes[order, 0], boxes[order, 1]
    start = 0
    while start < len(order):
        fits = canvas.fits(int(tops[start]), bottoms[start:])
        stop = start + (len(fits) if fits.all() else int(np.argmin(fits)))
        canvas.move(int(tops[start]), int(bottoms[start:stop].max()))
        yield order[start:stop]
        start = stop
