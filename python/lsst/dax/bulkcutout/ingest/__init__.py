# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Images that lie in a folder become a Butler repository.

`footprints` tells where they are on the sky, `companion_files` which files
belong together, `repository` writes it down.
"""

from __future__ import annotations

__all__: tuple[str, ...] = ()
