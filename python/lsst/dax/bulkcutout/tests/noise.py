# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Noise and blemishes of the made-up images; both belong to tract pixels, so
that overlapping patches have the same.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from ..boxes import Box
from .layouts import Patch, Tract
from .sky import BANDS, Sky

__all__ = ("blemishes", "depth", "non_negative", "tract_noise")


def tract_noise(seed: int, tract: int, band: str, box: Box) -> np.ndarray:
    """Normal deviates that belong to tract pixels.

    Parameters
    ----------
    seed, tract, band
        What they depend on besides the pixel.
    box
        Tract pixels.

    Returns
    -------
    noise
        Unit variance, float64, of the shape of the box.
    """
    noise = np.empty(box.shape)
    for block, overlap in _blocks(box, 100):
        key = [seed, 2, tract, BANDS.index(band), *non_negative((block.y0, block.x0))]
        values = np.random.default_rng(key).standard_normal((100, 100))
        noise[overlap.slices(box)] = values[overlap.slices(block)]
    return noise


def depth(sky: Sky, tract: Tract, patch: Patch, band: str) -> np.ndarray:
    """Variance of the background relative to the mean.

    Parameters
    ----------
    sky, tract, patch, band
        Which image.

    Returns
    -------
    depth
        Of the shape of the patch's outer box; constant within a cell.
    """
    values = np.empty(patch.n_cells)
    for row, column in np.ndindex(*patch.n_cells):
        origin = (
            patch.outer.y0 + row * patch.cell_shape[0],
            patch.outer.x0 + column * patch.cell_shape[1],
        )
        rng = np.random.default_rng([sky.seed, 3, tract.id, BANDS.index(band), *non_negative(origin)])
        values[row, column] = rng.uniform(0.85, 1.2)
    return np.kron(values, np.ones(patch.cell_shape))


def blemishes(sky: Sky, tract: Tract, box: Box, band: str) -> Iterator[tuple[str, np.ndarray]]:
    """Cosmic rays, satellite trails and edges of input images.

    Parameters
    ----------
    sky, tract, box, band
        Which pixels.

    Yields
    ------
    name
        Name of a mask plane.
    plane
        Boolean picture of the shape of the box.
    """
    rows, columns = np.ogrid[box.y0 : box.y1, box.x0 : box.x1]
    kinds = (("COSMIC_RAY", 110, 0.35, 1.0), ("CLIPPED", 700, 0.5, 3.0), ("INEXACT_PSF", 400, 0.6, 8.0))
    for kind, (name, side, chance, width) in enumerate(kinds):
        plane = np.zeros(box.shape, dtype=bool)
        for block, overlap in _blocks(box, side):
            key = [sky.seed, 4 + kind, tract.id, BANDS.index(band), *non_negative((block.y0, block.x0))]
            rng = np.random.default_rng(key)
            if rng.random() > chance:
                continue
            angle, length = rng.uniform(0, math.pi), (rng.uniform(2, 8) if kind == 0 else 2 * side)
            y, x = rng.uniform(0, side, 2) + (block.y0, block.x0)
            index = overlap.slices(box)
            dy, dx = rows[index[0]] - y, columns[:, index[1]] - x
            along = np.abs(dx * math.cos(angle) + dy * math.sin(angle))
            across = np.abs(dy * math.cos(angle) - dx * math.sin(angle))
            plane[index] |= (along < length) & (across < width)
        yield name, plane


def non_negative(pixel: tuple[int, int]) -> tuple[int, int]:
    """A pixel as part of a seed; tracts have pixels below 0.

    Parameters
    ----------
    pixel
        Tract pixel ``(y, x)``.

    Returns
    -------
    seed
        Two numbers from 0 to 2**32 - 1.
    """
    return (pixel[0] & 0xFFFFFFFF, pixel[1] & 0xFFFFFFFF)


def _blocks(box: Box, side: int) -> Iterator[tuple[Box, Box]]:
    """Squares of a fixed grid that touch a box, and the common pixels."""
    for y0 in range(box.y0 // side * side, box.y1, side):
        for x0 in range(box.x0 // side * side, box.x1, side):
            block = Box(y0, y0 + side, x0, x0 + side)
            overlap = block.intersection(box)
            if overlap is not None:
                yield block, overlap
