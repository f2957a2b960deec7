# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Units of pixels, and what they are in nanojansky."""

from __future__ import annotations

import dataclasses
import math
import re

__all__ = ("NANOJANSKY", "UNKNOWN", "Flux", "flux_unit", "of_zero_point")

NANOJANSKY = "nJy"
UNKNOWN = "unknown"
"""The unit of pixels that nothing is said about."""

_NJY_PER_MAGGY = 10 ** (31.4 / 2.5)
_JANSKY = re.compile(r"(?P<prefix>[numkMG]|µ|μ|micro|nano|milli)?(?:Jy|Jansky|jansky|janskys)")
_MAGGY = re.compile(r"(?P<prefix>[num]|µ|μ|micro|nano|milli)?(?:mgy|mgys|[mM]aggy|[mM]aggies|Mgy)")
_COUNTS = re.compile(r"(adus?|dn|counts?|ct|cts|electrons?|e-?)", re.IGNORECASE)
_FACTORS = {
    None: 1.0,
    "n": 1e-9,
    "nano": 1e-9,
    "u": 1e-6,
    "µ": 1e-6,
    "μ": 1e-6,
    "micro": 1e-6,
    "m": 1e-3,
    "milli": 1e-3,
    "k": 1e3,
    "M": 1e6,
    "G": 1e9,
}


@dataclasses.dataclass(frozen=True)
class Flux:
    """The unit of an image plane."""

    unit: str
    """The unit of the pixels that are handed out: nJy, or the file's own."""

    factor: float = 1.0
    """What a number of the file is multiplied with; that of a variance by its
    square."""

    is_counts: bool = False
    """Whether the unit is an instrument's own, or not stated: a zero point
    can tell what it means."""


def flux_unit(text: str | None) -> Flux:
    """What a unit means.

    Parameters
    ----------
    text
        The unit as the file has it; `None` if it has none.

    Returns
    -------
    flux
        Nanojansky and the factor to it, for every unit of spectral flux
        density that is known; otherwise the unit as it is, because nobody
        can tell what it is worth.
    """
    name = (text or "").strip()
    if not name:
        return Flux(UNKNOWN, is_counts=True)
    if match := _JANSKY.fullmatch(name):
        # Powers of ten, so that nJy is exactly one.
        return Flux(NANOJANSKY, 10.0 ** (9 + round(math.log10(_FACTORS[match["prefix"]]))))
    if match := _MAGGY.fullmatch(name):
        return Flux(NANOJANSKY, _FACTORS[match["prefix"]] * _NJY_PER_MAGGY)
    return Flux(name, is_counts=_COUNTS.fullmatch(name) is not None)


def of_zero_point(counts_at_zero: float) -> Flux:
    """The unit of counts whose zero point is known.

    Parameters
    ----------
    counts_at_zero
        Counts of a source of AB magnitude 0 (FLUXMAG0).

    Returns
    -------
    flux
        Nanojansky, and the factor from counts.
    """
    return Flux(NANOJANSKY, 10 ** ((31.4 - 2.5 * math.log10(counts_at_zero)) / 2.5))
