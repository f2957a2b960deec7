# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""astropy, end to end: whole planes and Cutout2D into an HDF5 product."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from astropy.io import fits
from astropy.nddata import Cutout2D
from product import carry_out_product


def read(path: str, hdus: Mapping[str, str]) -> dict[str, np.ndarray]:
    with fits.open(path) as file:
        return {plane: file[name].data for plane, name in hdus.items()}


def fill(block: np.ndarray, pixels: np.ndarray, x: np.ndarray, y: np.ndarray) -> None:
    empty = 0 if pixels.dtype.kind == "i" else np.nan
    for row, position in enumerate(zip(x.tolist(), y.tolist(), strict=True)):
        block[row] = Cutout2D(pixels, position, block.shape[1], mode="partial", fill_value=empty).data


if __name__ == "__main__":
    carry_out_product(read, fill)
