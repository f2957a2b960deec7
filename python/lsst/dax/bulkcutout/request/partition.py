# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""The partition of a product in a request: which rows share a file."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pydantic
from pydantic import BeforeValidator

from ..errors import did_you_mean
from ..tables import HEALPIX_ORDER
from .checks import whole_number
from .field_types import Part

__all__ = ("PARTITIONS", "Partition")

PARTITIONS = ("tract", "patch", "healpix")
"""What the files of a product can be partitioned by."""


MAX_HEALPIX_ORDER = 29
"""Highest order whose pixel numbers fit in 64 bits."""


def _check_partition(value: Any) -> Any:
    if value not in PARTITIONS:
        hint = did_you_mean(value, PARTITIONS) if isinstance(value, str) else ""
        raise ValueError(f"must be one of {', '.join(PARTITIONS)}{hint}")
    return value


def _check_order(value: Any, info: pydantic.ValidationInfo) -> int | None:
    by = info.data.get("by")
    if by == "healpix":
        return HEALPIX_ORDER if value is None else _whole_order(value)
    if value is not None and by is not None:
        raise ValueError(f"is for 'by: healpix' alone; leave it out, or partition by healpix, not by {by}")
    return None


_whole_order = whole_number(0, MAX_HEALPIX_ORDER, unit="orders (nside is 2 to this power)")


class Partition(Part):
    """How the product is split into files."""

    by: Annotated[Literal["tract", "patch", "healpix"], BeforeValidator(_check_partition)] = "tract"
    """What the files are partitioned by: tract, patch or healpix."""

    order: Annotated[int | None, BeforeValidator(_check_order)] = pydantic.Field(
        default=None, validate_default=True
    )
    """Order of the HEALPix pixels (nested, of the ICRS positions); 4 by
    default, only with healpix."""

    max_rows_per_file: Annotated[int, BeforeValidator(whole_number(1, 10**9, unit="rows"))] = 100_000
    """Largest number of rows in one file."""

    max_bytes_per_file: Annotated[int, BeforeValidator(whole_number(1, 10**13, unit="bytes"))] = 2_000_000_000
    """Largest size of one file."""
