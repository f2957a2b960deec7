# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Pixels to fewer bits: the rule of the field ``precision`` of a request.

A step is the largest power of two that is at most sigma / N, sigma the noise
of one cutout in one band. Values go to the nearest multiple, and from the
middle between two to the even one, so that no bias comes of it (IEEE 754's own
rule). NaN and infinities stay, and so do values so large that a float32 has no
finer digits than the step.
"""

from __future__ import annotations

import math

import numpy as np

from .compiled import compiled

__all__ = ("find_steps", "round_relative", "round_to_steps")

_LEAST_STEP = 2.0**-120
"""A smaller one would meet the end of float32's exponents."""

_NO_FRACTION = 2.0**23
"""From here on a float32 is a whole number."""


@compiled
def find_steps(image: np.ndarray, variance: np.ndarray, row: int, n: int, steps: np.ndarray) -> None:
    """Find the step of each cutout.

    Parameters
    ----------
    image
        Pixels, float32, shape ``(k, pixels)``.
    variance
        Their variances, of the same shape; shape ``(0, 0)`` if there are none.
    row
        Pixels in a row.
    n
        Number of steps that fit into a sigma, at least.
    steps
        Filled with the steps, shape ``(k,)``; 0 where there is no noise to be
        found: all that is not rounded.

    Notes
    -----
    Sigma is the root of the median of those variances that are positive and
    finite. Without any it is ``1.482602 / sqrt(6)`` times the median of
    ``|2 f[i] - f[i - 2] - f[i + 2]|`` along the rows: the estimator DER_SNR of
    Stoehr et al. (2008, ADASS XVII, ASP Conf. Ser. 394, 505), which smooth
    sources do not disturb, nor noise that neighbouring pixels share.
    """
    pixels = image.shape[1]
    some = np.empty(pixels, dtype=np.float64)
    for number in range(len(image)):
        n_found = 0
        sigma = 0.0
        if len(variance):
            for index in range(pixels):
                value = np.float64(variance[number, index])
                if value > 0 and value < np.inf:
                    some[n_found] = value
                    n_found += 1
        if n_found:
            sigma = math.sqrt(np.median(some[:n_found]))
        else:
            for index in range(pixels):
                if 2 <= index % row < row - 2:
                    middle = np.float64(image[number, index])
                    value = abs(2.0 * middle - image[number, index - 2] - image[number, index + 2])
                    if value < np.inf:
                        some[n_found] = value
                        n_found += 1
            if n_found:
                sigma = 1.482602 / math.sqrt(6.0) * np.median(some[:n_found])
        steps[number] = 0.0
        if sigma > 0:
            # frexp gives the power of two above; it is twice the one below.
            step = math.ldexp(1.0, math.frexp(sigma / n)[1] - 1)
            if step >= _LEAST_STEP and step < np.inf:
                steps[number] = step


@compiled
def round_to_steps(values: np.ndarray, steps: np.ndarray, rounded: np.ndarray) -> None:
    """Round pixels to multiples of the step of their cutout.

    Parameters
    ----------
    values
        Pixels, float32, shape ``(k, pixels)``.
    steps
        Powers of two, shape ``(k,)``; 0 for what is not to be rounded.
    rounded
        Filled with the result, of the shape of ``values``.
    """
    for number in range(len(values)):
        step = np.float64(steps[number])
        for index in range(values.shape[1]):
            value = values[number, index]
            rounded[number, index] = value
            if step > 0:
                multiple = np.float64(value) / step
                # Not so for NaN.
                if abs(multiple) < _NO_FRACTION:
                    rounded[number, index] = np.rint(multiple) * step


@compiled
def round_relative(values: np.ndarray, bits: int, rounded: np.ndarray) -> None:
    """Keep so many binary digits after the first of each number.

    Parameters
    ----------
    values
        Float32 seen as int32, any number of them in one dimension.
    bits
        Number of digits, from 1 to 22.
    rounded
        Filled with the result, int32: values differ by at most ``2**-bits /
        2`` of themselves.
    """
    cut = 23 - bits
    half = 1 << (cut - 1)
    for index in range(len(values)):
        number = np.int64(values[index]) & 0xFFFFFFFF
        rounded[index] = values[index]
        if number & 0x7F800000 != 0x7F800000:
            # A carry into the exponent is what it should be: the next power
            # of two; from the largest ones it would lead to infinity.
            up = half - 1 + ((number >> cut) & 1)
            near = ((number + up) >> cut) << cut
            if near & 0x7F800000 != 0x7F800000:
                rounded[index] = near
