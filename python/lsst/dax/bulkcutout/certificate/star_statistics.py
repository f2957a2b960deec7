# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""What measured stars say of a product: medians, widths, and whether they are
as they should be.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator

import numpy as np

__all__ = (
    "BRIGHT",
    "FAINTEST",
    "LEAST_STARS",
    "LIMITS",
    "TOO_BRIGHT",
    "BandResult",
    "Quantity",
    "describe",
    "judge_band",
)

LIMITS = {"flux_ratio": 0.01, "offset_px": 0.05, "pull_width": 0.1}
"""Largest distance from 1, 0 and 1."""

LEAST_STARS = 30
"""A band with fewer stars is not certified."""

BRIGHT = 20.0
"""Signal to noise from which flux ratio and place of a star are taken."""

FAINTEST = 5.0
"""Signal to noise from which the pull of a star is taken."""

TOO_BRIGHT = 200.0
"""Signal to noise up to which it is taken: beyond, the last half percent of
the PSF shows, and pulls would not tell of the noise."""


@dataclasses.dataclass(frozen=True)
class Quantity:
    """One number of the certificate, and whether it is as it should be."""

    value: float
    """The number; NaN where it could not be measured."""

    error: float
    """Its standard error from the number of stars."""

    expected: float
    """What it should be."""

    limit: float
    """How far from that it may be; with few stars farther by twice its error,
    but never more than twice as far."""

    one_sided: bool = False
    """Whether smaller numbers are in order."""

    @property
    def passed(self) -> bool:
        """Whether it is within the limit."""
        distance = self.value - self.expected
        if not self.one_sided:
            distance = abs(distance)
        # A fault can make the error large as well: it excuses only so much.
        return bool(distance <= self.limit + min(2 * self.error, self.limit))


@dataclasses.dataclass(frozen=True)
class BandResult:
    """What the stars say of one band."""

    band: str
    """The band."""

    stars: int
    """Number of stars that were measured."""

    quantities: dict[str, Quantity]
    """By name: flux_ratio, offset_x_px, offset_y_px, offset_ra_arcsec,
    offset_dec_arcsec, offset_scatter_px, sky_scatter_arcsec, pull_width."""

    measured: dict[str, np.ndarray]
    """The single stars, arrays of one length: ``number`` (of the cutout),
    ``truth``, ``flux``, ``sigma`` (nJy), ``dx``, ``dy``, ``offset_sigma``
    (px), ``d_ra``, ``d_dec`` (arcsec on the sky; measured less catalog)."""

    @property
    def passed(self) -> bool:
        """Whether there are enough stars, and all is within limits."""
        return self.stars >= LEAST_STARS and all(value.passed for value in self.quantities.values())


def judge_band(
    band: str, stars: dict[str, np.ndarray], pixel_scale_arcsec: float, *, same_images: bool = False
) -> BandResult:
    """Compare the stars of a band with their catalog.

    Parameters
    ----------
    band
        Its name.
    stars
        The single stars, as `BandResult.measured` has them.
    pixel_scale_arcsec
        Side of a pixel.
    same_images
        Whether the catalog's fluxes have the same noise, so that pulls may be
        narrower than 1.

    Returns
    -------
    result
        All quantities and whether they are as they should be.
    """
    # By what the catalog says: a choice by the measured flux would favour
    # those whose noise is positive.
    signal = stars["truth"] / stars["sigma"]
    bright = signal >= BRIGHT
    offset = LIMITS["offset_px"]
    quantities = {
        "flux_ratio": Quantity(*_median((stars["flux"] / stars["truth"])[bright]), 1.0, LIMITS["flux_ratio"])
    }
    for name, column, limit in (
        ("offset_x_px", "dx", offset),
        ("offset_y_px", "dy", offset),
        ("offset_ra_arcsec", "d_ra", offset * pixel_scale_arcsec),
        ("offset_dec_arcsec", "d_dec", offset * pixel_scale_arcsec),
    ):
        # A star that is not found where it should be has no offset at all.
        lost = ~np.isfinite(stars[column][bright])
        value, error = _median(np.where(lost, np.inf, stars[column][bright]))
        quantities[name] = Quantity(value, error, 0.0, limit)
    for name, columns, unit, limit in (
        ("offset_scatter_px", ("dx", "dy"), 1.0, offset),
        ("sky_scatter_arcsec", ("d_ra", "d_dec"), pixel_scale_arcsec, offset * pixel_scale_arcsec),
    ):
        across, along = (stars[column][bright] for column in columns)
        scatter = _excess_scatter(across, along, unit * stars["offset_sigma"][bright])
        quantities[name] = Quantity(*scatter, 0.0, limit, one_sided=True)
    fair = (signal >= FAINTEST) & (signal <= TOO_BRIGHT)
    pulls = ((stars["flux"] - stars["truth"]) / stars["sigma"])[fair]
    quantities["pull_width"] = Quantity(*_width(pulls), 1.0, LIMITS["pull_width"], one_sided=same_images)
    return BandResult(band=band, stars=len(signal), quantities=quantities, measured=stars)


