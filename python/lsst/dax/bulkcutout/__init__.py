# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Bulk image cutouts on the Rubin middleware.

A request names a catalog of sky positions and a kind of image; the answer is
a few large files with one line for every row of the catalog.  The way of the
data, each step a module or a package:

1. `request`: a YAML or JSON file becomes a `CutoutRequest`.
2. `submit`: request and site become a campaign directory, handed to BPS.
3. BPS runs ``bulkcutout build-graph``, which is steps 4 to 6:
4. `catalog`: the user's file becomes target rows, every row numbered.
5. `discovery`: the target rows meet the sky map and the Butler: a patch and
   its datasets for each row, or a reason why not.
6. `quantum_graph_builder`: one quantum for each patch that has targets.
7. `extract_task`: opens each image once and cuts all its targets (`extract`)
   into one cutout dataset in the campaign's own datastore.
8. ``bulkcutout finish``: `repackage` turns the cutout datasets into the
   product and its manifest.
9. `open_cutouts`: reads a product back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .formats.cutouts import open_cutouts

__all__ = ("open_cutouts",)


def __getattr__(name: str) -> Any:
    # Lazy, so that a job or a service that imports this package does not pay
    # for h5py and astropy unless it reads a product.
    if name == "open_cutouts":
        from .formats.cutouts import open_cutouts

        return open_cutouts
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
