# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""astrocut: a FITSCutout for each target, kept in memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import astropy.units as u
import numpy as np
from astrocut import FITSCutout
from astropy.coordinates import SkyCoord
from astropy.io import fits
from work import BLOCK, Sink, block_arrays, carry_out


def cut(job: Mapping[str, Any], targets: dict[str, np.ndarray], sink: Sink) -> None:
    size, n = job["size"], job["n"]
    with fits.open(job["path"]) as file:
        numbers = {plane: file.index_of(name) for plane, name in job["planes"].items()}
    # astrocut gives the extensions in the order of the file.
    in_order = sorted(numbers, key=lambda plane: numbers[plane])
    positions = SkyCoord(targets["ra"] * u.deg, targets["dec"] * u.deg)
    blocks = block_arrays(size, n)
    for start in range(0, n, BLOCK):
        part = positions[start : start + BLOCK]
        for row, position in enumerate(part):
            # Rounded up, the box is the one that all the others cut.
            result = FITSCutout(
                job["path"],
                position,
                size,
                extension=sorted(numbers.values()),
                limit_rounding_method="ceil",
            )
            for plane, hdu in zip(in_order, result.fits_cutouts[0][1:], strict=True):
                blocks[plane][row] = hdu.data
        index = np.arange(start, start + len(part))
        sink.write(index, {plane: block[: len(part)] for plane, block in blocks.items()})


if __name__ == "__main__":
    carry_out(cut)
