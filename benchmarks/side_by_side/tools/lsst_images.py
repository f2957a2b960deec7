# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""lsst.images: the coadd, whole or by boxes, then a part of it for each
cutout.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from work import BLOCK, Sink, block_arrays, carry_out

from lsst.images import Box
from lsst.images.cells import CellCoadd

FEW = 10
"""Up to so many cutouts it is cheaper to read the boxes than the whole."""


def cut(job: Mapping[str, Any], targets: dict[str, np.ndarray], sink: Sink) -> None:
    size, n = job["size"], job["n"]
    y0, x0 = job["origin"]
    whole = None if n <= FEW else CellCoadd.read(job["path"])
    corners = list(zip(targets["first_y"].tolist(), targets["first_x"].tolist(), strict=True))
    blocks = block_arrays(size, n)
    for start in range(0, n, BLOCK):
        part = corners[start : start + BLOCK]
        for row, (y, x) in enumerate(part):
            box = Box.factory[y0 + y : y0 + y + size, x0 + x : x0 + x + size]
            coadd = CellCoadd.read(job["path"], bbox=box) if whole is None else whole[box]
            blocks["image"][row] = coadd.image.array
            blocks["variance"][row] = coadd.variance.array
            # In memory a mask is one byte for every eight planes.
            octets = coadd.mask.array
            mask = blocks["mask"][row]
            mask[:] = octets[..., 0]
            for number in range(1, octets.shape[-1]):
                mask |= octets[..., number].astype(np.int32) << (8 * number)
        index = np.arange(start, start + len(part))
        sink.write(index, {plane: block[: len(part)] for plane, block in blocks.items()})


if __name__ == "__main__":
    carry_out(cut)
