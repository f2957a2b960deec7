# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Pixels and targets become cutouts.

`patch_cut` takes all targets of a patch through its bands, `band_cut` one band
through its images; `cut` decodes tiles and gives their pixels to all cutouts
that want them.  `place` says where a cutout is, `stitch` completes those that
leave their image, `background_swap` subtracts another background than the
stored one.
"""

from __future__ import annotations

__all__: tuple[str, ...] = ()
