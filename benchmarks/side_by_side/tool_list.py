# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""The tools: what each is called, how it runs, and how far it goes."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

__all__ = ("TOOLS", "Tool")


@dataclasses.dataclass(frozen=True)
class Tool:
    """One way of cutting a patch."""

    name: str
    script: str
    """Name of its script in ``tools/``."""

    what: str
    """What it does, for readers."""

    environment: str | None = None
    """Name of the peer's environment; `None` for that of the project."""

    most: int = 50_000
    """Number of targets beyond which it is not run, because it would take
    minutes."""

    threads: int = 1
    cuts: bool = True
    """Whether there are cutouts to check."""


TOOLS: Mapping[str, Tool] = {
    tool.name: tool
    for tool in (
        Tool("bulkcutout", "bulkcutout", "this package: the engine of a quantum, one thread"),
        Tool("bulkcutout-2", "bulkcutout", "the same with two threads", threads=2),
        Tool(
            "limit",
            "limit",
            "decodes the touched tiles by our kernels, each once, and writes as many bytes as the result "
            "has; cuts nothing",
            cuts=False,
        ),
        Tool("fitsio-planes", "fitsio_planes", "fitsio: whole planes, slices of them", "fitsio"),
        Tool("fitsio-subset", "fitsio_subset", "fitsio: a section for each cutout", "fitsio", most=1000),
        Tool("astropy", "astropy_cutout2d", "astropy: whole planes, a Cutout2D each", "astropy", most=10_000),
        Tool(
            "lsst.images",
            "lsst_images",
            "lsst.images: reads the boxes (up to ten targets) or the whole coadd and takes parts of it",
            "lsst-images",
            most=10_000,
        ),
        Tool("astrocut", "astrocut_cutout", "astrocut: a FITSCutout each, in memory", "astrocut", most=100),
    )
}
