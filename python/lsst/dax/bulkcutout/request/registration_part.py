# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Where a request has its outputs registered."""

from __future__ import annotations

from typing import Annotated, Any

import pydantic
from pydantic import BeforeValidator

from .checks import repository, text
from .field_types import Part

__all__ = ("RegistrationSpec",)

_check_collection = text(
    r"[A-Za-z0-9_][A-Za-z0-9_.-]*(?:/[A-Za-z0-9_][A-Za-z0-9_.-]*)*",
    "the name of a collection: words of letters, digits and _.- with / between them",
)


def _repository(value: Any, info: pydantic.ValidationInfo) -> str | None:
    return None if value is None else repository(value, info)


class RegistrationSpec(Part):
    """Where the cutout datasets are registered."""

    butler: Annotated[str | None, BeforeValidator(_repository)] = None
    """Repository that the cutout datasets are copied to: path, URI or label;
    not that of the images."""

    collection: Annotated[
        str | None, BeforeValidator(lambda value: None if value is None else _check_collection(value))
    ] = None
    """Collection that gets them, such as u/somebody/cutouts."""

    @pydantic.model_validator(mode="after")
    def _both(self) -> RegistrationSpec:
        if (self.butler is None) != (self.collection is None):
            raise ValueError("butler and collection belong together: name both or neither")
        return self
