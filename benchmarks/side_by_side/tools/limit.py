# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""The least that cutouts can cost: the touched tiles decoded, and as many
bytes as the result has written raw.  It cuts nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from work import BLOCK, PLANES, Sink, carry_out

from lsst.dax.bulkcutout.readers import open_image


def cut(job: Mapping[str, Any], targets: dict[str, np.ndarray], sink: Sink) -> None:
    size, n = job["size"], job["n"]
    y0, x0 = job["origin"]
    with open_image(job["path"]) as image:
        tiles = touched(image, targets["first_y"] + y0, targets["first_x"] + x0, size)
        decoded = {}
        for plane, dtype in PLANES.items():
            decoded[plane] = np.empty(image.bbox.shape, dtype)
            image.load_tiles(plane, tiles, decoded[plane], image.bbox)
    # Any bytes will do, but for those that nobody has ever written.
    block = {plane: np.ones((min(n, BLOCK), size, size), dtype) for plane, dtype in PLANES.items()}
    for start in range(0, n, BLOCK):
        part = min(BLOCK, n - start)
        sink.write(np.arange(start, start + part), {plane: values[:part] for plane, values in block.items()})


def touched(image: Any, first_y: np.ndarray, first_x: np.ndarray, size: int) -> list[tuple[int, int]]:
    """Tiles under the cutouts, row by row."""
    height, width = image.tile_shape
    box = image.tile_box(0, 0)
    rows = np.stack([(first_y - box.y0) // height, (first_y + size - 1 - box.y0) // height])
    columns = np.stack([(first_x - box.x0) // width, (first_x + size - 1 - box.x0) // width])
    wanted = np.zeros(image.n_tiles, dtype=bool)
    for dy in range(int((rows[1] - rows[0]).max()) + 1):
        for dx in range(int((columns[1] - columns[0]).max()) + 1):
            wanted[np.minimum(rows[0] + dy, rows[1]), np.minimum(columns[0] + dx, columns[1])] = True
    return [(int(iy), int(ix)) for iy, ix in np.argwhere(wanted)]


if __name__ == "__main__":
    carry_out(cut)
