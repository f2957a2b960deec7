# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Which images of neighbouring patches the cutouts of a patch reach."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..boxes import Box, first_pixel
from ..errors import TransientError
from ..target_table import TargetFile
from .tract_geometry import TractGeometry

if TYPE_CHECKING:
    from ..campaign import Campaign, Plan
    from .source_images import Coverage, SourceImages

__all__ = ("find_neighbors", "reached_patches")

_LOG = logging.getLogger(__name__)

_COLUMNS = ("patch", "ra", "dec", "x", "y", "size_pixels")


def find_neighbors(
    images: SourceImages, campaign: Campaign, plan: Plan, coverage: Sequence[Coverage]
) -> list[Coverage]:
    """Find the images that complete cutouts which leave those of their patch.

    Parameters
    ----------
    images
        Images of the repository.
    campaign, plan
        The campaign, for its target table.
    coverage
        Patches that have targets, with their own datasets.

    Returns
    -------
    coverage
        The same, with datasets of neighbours where they are needed.
    """
    geometry = TractGeometry(images)
    reached: dict[tuple[int, int], set[int]] = defaultdict(set)
    for tract in plan.tracts:
        try:
            boxes = geometry.boxes(tract.tract)
        except TransientError as error:
            # What has no image to read has no cutouts to complete either.
            _LOG.warning("Cutouts of tract %d end at the edges of their images: %s", tract.tract, error)
            continue
        with contextlib.closing(TargetFile(campaign.targets / tract.path)) as file:
            leaving = [patch for patch in file.patches if _may_leave(file, patch, boxes.get(patch))]
            for targets in file.read(leaving, columns=_COLUMNS):
                patch = targets.column("patch")[0].as_py()
                x, y = targets.column("x").to_numpy(), targets.column("y").to_numpy()
                if np.isnan(x).any():
                    ra, dec = targets.column("ra").to_numpy(), targets.column("dec").to_numpy()
                    x, y = geometry.pixels(tract.tract, ra, dec)
                sizes = targets.column("size_pixels").to_numpy()
                reached[tract.tract, patch] |= reached_patches(patch, x, y, sizes, boxes)
    wanted = {(tract, other) for (tract, _), others in reached.items() for other in others}
    datasets = images.found(wanted)
    return [
        dataclasses.replace(
            patch,
            neighbors={
                (other, band): ref
                for other in sorted(reached[patch.tract, patch.patch])
                for band, ref in sorted(datasets.get((patch.tract, other), {}).items())
                if band in patch.datasets
            },
        )
        for patch in coverage
    ]


def _may_leave(file: TargetFile, patch: int, home: Box | None) -> bool:
    """Tell by the extremes of targets whether a cutout may leave its image:
    in most patches none does, and no row need be read.
    """
    if home is None:
        return False
    limits = [file.limits(patch, name) for name in ("y", "x", "size_pixels")]
    if None in limits:
        # One rule gives pixels to all targets of a campaign, or to none.
        return True
    (y_low, y_high), (x_low, x_high), (_, size) = (pair for pair in limits if pair is not None)
    reach = size / 2 + 1
    return (
        y_low - reach < home.y0
        or y_high + reach > home.y1
        or x_low - reach < home.x0
        or x_high + reach > home.x1
    )


def reached_patches(
    patch: int, x: np.ndarray, y: np.ndarray, size: np.ndarray, boxes: Mapping[int, Box]
) -> set[int]:
    """Tell which other patches' images cutouts reach where their own ends.

    Parameters
    ----------
    patch
        Patch of the targets.
    x, y
        Targets, zero-based tract pixels, shape ``(n,)``.
    size
        Sides of the cutouts in pixels, shape ``(n,)``.
    boxes
        Tract pixels of the image of each patch.

    Returns
    -------
    patches
        Those that have pixels of any cutout which the own image has not.
    """
    home = boxes.get(patch)
    known = np.isfinite(x) & np.isfinite(y)
    if home is None or not known.any():
        return set()
    x, y, size = x[known], y[known], size[known]
    y0, x0 = first_pixel(y, size), first_pixel(x, size)
    y1, x1 = y0 + size, x0 + size
    leaves = (y0 < home.y0) | (y1 > home.y1) | (x0 < home.x0) | (x1 > home.x1)
    y0, y1, x0, x1 = (edge[leaves] for edge in (y0, y1, x0, x1))
    if not len(y0):
        return set()
    all_of_them = Box(y0=int(y0.min()), y1=int(y1.max()), x0=int(x0.min()), x1=int(x1.max()))
    reached = set()
    for other, box in boxes.items():
        if other == patch or box.intersection(all_of_them) is None:
            continue
        low_y, high_y = np.maximum(y0, box.y0), np.minimum(y1, box.y1)
        low_x, high_x = np.maximum(x0, box.x0), np.minimum(x1, box.x1)
        touches = (low_y < high_y) & (low_x < high_x)
        at_home = (low_y >= home.y0) & (high_y <= home.y1) & (low_x >= home.x0) & (high_x <= home.x1)
        if (touches & ~at_home).any():
            reached.add(other)
    return reached
