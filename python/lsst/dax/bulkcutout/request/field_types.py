# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""What fields in several parts of a request have in common."""

from __future__ import annotations

from typing import Annotated

import pydantic
from pydantic import BeforeValidator

from .checks import path_or_uri, text

__all__ = ("Column", "DatasetTypeName", "Label", "Part", "PathText", "check_column")

check_column = text(r".+", "the name of a column of the catalog")
_check_dataset_type = text(r"[A-Za-z_][A-Za-z0-9_]*", "the name of a dataset type: letters, digits and _")


PathText = Annotated[str, BeforeValidator(path_or_uri)]
Column = Annotated[str, BeforeValidator(check_column)]
Label = Annotated[str, BeforeValidator(text(r".*", "text on one line"))]
DatasetTypeName = Annotated[str, BeforeValidator(_check_dataset_type)]


class Part(pydantic.BaseModel):
    """Base of all parts of a request.

    The string under a field is what messages tell the user about it.
    """

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)
