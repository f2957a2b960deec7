# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Sky maps: which tract and patch a position belongs to.

`rings` is the observatory's formula, `tract_planes` has the projections of its
tracts, `rings_locator` applies both to positions; `region_locator` does the
same for maps without a formula.  `locate` says what both of them tell.
"""

from __future__ import annotations

__all__: tuple[str, ...] = ()
