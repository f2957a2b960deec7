# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""A product certifies itself by stars of known flux.

`certify` leads: `star_selection` finds the stars, `photometry` measures each,
`star_statistics` judges them all, `picture` shows it.
"""

from __future__ import annotations

__all__: tuple[str, ...] = ()
