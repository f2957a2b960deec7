# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""The positions that are cut out, and the boxes that belong to them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS

from .data import HDUS, Data

__all__ = ("SIZE", "first_pixels", "patch_targets", "tile_targets")

SIZE = 64
"""Side of the cutouts, px."""


def first_pixels(position: np.ndarray, size: int = SIZE) -> np.ndarray:
    """First pixels of boxes, by the rule of astropy's ``overlap_slices``."""
    return np.ceil(np.round(position, 6) - size / 2).astype(np.int64)


def patch_targets(data: Data, patch: int, n: int, *, seed: int = 1) -> dict[str, np.ndarray]:
    """Positions within the pixels that belong to a patch, which are those
    whose targets a campaign cuts from it; in pixels of the file.
    """
    y0, x0, own_y0, own_y1, own_x0, own_x1 = data.inner[str(patch)]
    random = np.random.default_rng([seed, patch])
    y = random.uniform(own_y0 - y0, own_y1 - y0 - 1, n)
    x = random.uniform(own_x0 - x0, own_x1 - x0 - 1, n)
    return _with_sky(data.paths[data.key("r", patch)], HDUS["image"], y, x)


def tile_targets(data: Data, n: int, *, size: int = SIZE, seed: int = 2) -> dict[str, np.ndarray]:
    """Positions in a Euclid-like tile whose boxes are inside."""
    side = fits.getval(data.euclid[0], "NAXIS1")
    y, x = np.random.default_rng(seed).uniform(size, side - size, (2, n))
    return _with_sky(data.euclid[0], 0, y, x)


def _with_sky(path: str, hdu: str | int, y: np.ndarray, x: np.ndarray) -> dict[str, np.ndarray]:
    wcs = WCS(fits.getheader(path, hdu))
    ra, dec = wcs.all_pix2world(x, y, 0)
    # To be cut are the positions of the catalog: what comes of going to the
    # sky and back may be another box.
    x, y = wcs.all_world2pix(ra, dec, 0)
    return {"x": x, "y": y, "first_x": first_pixels(x), "first_y": first_pixels(y), "ra": ra, "dec": dec}


def save_targets(path: Path, columns: Mapping[str, np.ndarray]) -> str:
    """Write targets for the tools."""
    np.savez(path, **columns)
    return str(path)
