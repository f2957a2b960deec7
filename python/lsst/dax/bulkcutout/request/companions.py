# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Companions in a request: files that belong to plain FITS images."""

from __future__ import annotations

import re
from typing import Annotated, Any

import pydantic
from pydantic import BeforeValidator

from .field_types import DatasetTypeName, Part

__all__ = ("CompanionTypes",)


def _check_codes(value: Any) -> Any:
    allowed = (
        "must be a mapping of names (letters, digits and _) to different whole numbers from 1 to 2147483647"
    )
    if value is None:
        return value
    if not isinstance(value, dict) or not 0 < len(value) <= 30:
        raise ValueError(f"{allowed}, at most 30 of them")
    for name, code in value.items():
        if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]{0,49}", name):
            raise ValueError(f"{allowed}; {name!r} is no such name")
        if type(code) is not int or not 0 < code < 1 << 31:
            raise ValueError(f"{allowed}; {name} is {code!r}")
    if len(set(value.values())) != len(value):
        raise ValueError(allowed)
    return value


class CompanionTypes(Part):
    """Dataset types of files that belong to plain FITS images."""

    variance: DatasetTypeName | None = None
    """Dataset type of variances, in the square of the images' unit."""

    weight: DatasetTypeName | None = None
    """Dataset type of weights, the inverse of variances."""

    mask: DatasetTypeName | None = None
    """Dataset type of masks, images of integers."""

    psf: DatasetTypeName | None = None
    """Dataset type of PSF models, files of PSFEx or tables with a sigma."""

    mask_codes: Annotated[dict[str, int] | None, BeforeValidator(_check_codes)] = None
    """What the numbers of a mask mean that holds one number a pixel, in place
    of bits: a mapping such as {SATURATED: 3, COSMIC_RAY: 5}."""

    @property
    def types(self) -> dict[str, str]:
        """Dataset type by kind, of those that there are."""
        kinds = {"variance": self.variance, "weight": self.weight, "mask": self.mask, "psf": self.psf}
        return {kind: name for kind, name in kinds.items() if name is not None}

    @pydantic.model_validator(mode="after")
    def _fit_together(self) -> CompanionTypes:
        if self.variance is not None and self.weight is not None:
            raise ValueError("variance and weight say the same: name one of them")
        if self.mask_codes is not None and self.mask is None:
            raise ValueError("mask_codes belongs to a mask: name its dataset type")
        return self
