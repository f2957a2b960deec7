# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Targets meet the sky map and the Butler.

`discover` leads; `source_images` asks the registry (and
`requested_names` whether it has what is asked for), `tract_geometry` knows
where images are in the pixels of a tract, `tract_sizes` turns arcsec into
pixels, `fallback` finds another patch where one has no image, `refused_rows`
keeps what no quantum will see.  `neighbors` says which images complete large
cutouts, `image_probe` looks into one image of each band, `patch_census` counts
for an estimate.
"""

from __future__ import annotations

__all__: tuple[str, ...] = ()
