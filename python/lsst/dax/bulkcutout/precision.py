# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""How exact float planes are: the words of a request, and what they mean."""

from __future__ import annotations

import re
from typing import Any

__all__ = ("EXACT", "LEAST_STEPS", "MOST_STEPS", "check_precision", "is_rounded", "steps_per_sigma")

EXACT = "exact"
"""The precision that leaves all pixels as they are."""

LEAST_STEPS = 2
"""With fewer steps in a sigma rounding adds more than one percent to the
noise: its variance is a twelfth of a step squared."""

MOST_STEPS = 256
"""With more, what is saved is hardly worth it, and images are stored with
fewer themselves (Rubin's coadds: 32 or less)."""

_ROUNDED = ("image", "variance", "noise")
"""A mask is bits; a PSF kernel is small, and its wings are far below any noise
of its own; weights of mask fractions are few different numbers already."""


def check_precision(value: Any) -> str:
    """Check the precision of a request.

    Parameters
    ----------
    value
        What the user wrote.

    Returns
    -------
    precision
        The same.

    Raises
    ------
    ValueError
        Raised for anything that is neither `EXACT` nor ``sigma/N``.
    """
    found = re.fullmatch(r"sigma/([1-9][0-9]{0,3})", value) if isinstance(value, str) else None
    n = int(found[1]) if found else 0
    if value != EXACT and not (LEAST_STEPS <= n <= MOST_STEPS and n & (n - 1) == 0):
        raise ValueError(
            f"must be {EXACT}, or sigma/N with N a power of two from {LEAST_STEPS} to {MOST_STEPS}, as in "
            "sigma/16"
        )
    return str(value)


def steps_per_sigma(precision: str) -> int:
    """Give the number N of ``sigma/N``.

    Parameters
    ----------
    precision
        A checked precision.

    Returns
    -------
    n
        0 if all is exact.
    """
    return 0 if precision == EXACT else int(precision.partition("/")[2])


def is_rounded(plane: str, precision: str) -> bool:
    """Tell whether a plane is rounded.

    Parameters
    ----------
    plane
        One of `planes.PLANES`.
    precision
        A checked precision.

    Returns
    -------
    rounded
        Whether its pixels are rounded, and compressed.
    """
    return precision != EXACT and plane in _ROUNDED
