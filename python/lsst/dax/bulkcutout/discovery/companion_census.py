# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Which images lack the companions that a request names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .source_images import Coverage

__all__ = ("lacking_companions",)

_CONSEQUENCES = {
    "variance": "the variance is NaN in their pixels",
    "weight": "the variance is NaN in their pixels",
    "mask": "their mask has no plane but NO_DATA",
    "psf": "their cutouts have no PSF",
}


def lacking_companions(coverage: Sequence[Coverage], types: Mapping[str, str]) -> list[str]:
    """Say which images lack a companion.

    Parameters
    ----------
    coverage
        Patches with all images that are cut, and their companions.
    types
        Dataset types of companions, by kind.

    Returns
    -------
    warnings
        A sentence for each kind that an image lacks.
    """
    images = {
        (patch.tract, *place)
        for patch in coverage
        for place in [*((patch.patch, band) for band in patch.datasets), *patch.neighbors]
    }
    warnings = []
    for kind, name in types.items():
        there = {(patch.tract, *place) for patch in coverage for place in patch.companions.get(kind, ())}
        if lacking := sorted(images - there):
            tract, patch_id, band = lacking[0]
            warnings.append(
                f"Of {len(images)} images {len(lacking)} have no {kind} (dataset type {name!r}): "
                f"{_CONSEQUENCES[kind]}. The first is tract {tract}, patch {patch_id}, band {band}."
            )
    return warnings
