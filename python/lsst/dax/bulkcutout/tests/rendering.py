# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Pixels of the made-up sky: the sources, variance and mask of one image.

Everything but the constant of an image depends on tract pixels alone, so that
overlapping patches of one cell grid show the same values.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from ..boxes import Box
from .layouts import Patch, Tract
from .noise import blemishes, depth, non_negative
from .sky import BANDS, Sky, Sources

__all__ = ("Picture", "Psf", "cell_psf", "render")

# Gaussian mixtures of profiles with half-light radius 1: least-squares fits
# over radii 0.02 to 4 (exponential) and 0.02 to 8 (de Vaucouleurs).
_DISC = ((0.023, 0.1905, 0.447, 0.3364), (0.03, 0.2, 0.7, 2.0))
_BULGE = ((0.0469, 0.2288, 0.3181, 0.2024, 0.1763), (0.002, 0.05, 0.6, 3.0, 15.0))
# The same for a Moffat profile, in units of its full width squared.
_MOFFAT = ((0.26, 0.53, 0.21), (0.12, 0.30, 1.2))
_MOFFAT_VARIANCES = np.array(_MOFFAT[1])
_MAX_RADIUS = 110
"""Largest half side of a source's picture, px; less than the margin of
`Sky.sources`, so that all images agree on which sources reach a pixel."""


