# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""fitsio: a section of each plane for each cutout."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import fitsio
import numpy as np
from work import BLOCK, Sink, block_arrays, carry_out


def cut(job: Mapping[str, Any], targets: dict[str, np.ndarray], sink: Sink) -> None:
    size, n = job["size"], job["n"]
    corners = list(zip(targets["first_y"].tolist(), targets["first_x"].tolist(), strict=True))
    blocks = block_arrays(size, n)
    with fitsio.FITS(job["path"]) as file:
        hdus = {plane: file[name] for plane, name in job["planes"].items()}
        for start in range(0, n, BLOCK):
            part = corners[start : start + BLOCK]
            for plane, hdu in hdus.items():
                block = blocks[plane]
                for row, (y, x) in enumerate(part):
                    block[row] = hdu[y : y + size, x : x + size]
            index = np.arange(start, start + len(part))
            sink.write(index, {plane: block[: len(part)] for plane, block in blocks.items()})


if __name__ == "__main__":
    carry_out(cut)
