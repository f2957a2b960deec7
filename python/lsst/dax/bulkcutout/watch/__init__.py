# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""How campaigns stand.

`status` tells of one campaign; `register` knows which campaigns there are.
"""

from __future__ import annotations

__all__: tuple[str, ...] = ()
