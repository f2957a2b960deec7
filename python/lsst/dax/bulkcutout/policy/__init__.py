# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""What a campaign may cost at a site, and how long it is kept.

`site_policy` holds what the site says.  `check` holds a campaign to it, by
`request_rules` before it is planned and by `cost_rules` when its cost is
known; `active` tells which campaigns are at work.  `purge` deletes campaigns
whose `lifetime` is over, with care (`deletion`).
"""

from __future__ import annotations

__all__: tuple[str, ...] = ()
