# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Shift a PSF kernel by a part of a pixel, as the coadds' own software does.

The kernel is that of a star in the middle of a pixel.  Cell coadds name
Lanczos-5 as the filter that moves it to where a star is: for a shift ``d``
the new value at ``j`` is the sum of ``k[i] sinc(t) sinc(t / 5)`` with
``t = j - i - d``, over the ten (at ``d = 0``: one) pixels with ``|t| < 5``,
divided by the sum of these weights.
"""

from __future__ import annotations

import numpy as np

__all__ = ("LANCZOS_ORDER", "lanczos", "pixel_and_rest", "shift_kernel")

LANCZOS_ORDER = 5
"""Half the number of pixels that the filter reaches over."""


def pixel_and_rest(x: float) -> tuple[int, float]:
    """Split a position into the nearest pixel and what is left.

    Parameters
    ----------
    x
        Position, pixels; centres of pixels are whole numbers.

    Returns
    -------
    pixel
        The pixel; of two that are equally near the upper one.
    rest
        From the centre of that pixel to the position, -0.5 to 0.5 (which is
        excluded).
    """
    pixel = int(np.floor(x + 0.5))
    return pixel, x - pixel


def shift_kernel(kernel: np.ndarray, *, dy: float, dx: float) -> np.ndarray:
    """Shift a kernel; positive shifts move it to larger indices.

    Parameters
    ----------
    kernel
        Shape ``(ky, kx)``.
    dy, dx
        Shift in pixels, meant for less than one.

    Returns
    -------
    shifted
        Of the same shape, float64, and with the same sum.  NaN everywhere if
        any pixel of ``kernel`` is not finite: a hole would be smeared over
        ten pixels.

    Notes
    -----
    Beyond its edge the kernel counts as zero.  What moves out on one side is
    thus lost, and nothing comes in on the other; the rest is scaled so that
    the sum is what it was.  For Rubin's kernels of 21 pixels and a seeing of
    0.9 arcsec both are less than 1e-3 of the flux.  Where a kernel ends in a
    step, or is narrower than about two pixels, the filter rings: pixels near
    there may come out slightly negative.
    """
    values = np.asarray(kernel, dtype=np.float64)
    if not np.isfinite(values).all():
        return np.full(values.shape, np.nan)
    shifted: np.ndarray = _filter(values.shape[0], dy) @ values @ _filter(values.shape[1], dx).T
    stored, left = float(values.sum()), float(shifted.sum())
    # A kernel whose light is all at its edge, or adds up to nothing, is none.
    if stored * left > 0 and 0.5 < left / stored < 2.0:
        shifted *= stored / left
    return shifted


def lanczos(distance: np.ndarray, order: int) -> np.ndarray:
    """Lanczos' interpolation kernel.

    Parameters
    ----------
    distance
        Distances in pixels, of any shape.
    order
        Number of lobes on a side.

    Returns
    -------
    weights
        ``sinc(t) sinc(t / order)``, 0 from ``order`` pixels on, of the same
        shape; not normalised.
    """
    return np.where(np.abs(distance) < order, np.sinc(distance) * np.sinc(distance / order), 0.0)


def _filter(n: int, shift: float) -> np.ndarray:
    """Weights of old pixels (columns) in new ones (rows), shape ``(n, n)``."""
    new, old = np.ogrid[:n, :n]
    weights = lanczos(new - old - shift, LANCZOS_ORDER)
    # The same ten weights in every row, but for what lies beyond the edge.
    whole = lanczos(np.arange(-LANCZOS_ORDER - 1, LANCZOS_ORDER + 2) - shift, LANCZOS_ORDER)
    return np.asarray(weights / whole.sum())
