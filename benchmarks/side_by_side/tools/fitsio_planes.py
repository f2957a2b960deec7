# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""fitsio: whole planes, then a slice for each cutout."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import fitsio
import numpy as np
from work import BLOCK, Sink, block_arrays, carry_out


def cut(job: Mapping[str, Any], targets: dict[str, np.ndarray], sink: Sink) -> None:
    size, n = job["size"], job["n"]
    with fitsio.FITS(job["path"]) as file:
        planes = {plane: file[name].read() for plane, name in job["planes"].items()}
    corners = list(zip(targets["first_y"].tolist(), targets["first_x"].tolist(), strict=True))
    blocks = block_arrays(size, n)
    for start in range(0, n, BLOCK):
        part = corners[start : start + BLOCK]
        for plane, pixels in planes.items():
            block = blocks[plane]
            for row, (y, x) in enumerate(part):
                block[row] = pixels[y : y + size, x : x + size]
        index = np.arange(start, start + len(part))
        sink.write(index, {plane: block[: len(part)] for plane, block in blocks.items()})


if __name__ == "__main__":
    carry_out(cut)
