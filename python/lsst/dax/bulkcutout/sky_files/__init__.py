# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""What a product has for Aladin and TOPCAT.

`product` writes `coverage_map` and `status_votable`, both from
`cutout_corners`.
"""

from __future__ import annotations

__all__: tuple[str, ...] = ()
