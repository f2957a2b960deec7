# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""What planes and processor time cost: sizes that follow from the layout of
the product, and rates that were measured.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Mapping

from ..precision import EXACT, is_rounded, steps_per_sigma

__all__ = (
    "SECONDS_PER_JOB",
    "SECONDS_PER_PACKAGED_MB",
    "Price",
    "Sample",
    "core_seconds",
    "prices",
    "quantum_seconds",
)

# Processor time of one core, measured in November 2026 on a machine with two
# cores of some 3 GHz and a local disk.
SECONDS_PER_JOB = 2.5
"""A job's start: 2.1 s for the imports, the rest for the graph."""

SECONDS_PER_QUANTUM = 0.035
"""For one target in a tiny image; more than half of it is the middleware's."""

SECONDS_PER_IMAGE = 0.02
"""Opening and kernels; opening alone takes 2 ms."""

SECONDS_PER_READ_MB = 0.0012
"""For a MB of decoded pixels: 1.0 ms for noisy floats in Rice tiles, 0.5 ms
for masks, 1.3 ms for floats in GZIP_2."""

SECONDS_PER_FILE_MB = 0.006
"""For a MB of an image's file, if all its tiles are read: 0.4 s for three
bands of a DP2 patch (Rice tiles, 70 MB)."""

TARGETS_TO_TOUCH = 125
"""Targets of 64 px, at random, that touch two thirds of the 196 tiles of a DP2
patch."""

SECONDS_PER_CUT_MB = 0.002
"""For a MB of the product: 2 s for 10,000 targets of 64 px in three bands,
with image, variance and mask (1.0 GB)."""

SECONDS_PER_PACKAGED_MB = 0.0025
"""For a MB of the product: 2.2 s for the same, a third of it checksums."""

MOST_QUANTA = 500
MOST_SECONDS = 900.0
"""Bounds of a job, where the site does not set others."""

ROUNDED_BITS = {"image": 3.8, "noise": 3.8, "variance": -1.0}
"""Bits that a pixel takes beside those of the N steps of a rounded sigma, at
least one in all: measured on a made-up sky, see ``doc/request.rst``. The rest
is the spread of the noise, and what a power of two is below the step that was
wanted; variances are smooth."""

MASK_PART = 0.05
"""Part to which masks shrink: 0.047 for those of the made-up sky."""

ROW_BYTES = 150
ROW_BAND_BYTES = 50
"""All that is not pixels: 200 bytes a row with one band, without carried
columns."""


@dataclasses.dataclass(frozen=True)
class Sample:
    """What one image of the repository tells of all; or what is assumed."""

    is_assumed: bool = True
    """Whether no image could be opened."""

    tile_shape: tuple[int, int] = (256, 256)
    """Rows and columns of the tiles that are read whole."""

    psf_shape: tuple[int, int] = (51, 51)
    """Rows and columns of a PSF kernel; 0 if there are none."""

    n_noise: int = 0
    """Number of noise realisations."""

    n_fractions: int = 0
    """Number of planes with mask fractions."""


@dataclasses.dataclass(frozen=True)
class Price:
    """What a plane costs."""

    plane: str
    """Name of the plane, as in the request; or ``columns`` for all that is not
    pixels."""

    bytes: int
    """Size in the product."""

    wanted: bool
    """Whether it was asked for."""

    remark: str = ""
    """What there is to say of it."""


def prices(
    planes: Collection[str],
    rows_by_size: Mapping[int, int],
    *,
    n_bands: int,
    sample: Sample,
    precision: str = EXACT,
) -> tuple[Price, ...]:
    """Work out the size of each plane in the product.

    Parameters
    ----------
    planes
        What was asked for.
    rows_by_size
        Number of cutouts by their side in pixels.
    n_bands
        Length of the band axis.
    sample
        What is known of the images.
    precision
        How exact float planes are to be.

    Returns
    -------
    prices
        One for each plane that a request can name and the images have.
    """
    rows = sum(rows_by_size.values())
    pixels = n_bands * sum(n * size * size for size, n in rows_by_size.items())
    kernel = sample.psf_shape[0] * sample.psf_shape[1]
    noise = f"{sample.n_noise} realisation{'s' if sample.n_noise > 1 else ''}"
    found = [
        ("image", 4 * pixels, ""),
        ("variance", 4 * pixels, ""),
        ("mask", round(4 * pixels * MASK_PART), "compressed, by experience"),
        ("psf", 4 * n_bands * rows * kernel, "kernels of {} x {} px".format(*sample.psf_shape)),
        ("noise", 4 * pixels * sample.n_noise, noise),
        ("mask_fraction", 4 * pixels * sample.n_fractions, f"{sample.n_fractions} planes"),
    ]
    found = [_rounded(name, size, remark, precision) for name, size, remark in found]
    columns = Price("columns", rows * (ROW_BYTES + n_bands * ROW_BAND_BYTES), True)
    return (*(Price(name, size, name in planes, remark) for name, size, remark in found if size), columns)


def _rounded(plane: str, size: int, remark: str, precision: str) -> tuple[str, int, str]:
    if not is_rounded(plane, precision):
        return plane, size, remark
    bits = max(1.0, math.log2(steps_per_sigma(precision)) + ROUNDED_BITS[plane])
    return plane, round(size * bits / 32), f"{remark}, compressed, by experience".removeprefix(", ")


def quantum_seconds(*, rows: int, images: int, image_bytes: int, product_bytes: int) -> float:
    """Work out the processor time of a quantum before any image is opened.

    Parameters
    ----------
    rows
        Number of targets.
    images
        Number of images to open.
    image_bytes
        Size of their files.
    product_bytes
        Size of the cutouts in the product.

    Returns
    -------
    seconds
        Time on one core, without a part in the start of the job; within a
        factor of two of what was measured from 1 to 10,000 targets.
    """
    touched = -math.expm1(-rows / TARGETS_TO_TOUCH)
    return (
        SECONDS_PER_QUANTUM
        + SECONDS_PER_IMAGE * images
        + SECONDS_PER_FILE_MB * 1e-6 * image_bytes * touched
        + SECONDS_PER_CUT_MB * 1e-6 * product_bytes
    )


def core_seconds(*, quanta: int, images: int, read_pixels: int, n_planes: int, written_bytes: int) -> float:
    """Work out the processor time of a campaign.

    Parameters
    ----------
    quanta
        Number of quanta.
    images
        Number of images to open.
    read_pixels
        Pixels of the tiles to be read, of all images.
    n_planes
        Planes that are read of each.
    written_bytes
        Size of the product.

    Returns
    -------
    seconds
        Time on one core.
    """
    seconds = (
        SECONDS_PER_QUANTUM * quanta
        + SECONDS_PER_IMAGE * images
        + SECONDS_PER_READ_MB * 4e-6 * read_pixels * n_planes
        + (SECONDS_PER_CUT_MB + SECONDS_PER_PACKAGED_MB) * 1e-6 * written_bytes
    )
    # As many jobs as config/bulkcutout_bps.yaml makes of a large campaign.
    jobs = max(math.ceil(quanta / MOST_QUANTA), math.ceil(seconds / MOST_SECONDS))
    return seconds + SECONDS_PER_JOB * jobs
