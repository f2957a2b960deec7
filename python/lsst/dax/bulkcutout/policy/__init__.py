# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""What a campaign may cost at a site, and how long it is kept.

`site_policy` holds what the site says.
"""

from __future__ import annotations

__all__: tuple[str, ...] = ()
