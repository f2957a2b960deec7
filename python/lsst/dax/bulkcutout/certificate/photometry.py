# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""PSF photometry of one star: flux at a given place, and where the star is."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from ..psf_shift import pixel_and_rest, shift_kernel

__all__ = ("StarFit", "fit_star")

_DIFFERENCE = 0.1
"""Half the distance of two models whose difference is a gradient, px."""

_MOST_STEPS = 8
_SMALL_STEP = 1e-3
_FARTHEST = 3.0
"""A star that seems farther from its place than this, px, is not found."""


@dataclasses.dataclass(frozen=True)
class StarFit:
    """What `fit_star` has measured."""

    flux: float
    """Flux of a star at the given place, in the unit of the image (times the
    sum of the kernel)."""

    flux_sigma: float
    """Its standard deviation, from the variance plane alone."""

    background: float
    """Level below the star, a pixel; 0 if it was not fitted."""

    dx: float
    """How far the star is to the right of the given place, px; NaN if it was
    not found near there."""

    dy: float
    """How far it is above that place, px; NaN as ``dx``."""

    offset_sigma: float
    """Standard deviation of ``dx`` and of ``dy`` (their mean square), px."""

    light: float
    """Part of the kernel's sum that lies on usable pixels."""


def fit_star(
    image: np.ndarray,
    variance: np.ndarray,
    bad: np.ndarray,
    kernel: np.ndarray,
    *,
    y: float,
    x: float,
    fit_background: bool = True,
) -> StarFit | None:
    """Fit the PSF to a star.

    Parameters
    ----------
    image
        Pixels around it, shape ``(ny, nx)``.
    variance
        Their variance, unit of the image squared.
    bad
        Pixels to leave out, bool; those whose image or variance is not finite
        or whose variance is not positive are left out as well.
    kernel
        PSF of a star in the middle of a pixel, shape ``(ky, kx)``, centred at
        ``[ky // 2, kx // 2]``.
    y, x
        Where the star should be, zero-based pixels of the image.
    fit_background
        Whether a constant is fitted beside the star.

    Returns
    -------
    fit
        `None` where the kernel is not finite, or too few pixels are usable.

    Notes
    -----
    Least squares with the weights ``1 / variance``, on the pixels that the
    kernel covers.  The flux is that of a star at the given place, whether it
    is there or not.  The place is found in a second fit that has the two
    gradients of the model beside it, repeated from where the last one led.
    """
    if not np.isfinite(kernel).all():
        return None
    usable = np.isfinite(image) & np.isfinite(variance) & (np.nan_to_num(variance) > 0) & ~bad
    model = _model(kernel, image.shape, y, x)
    total = float(kernel.sum())
    light = float(model[usable].sum()) / total if total else 0.0
    used = usable & (_model(np.ones_like(kernel), image.shape, y, x, shifted=False) > 0)
    n_terms = 4 if fit_background else 3
    if np.count_nonzero(used) <= n_terms:
        return None
    data, weights = image[used].astype(np.float64), 1.0 / variance[used].astype(np.float64)
    constant = [np.ones(len(data))] if fit_background else []
    fitted = _least_squares(np.stack([model[used], *constant]), data, weights)
    if fitted is None:
        return None
    values, covariance = fitted
    dx, dy, offset_sigma = math.nan, math.nan, math.nan
    place = _find(image.shape, used, kernel, data, weights, constant, y, x)
    if place is not None:
        dx, dy, offset_sigma = place
    return StarFit(
        flux=float(values[0]),
        flux_sigma=math.sqrt(covariance[0, 0]),
        background=float(values[1]) if fit_background else 0.0,
        dx=dx,
        dy=dy,
        offset_sigma=offset_sigma,
        light=light,
    )


def _find(
    shape: tuple[int, ...],
    used: np.ndarray,
    kernel: np.ndarray,
    data: np.ndarray,
    weights: np.ndarray,
    constant: list[np.ndarray],
    y: float,
    x: float,
) -> tuple[float, float, float] | None:
    """Centre by steps of a linear fit: (dx, dy, standard deviation)."""
    dy = dx = 0.0
    for _ in range(_MOST_STEPS):
        here = _model(kernel, shape, y + dy, x + dx)[used]
        along_y, along_x = (
            (
                _model(kernel, shape, y + dy + step_y, x + dx + step_x)[used]
                - _model(kernel, shape, y + dy - step_y, x + dx - step_x)[used]
            )
            / (2 * _DIFFERENCE)
            for step_y, step_x in ((_DIFFERENCE, 0.0), (0.0, _DIFFERENCE))
        )
        fitted = _least_squares(np.stack([here, along_y, along_x, *constant]), data, weights)
        if fitted is None or fitted[0][0] <= 0:
            return None
        values, covariance = fitted
        # Half a pixel at most: the gradient is not straight for longer.
        step_y, step_x = (float(np.clip(values[k] / values[0], -0.5, 0.5)) for k in (1, 2))
        dy, dx = dy + step_y, dx + step_x
        if math.hypot(dy, dx) > _FARTHEST:
            return None
        if math.hypot(step_y, step_x) < _SMALL_STEP:
            break
    sigma = math.sqrt((covariance[1, 1] + covariance[2, 2]) / 2) / float(values[0])
    return dx, dy, sigma


def _least_squares(
    terms: np.ndarray, data: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray] | None:
    normal = (terms * weights) @ terms.T
    try:
        covariance = np.linalg.inv(normal)
    except np.linalg.LinAlgError:
        return None
    if not (np.diag(covariance) > 0).all():
        return None
    return covariance @ ((terms * weights) @ data), covariance


def _model(
    kernel: np.ndarray, shape: tuple[int, ...], y: float, x: float, *, shifted: bool = True
) -> np.ndarray:
    """Put a kernel on an empty image, its centre at a place."""
    (row, dy), (column, dx) = pixel_and_rest(y), pixel_and_rest(x)
    stamp = shift_kernel(kernel, dy=dy, dx=dx) if shifted else kernel
    model = np.zeros(shape)
    top, left = row - kernel.shape[0] // 2, column - kernel.shape[1] // 2
    bottom, right = top + kernel.shape[0], left + kernel.shape[1]
    there = (slice(max(top, 0), max(bottom, 0)), slice(max(left, 0), max(right, 0)))
    part = stamp[max(-top, 0) :, max(-left, 0) :]
    target = model[there]
    target[...] = part[: target.shape[0], : target.shape[1]]
    return model
