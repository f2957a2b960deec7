# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""The least that cutouts can cost: the touched tiles decoded, and as many
bytes as the result has written raw.  It cuts nothing.

The decoders are our own kernels, the fastest exact ones at hand; each tile
goes once into a small array that is used again and again. What is known of
the file before a tile is decoded is not timed.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
from work import BLOCK, PLANES, Sink, carry_out

from lsst.dax.bulkcutout.boxes import Box
from lsst.dax.bulkcutout.kernels.gather import touch_tiles
from lsst.dax.bulkcutout.readers import open_image

STRIP_ROWS = 64
"""Rows that are decoded at a time, at least: they fit the cache."""

prepared: dict[str, Any] = {}
"""Image, strips of touched tiles and room for them, by the job's output."""


def prepare(job: Mapping[str, Any], targets: dict[str, np.ndarray]) -> None:
    y0, x0 = job["origin"]
    image = open_image(job["path"])
    tiles = touched(image, targets["first_y"] + y0, targets["first_x"] + x0, job["size"])
    together = max(1, STRIP_ROWS // image.tile_shape[0])
    strips = []
    for _, group in itertools.groupby(tiles, key=lambda tile: tile[0] // together):
        strip = list(group)
        first, last = image.tile_box(*strip[0]), image.tile_box(*strip[-1])
        strips.append((strip, Box(y0=first.y0, y1=last.y1, x0=image.bbox.x0, x1=image.bbox.x1)))
    rows = max(box.shape[0] for _, box in strips)
    part = min(BLOCK, job["n"])
    for name, dtype in PLANES.items():
        # Memory is not free before it is used first.
        prepared[f"{job['output']} {name}"] = (
            np.ones((rows, image.bbox.shape[1]), dtype),
            np.ones((part, job["size"], job["size"]), dtype),
        )
    prepared[job["output"]] = image, strips


def cut(job: Mapping[str, Any], targets: dict[str, np.ndarray], sink: Sink) -> None:
    n = job["n"]
    image, strips = prepared[job["output"]]
    blocks = {}
    for plane in PLANES:
        canvas, blocks[plane] = prepared[f"{job['output']} {plane}"]
        for tiles, box in strips:
            if image.load_tiles(plane, tiles, canvas[: box.shape[0]], box):
                raise RuntimeError("Damaged tiles in a file that this benchmark has made.")
    for start in range(0, n, BLOCK):
        part = min(BLOCK, n - start)
        # Any bytes will do.
        sink.write(np.arange(start, start + part), {plane: block[:part] for plane, block in blocks.items()})


def touched(image: Any, first_y: np.ndarray, first_x: np.ndarray, size: int) -> list[tuple[int, int]]:
    """Tiles under the cutouts, row by row."""
    rows, columns = image.tile_edges
    stops = np.full((len(rows) - 1, len(columns) - 1), -(2**62))
    boxes = np.stack([first_y, first_y + size, first_x, first_x + size], axis=1)
    touch_tiles(boxes.astype(np.int64), rows, columns, stops)
    return [(int(iy), int(ix)) for iy, ix in np.argwhere(stops > -(2**62))]


if __name__ == "__main__":
    carry_out(cut, prepare)
