# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""astropy: whole planes, then a Cutout2D for each cutout."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from astropy.io import fits
from astropy.nddata import Cutout2D
from work import BLOCK, Sink, block_arrays, carry_out

FILL = {"image": np.nan, "variance": np.nan, "mask": 0}


def cut(job: Mapping[str, Any], targets: dict[str, np.ndarray], sink: Sink) -> None:
    size, n = job["size"], job["n"]
    with fits.open(job["path"]) as file:
        planes = {plane: file[name].data for plane, name in job["planes"].items()}
    positions = list(zip(targets["x"].tolist(), targets["y"].tolist(), strict=True))
    blocks = block_arrays(size, n)
    for start in range(0, n, BLOCK):
        part = positions[start : start + BLOCK]
        for plane, pixels in planes.items():
            block, fill = blocks[plane], FILL[plane]
            for row, position in enumerate(part):
                block[row] = Cutout2D(pixels, position, size, mode="partial", fill_value=fill).data
        index = np.arange(start, start + len(part))
        sink.write(index, {plane: block[: len(part)] for plane, block in blocks.items()})


if __name__ == "__main__":
    carry_out(cut)
