# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""A made-up sky for tests and for the demonstration.

Butler repositories of any tract and patch layout with real cell coadds of a
sky that is known to the last photon, catalogs of targets in it with the answer
that each should get, and the same for a real image.
"""

from __future__ import annotations

import importlib
from typing import Any

_WHERE = {
    "BANDS": "sky",
    "COMPRESSIONS": "coadds",
    "Layout": "layouts",
    "MASK_PLANES": "pixel_code",
    "Patch": "layouts",
    "PixelCode": "pixel_code",
    "Sky": "sky",
    "SkyRepository": "repositories",
    "Sources": "sky",
    "Targets": "targets",
    "Tract": "layouts",
    "empty_sky": "sky",
    "hsc_repo": "hsc",
    "make_coadd": "coadds",
    "make_repo": "repositories",
    "make_targets": "targets",
    "point_sources": "sky",
    "real_data": "hsc",
    "rings_layout": "layouts",
    "tangent_layout": "layouts",
    "tangent_tract": "layouts",
    "write_coadd": "coadds",
}

__all__ = tuple(_WHERE)


def __getattr__(name: str) -> Any:
    # Lazy: lsst.images takes seconds to import, and many tests need none of
    # it.
    if name in _WHERE:
        return getattr(importlib.import_module(f"{__name__}.{_WHERE[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
