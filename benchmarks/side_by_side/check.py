# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Are the cutouts of a tool the right ones?

The reference is what CFITSIO gives (by fitsio, whole planes), cut by index.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import fitsio
import numpy as np

from .tools.work import PLANES

__all__ = ("WrongPixelsError", "check_cutouts")


class WrongPixelsError(Exception):
    """A tool gave other pixels than the reference."""


def check_cutouts(job: Mapping[str, Any], *, pixels: bool = True) -> None:
    """Compare raw cutouts with the reference, bit for bit.

    Parameters
    ----------
    job
        The job that gave them.
    pixels
        Whether there are any; the limit only has as many bytes.

    Raises
    ------
    WrongPixelsError
        Raised if one pixel differs, or a cutout is missing.
    """
    size, n, directory = job["size"], job["n"], Path(job["output"])
    order = np.load(directory / "order.npy")
    if not np.array_equal(np.sort(order), np.arange(n)):
        raise WrongPixelsError(f"Not each of {n} cutouts came once.")
    with np.load(job["targets"]) as columns:
        first_y, first_x = columns["first_y"][order], columns["first_x"][order]
    for plane, dtype in PLANES.items():
        path = directory / f"{plane}.raw"
        if path.stat().st_size != n * size**2 * np.dtype(dtype).itemsize:
            raise WrongPixelsError(f"{path.name} has {path.stat().st_size} bytes.")
        if not pixels:
            continue
        found = np.memmap(path, dtype=np.int32, mode="r", shape=(n, size, size))
        expected = fitsio.read(job["path"], ext=job["planes"][plane]).astype(dtype, copy=False)
        expected = expected.view(np.int32)
        for row, (y, x) in enumerate(zip(first_y.tolist(), first_x.tolist(), strict=True)):
            if not np.array_equal(found[row], expected[y : y + size, x : x + size]):
                raise WrongPixelsError(f"{plane} of target {order[row]} differs from the reference.")