def describe(band: BandResult) -> Iterator[tuple[str, str]]:
    """Say in words what was found.

    Parameters
    ----------
    band
        Results of a band.

    Yields
    ------
    name
        Name of a quantity.
    value
        Its value, its error, and in parentheses what is allowed.
    """
    for name, quantity in band.quantities.items():
        unit = next((f" {unit}" for unit in ("px", "arcsec") if name.endswith(f"_{unit}")), "")
        text = name.removesuffix("_px").removesuffix("_arcsec").replace("_", " ")
        allowed = f"{quantity.expected:g} +- {quantity.limit:.2g}"
        if quantity.one_sided:
            allowed = f"at most {quantity.expected + quantity.limit:.3g}"
        value = f"{quantity.value:.4f} +- {quantity.error:.4f}{unit} ({allowed})"
        yield text, f"{value}{'' if quantity.passed else '  OUT OF LIMITS'}"


def _median(values: np.ndarray) -> tuple[float, float]:
    """Median and its standard error."""
    if not len(values):
        return math.nan, math.nan
    middle = float(np.median(values))
    if not math.isfinite(middle):
        return math.nan, math.nan
    sigma = 1.4826 * float(np.median(np.abs(values - middle)))
    return middle, 1.2533 * sigma / math.sqrt(len(values))


def _width(pulls: np.ndarray) -> tuple[float, float]:
    """Standard deviation without the outliers, and its standard error."""
    if len(pulls) < 2:
        return math.nan, math.nan
    middle = float(np.median(pulls))
    width = 1.4826 * float(np.median(np.abs(pulls - middle)))
    for _ in range(20):
        kept = pulls[np.abs(pulls - middle) <= 3.0 * width]
        # A Gaussian that is cut at three sigma is 1.35 % narrower.
        new = float(np.std(kept, ddof=1)) * 1.0136 if len(kept) > 1 else math.nan
        middle, done, width = float(np.mean(kept)), abs(new - width) < 1e-9, new
        if done or not math.isfinite(width):
            break
    return width, width * 0.75 / math.sqrt(len(pulls))


def _excess_scatter(dx: np.ndarray, dy: np.ndarray, sigma: np.ndarray) -> tuple[float, float]:
    """Scatter of the places on each axis beyond that of the noise.

    It is the ``e`` for which half the stars are nearer than a Gaussian of
    variance ``sigma**2 + e**2`` has it: transposed or mirrored pixels leave
    the median offset where it was, but not this.
    """
    if not len(dx):
        return math.nan, math.nan
    lost = ~(np.isfinite(dx) & np.isfinite(dy) & np.isfinite(sigma))
    r2 = np.where(lost, np.inf, dx**2 + dy**2)
    noise2 = np.where(lost, 0.0, sigma**2)

    def too_small(e2: float) -> bool:
        with np.errstate(divide="ignore"):
            return bool(np.median(r2 / (noise2 + e2)) > 2.0 * math.log(2.0))

    if too_small(100.0):
        return math.nan, math.nan
    low, high = 0.0, 100.0
    if not too_small(0.0):
        return 0.0, 0.0
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if too_small(middle) else (low, middle)
    value = math.sqrt(high)
    return value, 0.72 * math.sqrt(float(np.median(noise2)) + high) / math.sqrt(len(dx))
