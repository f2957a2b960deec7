# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""What a user asks for: a YAML or JSON file becomes a `CutoutRequest`.

`cutout_request` leads: it has all fields, and puts what is wrong with them
into words.  The larger fields are modules: `catalog_part`, `companions`,
`sizes`, `partition`, `notify_part`.  `field_types` and `checks` are what they
share, `file` reads a file, `fields` says what is wrong with what it holds.
"""

from __future__ import annotations

from ..planes import DEFAULT_PLANES, PLANES
from .catalog_part import CatalogSpec, EpochColumn
from .companions import CompanionTypes
from .cutout_request import FORMATS, CutoutRequest, Labels, check_request, load_request
from .notify_part import NotifySpec
from .partition import PARTITIONS, Partition
from .registration_part import RegistrationSpec
from .sizes import MAX_SIZE_PIXELS, SizeArcsec, SizeColumn

__all__ = (
    "DEFAULT_PLANES",
    "FORMATS",
    "MAX_SIZE_PIXELS",
    "PARTITIONS",
    "PLANES",
    "CatalogSpec",
    "CompanionTypes",
    "CutoutRequest",
    "EpochColumn",
    "Labels",
    "NotifySpec",
    "Partition",
    "RegistrationSpec",
    "SizeArcsec",
    "SizeColumn",
    "check_request",
    "load_request",
)
