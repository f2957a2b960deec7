# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Sizes of cutouts in a request: pixels, arcsec, a column, bins."""

from __future__ import annotations

from typing import Any, Literal

import pydantic

from .checks import quoted
from .field_types import Column, Part, check_column

__all__ = ("MAX_SIZE_PIXELS", "SizeArcsec", "SizeColumn", "check_size", "check_size_bins")

MAX_SIZE_PIXELS = 2000
"""Largest side of a cutout."""


MOST_BINS = 20
"""Largest number of ``size_bins``."""


class SizeArcsec(Part):
    """One size on the sky for all cutouts."""

    arcsec: float
    """Side of the cutouts in arcsec, rounded up to whole pixels."""


class SizeColumn(Part):
    """Sizes that the catalog gives row by row."""

    column: Column
    """Name of the catalog's column with the sizes."""

    unit: Literal["pixel", "arcsec"] | None = None
    """Unit of the sizes; by default what the catalog states, else pixel."""


def check_size(value: Any) -> Any:
    """Check the field ``size``.

    Parameters
    ----------
    value
        What the user wrote.

    Returns
    -------
    size
        Pixels, a `SizeArcsec` or a `SizeColumn`.

    Raises
    ------
    ValueError
        Raised with a text that says what is allowed.
    """
    allowed = (
        f"must be a whole number of pixels from 1 to {MAX_SIZE_PIXELS}, {{pixels: NUMBER}}, "
        "{arcsec: NUMBER}, or {column: NAME, unit: pixel or arcsec}"
    )
    if isinstance(value, SizeColumn | SizeArcsec):
        return value
    if isinstance(value, dict):
        if set(value) == {"pixels"}:
            value = value["pixels"]
        elif set(value) == {"arcsec"}:
            arcsec = value["arcsec"]
            if type(arcsec) not in (int, float) or not 0 < arcsec < float("inf"):
                raise ValueError(f"{allowed}; arcsec must be a number above 0")
            return SizeArcsec(arcsec=float(arcsec))
        elif "column" in value and set(value) <= {"column", "unit"}:
            if value.get("unit") not in (None, "pixel", "arcsec"):
                raise ValueError(f"{allowed}; {quoted(value['unit'])} is no unit that is known")
            return SizeColumn(column=check_column(value["column"]), unit=value.get("unit"))
    if type(value) is int and 1 <= value <= MAX_SIZE_PIXELS:
        return value
    raise ValueError(allowed)


def check_size_bins(value: Any, info: pydantic.ValidationInfo) -> Any:
    """Check the field ``size_bins``.

    Parameters
    ----------
    value
        What the user wrote.
    info
        The fields before it, ``size`` among them.

    Returns
    -------
    bins
        Pixels, ascending; `None` if there are none.

    Raises
    ------
    ValueError
        Raised with a text that says what is allowed.
    """
    allowed = f"must be a list of 1 to {MOST_BINS} different whole numbers from 1 to {MAX_SIZE_PIXELS}"
    if value is None:
        return value
    if not isinstance(value, list | tuple) or not 1 <= len(value) <= MOST_BINS:
        raise ValueError(f"{allowed}, as in [32, 64, 128, 256]")
    for each in value:
        if type(each) is not int or not 1 <= each <= MAX_SIZE_PIXELS:
            raise ValueError(f"{allowed}; {quoted(each)} is not one")
    if len(set(value)) < len(value):
        raise ValueError(allowed)
    size = info.data.get("size")
    if isinstance(size, int) and size > max(value):
        raise ValueError(f"the size of {size} pixels is larger than all of them: add a bin of {size} or more")
    return tuple(sorted(value))
