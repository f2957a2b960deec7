# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Sizes of cutouts: what the request and its catalog ask for, in pixels."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa

from ..errors import UserError
from ..request import MAX_SIZE_PIXELS, SizeArcsec, SizeColumn
from ..tables import field_unit
from .text import numbers_from

__all__ = ("MOST_SIZES", "SizeCensus", "SizeRule", "choose_sizes")

MOST_SIZES = 20
"""Largest number of different sizes in one request."""

TOLERANCE_PIXELS = 1e-6
"""How much larger than a whole number a size may come out without being
rounded up: 12.6 arcsec are 63 pixels of 0.2 arcsec, and not 64."""

_UNITS: dict[str, Literal["pixel", "arcsec"]] = {
    **dict.fromkeys(("", "pixel", "pixels", "pix", "px"), "pixel"),
    **dict.fromkeys(("arcsec", "arcsecs", "arcsecond", "arcseconds", "asec", "angle[arcsec]", '"'), "arcsec"),
}


@dataclasses.dataclass(frozen=True)
class SizeRule:
    """How sizes become whole numbers of pixels."""

    fixed: float | None
    """The size that all cutouts have; `None` if a column tells."""

    unit: Literal["pixel", "arcsec"]
    """Unit of what is asked for."""

    bins: tuple[int, ...]
    """The sizes that there may be, ascending; any if empty."""

    column: str = ""
    """Column of the catalog, if one tells."""

    @property
    def needs_scale(self) -> bool:
        """Whether the size of a pixel must be known."""
        return self.unit == "arcsec"

    def asked(self, values: pa.Array | None, n: int) -> np.ndarray:
        """Read what is asked for.

        Parameters
        ----------
        values
            Values of the column; `None` if there is none.
        n
            Number of rows.

        Returns
        -------
        asked
            In the rule's unit, float64; NaN for what is missing or no number.
        """
        if self.fixed is not None or values is None:
            return np.full(n, self.fixed, dtype=np.float64)
        return np.asarray(numbers_from(values).to_numpy(zero_copy_only=False), dtype=np.float64)

    def pixels(self, asked: np.ndarray, pixel_scale_arcsec: float = 1.0) -> np.ndarray:
        """Turn sizes into pixels.

        Parameters
        ----------
        asked
            Sizes in the rule's unit, NaN for none.
        pixel_scale_arcsec
            Side of a pixel, for sizes in arcsec.

        Returns
        -------
        pixels
            Sides of the cutouts, int32, rounded up; 0 where the size cannot
            be used.
        """
        exact = np.asarray(asked, dtype=np.float64)
        with np.errstate(invalid="ignore"):
            if self.needs_scale:
                exact = exact / pixel_scale_arcsec
            rounded = np.maximum(np.ceil(exact - TOLERANCE_PIXELS), 1.0)
            is_good = (exact > 0) & (rounded <= MAX_SIZE_PIXELS)
            if not self.needs_scale and not self.bins:
                is_good &= exact == np.floor(exact)
        pixels = np.where(is_good, rounded, 0).astype(np.int32)
        if self.bins:
            bins = np.array([*self.bins, 0], dtype=np.int32)
            pixels = np.where(is_good, bins[np.searchsorted(bins[:-1], pixels)], 0).astype(np.int32)
        return pixels

    def is_size(self, asked: np.ndarray) -> np.ndarray:
        """Tell which values may be sizes, before the pixels are known.

        Parameters
        ----------
        asked
            What `asked` gives.

        Returns
        -------
        is_size
            Whether it is positive and finite.
        """
        with np.errstate(invalid="ignore"):
            return np.asarray((asked > 0) & np.isfinite(asked))

    def problem(self, asked: float, pixel_scale_arcsec: float | None = None) -> str:
        """Say what is wrong with a size.

        Parameters
        ----------
        asked
            The size, which `pixels` gives 0 for.
        pixel_scale_arcsec
            Side of a pixel, if it is known.

        Returns
        -------
        problem
            What is allowed, to follow the value in a message.
        """
        if not asked > 0 or not np.isfinite(asked):
            if self.needs_scale or self.bins:
                unit = "arcsec" if self.needs_scale else "pixels"
                return f"must be a number of {unit} above 0"
            return f"must be a whole number of pixels from 1 to {MAX_SIZE_PIXELS}"
        scale = pixel_scale_arcsec if self.needs_scale else None
        what = "" if scale is None else f", {asked / scale:.1f} pixels of {scale:.6g} arcsec"
        if self.bins and (scale is None or asked / scale - TOLERANCE_PIXELS <= MAX_SIZE_PIXELS):
            return f"larger than the largest of size_bins ({', '.join(map(str, self.bins))}){what}"
        if self.needs_scale or self.bins:
            return f"larger than {MAX_SIZE_PIXELS} pixels{what}"
        return f"must be a whole number of pixels from 1 to {MAX_SIZE_PIXELS}"


def choose_sizes(
    size: int | SizeArcsec | SizeColumn, bins: tuple[int, ...], *, path: Path, schema: pa.Schema
) -> tuple[SizeRule, list[str]]:
    """Find out how sizes become pixels.

    Parameters
    ----------
    size
        What the request says.
    bins
        Its ``size_bins``.
    path
        The catalog, for messages.
    schema
        Its columns; the one that ``size`` names is among them.

    Returns
    -------
    rule
        The rule.
    warnings
        What the user should know about it.

    Raises
    ------
    UserError
        Raised if the unit of the column is not known.
    """
    if isinstance(size, int):
        return SizeRule(size, "pixel", bins), []
    if isinstance(size, SizeArcsec):
        return SizeRule(size.arcsec, "arcsec", bins), []
    stated = field_unit(schema.field(size.column))
    known = _UNITS.get(stated.lower())
    if size.unit is not None:
        warnings = []
        if stated and known != size.unit:
            warnings.append(
                f"Catalog {path}: column {size.column} states the unit {stated!r}; its sizes are taken for "
                f"{size.unit}, as the request says."
            )
        return SizeRule(None, size.unit, bins, size.column), warnings
    if known is None:
        raise UserError(
            f"Catalog {path}: column {size.column} states the unit {stated!r}; sizes must be in pixel or "
            "arcsec. Convert the column, or say in the request what it is: size: {column: "
            f"{size.column}, unit: arcsec}}."
        )
    return SizeRule(None, known, bins, size.column), []


class SizeCensus:
    """Counts the different sizes that a catalog asks for.

    Parameters
    ----------
    path
        The catalog, for messages.
    rule
        How sizes become pixels; not one that needs the size of a pixel.
    """

    def __init__(self, path: Path, rule: SizeRule) -> None:
        self._where = f"Catalog {path}, column {rule.column}"
        self._rule = rule
        self._seen = np.zeros(MAX_SIZE_PIXELS + 1, dtype=bool)

    def see(self, values: pa.Array, *, start: int) -> None:
        """Look at some rows.

        Parameters
        ----------
        values
            Values of the column.
        start
            Not used.
        """
        self._seen[self._rule.pixels(self._rule.asked(values, len(values)))] = True

    def check(self) -> None:
        """Make sure that there are not too many sizes.

        Raises
        ------
        UserError
            Raised if there are more than `MOST_SIZES`.
        """
        n_sizes = int(np.count_nonzero(self._seen[1:]))
        if n_sizes > MOST_SIZES:
            raise UserError(
                f"{self._where} asks for {n_sizes} different sizes; at most {MOST_SIZES} are allowed in one "
                "request. Round them up to fewer with the field size_bins, as in size_bins: [32, 64, 128, "
                "256]."
            )