@dataclasses.dataclass(frozen=True)
class Psf:
    """An elliptical Moffat profile."""

    fwhm: float
    """Full width at half maximum, px."""

    e1: float = 0.0
    """Ellipticity along the axes."""

    e2: float = 0.0
    """Ellipticity along the diagonals."""

    beta: float = 3.0
    """Exponent."""

    @property
    def alpha(self) -> float:
        """Scale radius, px."""
        return self.fwhm / (2.0 * math.sqrt(2.0 ** (1.0 / self.beta) - 1.0))

    def profile(self, dy: np.ndarray, dx: np.ndarray) -> np.ndarray:
        """Values at offsets from the centre, 1 at the centre.

        Parameters
        ----------
        dy, dx
            Offsets, px.

        Returns
        -------
        values
            Of the broadcast shape.
        """
        norm = math.sqrt(1.0 - self.e1**2 - self.e2**2)
        r2 = ((1 - self.e1) * dx**2 - 2 * self.e2 * dx * dy + (1 + self.e1) * dy**2) / norm
        values: np.ndarray = (1.0 + r2 / self.alpha**2) ** -self.beta
        return values

    def kernel(self, shape: tuple[int, int] = (21, 21)) -> np.ndarray:
        """Picture of the PSF centred on a pixel; its sum is 1.

        Parameters
        ----------
        shape
            Rows and columns, both odd.

        Returns
        -------
        kernel
            Of the given shape.
        """
        y, x = np.ogrid[: shape[0], : shape[1]]
        kernel = self.profile(y - shape[0] // 2, x - shape[1] // 2)
        return np.asarray(kernel / kernel.sum())

    def star(self, dy: np.ndarray, dx: np.ndarray) -> np.ndarray:
        """Picture of a star of unit flux at any sub-pixel place.

        Parameters
        ----------
        dy, dx
            Offsets of the pixels from the star, px.

        Returns
        -------
        pixels
            What `kernel` has where the offsets are whole pixels, and its
            continuation outside: the wings beyond the kernel come on top.
        """
        y, x = np.ogrid[-10:11, -10:11]
        return self.profile(dy, dx) / float(self.profile(y, x).sum())


@dataclasses.dataclass
class Picture:
    """One rendered image, as arrays of the patch's outer box."""

    image: np.ndarray
    """Values without noise and constant, nJy, float64."""

    variance: np.ndarray
    """Variance, nJy**2, float64."""

    planes: dict[str, np.ndarray]
    """Boolean pictures of mask planes."""


def cell_psf(sky: Sky, tract: Tract, band: str, origin: tuple[int, int]) -> Psf:
    """The PSF of one cell.

    Parameters
    ----------
    sky
        The sky.
    tract
        The tract.
    band
        Band.
    origin
        First pixel of the cell, ``(y, x)``, tract pixels.

    Returns
    -------
    psf
        The same for all patches that share the cell.
    """
    n = BANDS.index(band)
    rng = np.random.default_rng([sky.seed, 1, tract.id, n, *non_negative(origin)])
    scatter, e1, e2 = rng.standard_normal(3)
    fwhm = (
        sky.seeing_arcsec[n] / tract.pixel_scale_arcsec * (1.0 + sky.seeing_scatter * np.clip(scatter, -3, 3))
    )
    return Psf(float(fwhm), *(float(0.04 * np.clip(e, -3, 3)) for e in (e1, e2)))


def render(sky: Sky, tract: Tract, patch: Patch, band: str) -> Picture:
    """Draw one image.

    Parameters
    ----------
    sky
        The sky.
    tract, patch
        Where.
    band
        Band.

    Returns
    -------
    picture
        Without noise, constant and missing cells.
    """
    box = patch.outer
    n = BANDS.index(band)
    sources = sky.sources(tract, box)
    x, y = tract.sky_to_pixel(sources.ra, sources.dec)
    stars = np.zeros(box.shape)
    others = np.zeros(box.shape)
    sigma = max(sky.noise_njy[n], 0.1)
    psfs: dict[tuple[int, int], Psf] = {}
    for k in range(len(sources)):
        origin = _cell_origin(patch, float(y[k]), float(x[k]))
        if origin not in psfs:
            psfs[origin] = cell_psf(sky, tract, band, origin)
        psf = psfs[origin]
        if sources.is_star[k]:
            _add_star(stars, box, psf, float(y[k]), float(x[k]), float(sources.flux[k, n]), sigma)
        else:
            _add_galaxy(others, box, psf, float(y[k]), float(x[k]), sources[k : k + 1], n, tract, sigma)
    saturated = _grow(stars > sky.saturation_njy, 2)
    core = _grow(stars > 2 * sky.saturation_njy, 1)
    model = np.minimum(stars, sky.saturation_njy) + others
    planes = {
        "SATURATED": saturated,
        "INTERPOLATED": core,
        "DETECTED": _grow(model > sigma, 1),
    }
    if sky.blemishes:
        for name, plane in blemishes(sky, tract, box, band):
            planes[name] = planes.get(name, False) | plane
    planes["INTERPOLATED"] = planes["INTERPOLATED"] | planes.get("COSMIC_RAY", False)
    rejected = saturated.copy()
    for name in ("COSMIC_RAY", "CLIPPED"):
        rejected |= planes.get(name, False)
    planes["REJECTED"] = rejected
    planes["INEXACT_PSF"] = rejected | planes.get("INEXACT_PSF", False)
    variance = sky.noise_njy[n] ** 2 * depth(sky, tract, patch, band) + sky.source_noise_njy * model
    return Picture(model, variance, planes)


def _add_star(image: np.ndarray, box: Box, psf: Psf, y: float, x: float, flux: float, sigma: float) -> None:
    # The radius at which the wings have sunk far below the noise.
    peak = flux * (psf.beta - 1) / (math.pi * psf.alpha**2)
    radius = psf.alpha * max(peak / (0.2 * sigma), 1.0) ** (0.5 / psf.beta)
    stamp = _stamp(y, x, radius, box)
    if stamp is not None:
        rows, columns = np.ogrid[stamp.y0 : stamp.y1, stamp.x0 : stamp.x1]
        image[stamp.slices(box)] += flux * psf.star(rows - y, columns - x)


def _add_galaxy(
    image: np.ndarray,
    box: Box,
    psf: Psf,
    y: float,
    x: float,
    source: Sources,
    band: int,
    tract: Tract,
    sigma: float,
) -> None:
    radius = float(source.radius_arcsec[0]) / tract.pixel_scale_arcsec
    # Bright ones reach farther above the noise.
    reach = 0.6 * math.log10(1.0 + float(source.flux[0, band]) / sigma)
    stamp = _stamp(y, x, (3.0 + reach) * radius + (1.2 + reach) * psf.fwhm, box)
    if stamp is None:
        return
    angle = math.radians(float(source.position_angle_deg[0]))
    major = np.array([math.sin(angle), math.cos(angle)])
    minor = np.array([math.cos(angle), -math.sin(angle)])
    to_pixels = np.linalg.inv(np.array(tract.cd)) / 3600.0
    rows, columns = np.ogrid[stamp.y0 : stamp.y1, stamp.x0 : stamp.x1]
    dy, dx = rows - y, columns - x
    bulge = float(source.bulge_fraction[0, band])
    weights, covariances = [], []
    for fraction, mixture, size, axis_ratio in (
        (1.0 - bulge, _DISC, 1.0, float(source.axis_ratio[0])),
        (bulge, _BULGE, 0.5, max(float(source.axis_ratio[0]), 0.6)),
    ):
        shape = np.outer(major, major) + axis_ratio**2 * np.outer(minor, minor)
        shape = (size * float(source.radius_arcsec[0])) ** 2 * (to_pixels @ shape @ to_pixels.T)
        # Every Gaussian of the profile convolved with every one of the PSF.
        profile_weights, psf_weights = (np.array(w) / sum(w) for w in (mixture[0], _MOFFAT[0]))
        weights.append(fraction * np.outer(profile_weights, psf_weights).ravel())
        profile = np.multiply.outer(np.array(mixture[1]), shape)[:, np.newaxis]
        covariances.append(
            (profile + np.multiply.outer(_MOFFAT_VARIANCES, psf.fwhm**2 * np.eye(2))).reshape(-1, 2, 2)
        )
    weight, covariance = np.concatenate(weights), np.concatenate(covariances)
    used = weight > 0
    weight, covariance = weight[used], covariance[used]
    inverse = np.linalg.inv(covariance)[:, :, :, np.newaxis, np.newaxis]
    r2 = inverse[:, 0, 0] * dx**2 + 2 * inverse[:, 0, 1] * (dx * dy) + inverse[:, 1, 1] * dy**2
    amplitude = weight / (2 * math.pi * np.sqrt(np.linalg.det(covariance)))
    total = np.tensordot(amplitude, np.exp(-0.5 * r2), axes=1)
    image[stamp.slices(box)] += float(source.flux[0, band]) * total


def _stamp(y: float, x: float, radius: float, box: Box) -> Box | None:
    half = min(max(math.ceil(radius), 10), _MAX_RADIUS)
    row, column = round(y), round(x)
    return Box(row - half, row + half + 1, column - half, column + half + 1).intersection(box)


def _cell_origin(patch: Patch, y: float, x: float) -> tuple[int, int]:
    """First pixel of the cell of a position, even beyond the patch."""
    ny, nx = patch.cell_shape
    return (
        patch.outer.y0 + (math.floor(y + 0.5) - patch.outer.y0) // ny * ny,
        patch.outer.x0 + (math.floor(x + 0.5) - patch.outer.x0) // nx * nx,
    )


def _grow(plane: np.ndarray, steps: int) -> np.ndarray:
    """A boolean picture spread by some pixels."""
    grown = plane.copy()
    for _ in range(steps if plane.any() else 0):
        wider = grown.copy()
        wider[1:] |= grown[:-1]
        wider[:-1] |= grown[1:]
        wider[:, 1:] |= grown[:, :-1]
        wider[:, :-1] |= grown[:, 1:]
        grown = wider
    return grown
