# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Does the repository have what a request names?"""

from __future__ import annotations

from collections.abc import Iterable

from lsst.daf.butler import Butler, DatasetType, MissingCollectionError, MissingDatasetTypeError

from ..errors import UserError, did_you_mean
from ..request import CutoutRequest

__all__ = ("check_names", "find_skymap")


def check_names(butler: Butler, request: CutoutRequest) -> None:
    """Check that the repository has what a request names.

    Parameters
    ----------
    butler
        The source repository.
    request
        What the user asked for.

    Raises
    ------
    UserError
        Raised if it lacks a dataset type, collection or band; the message
        has the nearest names.
    """
    try:
        dataset_type = butler.get_dataset_type(request.dataset_type)
    except MissingDatasetTypeError:
        known = [found.name for found in butler.registry.queryDatasetTypes(...)]
        raise _unknown("dataset_type", request.dataset_type, known) from None
    _check_dimensions("dataset_type", dataset_type)
    for kind, name in request.companions.types.items():
        try:
            _check_dimensions(f"companions.{kind}", butler.get_dataset_type(name))
        except MissingDatasetTypeError:
            known = [found.name for found in butler.registry.queryDatasetTypes(...)]
            raise _unknown(f"companions.{kind}", name, known) from None
    for collection in request.collections:
        try:
            butler.collections.get_info(collection)
        except MissingCollectionError:
            known = list(butler.collections.query("*"))
            raise _unknown("collections", collection, known) from None
    if request.bands != "all":
        records = butler.query_dimension_records("band", limit=None, explain=False)
        known = [str(record.name) for record in records]
        for band in request.bands:
            if band not in known:
                raise _unknown("bands", band, known)


def find_skymap(butler: Butler, request: CutoutRequest) -> str:
    """Find the sky map that a request is about.

    Parameters
    ----------
    butler
        The source repository.
    request
        What the user asked for.

    Returns
    -------
    skymap
        Its name.

    Raises
    ------
    UserError
        Raised if there is none of the name that was asked for, or no name and
        not one map alone.
    """
    records = butler.query_dimension_records("skymap", limit=None, explain=False)
    known = sorted(str(record.name) for record in records)
    if (asked := request.skymap) is not None:
        if asked not in known:
            raise _unknown("skymap", asked, known)
        return asked
    if len(known) != 1:
        raise UserError(
            f"Request field 'skymap': the repository has {len(known)} sky maps "
            f"({', '.join(known) or 'none'}); name the one that the images are on."
        )
    return known[0]


def _check_dimensions(field: str, dataset_type: DatasetType) -> None:
    dimensions = set(dataset_type.dimensions.required)
    if dimensions != {"band", "skymap", "tract", "patch"}:
        raise UserError(
            f"Request field {field!r}: {dataset_type.name!r} has dimensions "
            f"{', '.join(sorted(dimensions))}; cutouts need a coadd, with band, skymap, tract and patch."
        )


def _unknown(field: str, value: str, known: Iterable[str]) -> UserError:
    known = sorted(known)
    shown = ", ".join(known[:20]) + (", ..." if len(known) > 20 else "")
    return UserError(
        f"Request field {field!r}: the repository has no {value!r}{did_you_mean(value, known)}. "
        f"It has: {shown or 'none'}."
    )
