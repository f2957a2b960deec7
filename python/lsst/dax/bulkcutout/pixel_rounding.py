# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Cutouts of one band, rounded as the request wants it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from .precision import EXACT, is_rounded, steps_per_sigma

__all__ = ("STEP_COLUMNS", "round_pixels")

STEP_COLUMNS = ("image_step", "variance_step")
"""What is kept of the rounding, for each target and band: the step of image
and noise, in their unit, and that of the variance, relative to it."""


def round_pixels(pixels: Mapping[str, np.ndarray], precision: str) -> dict[str, np.ndarray]:
    """Round what is to be rounded.

    Parameters
    ----------
    pixels
        Planes of some cutouts, each of shape ``(k, size, size)``: the image,
        and what else there is, such as ``variance`` and ``noise/0``.
    precision
        A checked precision.

    Returns
    -------
    rounded
        The same planes, those of floats rounded, with `STEP_COLUMNS`, shape
        ``(k,)``. Variances are rounded to half a sigma's share: theirs is a
        relative step, because a step that suits the sky would be none for a
        star.
    """
    if precision == EXACT:
        return dict(pixels)
    # Numba is only for those who round.
    from .kernels.rounding import find_steps, round_relative, round_to_steps

    n = steps_per_sigma(precision)
    flat = {
        name: np.ascontiguousarray(values, dtype=np.float32).reshape(len(values), -1)
        for name, values in pixels.items()
        if name in ("image", "variance") or name.startswith("noise/")
    }
    some = next(iter(pixels.values()))
    steps = np.zeros(len(some), dtype=np.float32)
    if "image" in flat:
        variance = flat.get("variance", np.empty((0, 0), dtype=np.float32))
        find_steps(flat["image"], variance, some.shape[2], n, steps)
    rounded = dict(pixels)
    for name, values in flat.items():
        if not is_rounded(name.partition("/")[0], precision):
            continue
        result = np.empty_like(values)
        if name == "variance":
            round_relative(values.reshape(-1).view("i4"), n.bit_length(), result.reshape(-1).view("i4"))
        else:
            round_to_steps(values, steps, result)
        rounded[name] = result.reshape(pixels[name].shape)
    relative = np.full(len(some), 0.5 / n if "variance" in flat else 0.0, dtype=np.float32)
    return rounded | {"image_step": steps, "variance_step": relative}
