# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""fitsio, end to end: whole planes and slices into an HDF5 product."""

from __future__ import annotations

from collections.abc import Mapping

import fitsio
import numpy as np
from product import carry_out_product


def read(path: str, hdus: Mapping[str, str]) -> dict[str, np.ndarray]:
    with fitsio.FITS(path) as file:
        return {plane: file[name].read() for plane, name in hdus.items()}


def fill(block: np.ndarray, pixels: np.ndarray, x: np.ndarray, y: np.ndarray) -> None:
    size = block.shape[1]
    first_y = np.ceil(np.round(y, 6) - size / 2).astype(int)
    first_x = np.ceil(np.round(x, 6) - size / 2).astype(int)
    for row, (top, left) in enumerate(zip(first_y.tolist(), first_x.tolist(), strict=True)):
        block[row] = pixels[top : top + size, left : left + size]


if __name__ == "__main__":
    carry_out_product(read, fill)
