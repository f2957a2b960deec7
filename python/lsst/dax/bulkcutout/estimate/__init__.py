# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""What a request will give and cost, without carrying it out.

`forecast` leads; `working_out` counts, with the constants of `cost`, what a
campaign that was planned will need, and `numbers` shows it; `picture` shows
where, by
the map of `sky_view` and the lines of `sky_grid`.
"""

from __future__ import annotations

__all__: tuple[str, ...] = ()
