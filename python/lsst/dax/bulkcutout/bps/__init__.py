# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""All that touches BPS, and nothing else does.

`run` has it run a campaign, with what `environment` sets, and `cancel` end it;
`report` tells how it sees a run, `attempts` which runs there are; `on_cluster`
is for graphs that a job builds; `site_keys` tells it what a policy says.  BPS
itself imports `clustering`, with `resources`, and `parsl_site`.
"""

from __future__ import annotations

__all__: tuple[str, ...] = ()
