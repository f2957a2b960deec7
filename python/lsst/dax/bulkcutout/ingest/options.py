# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""The options of ``bulkcutout ingest``, checked and carried out."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from ..errors import UserError
from .footprints import BandRule
from .ingest_report import IngestReport
from .repository import ingest

__all__ = ("ingest_named",)


def ingest_named(
    paths: Sequence[Path],
    repo: Path,
    *,
    dataset_type: str,
    collection: str,
    skymap: str | None,
    band: str | None,
    band_from: str | None,
    companions: Sequence[str],
) -> IngestReport:
    """Do what the options of the command line say.

    Parameters
    ----------
    paths, repo, dataset_type, collection, skymap
        As for `ingest`.
    band, band_from
        One of the two, or none: see `BandRule`.
    companions
        Items ``KIND=PATTERN``.

    Returns
    -------
    report
        What came of each file.

    Raises
    ------
    UserError
        Raised if an option is wrong; and as for `ingest`.
    """
    for option, value, pattern in (
        ("--dataset-type", dataset_type, r"[A-Za-z_][A-Za-z0-9_]*"),
        ("--collection", collection, r"[A-Za-z0-9_][A-Za-z0-9_.+:@/-]*"),
        ("--skymap", skymap or "default", r"[A-Za-z0-9_][A-Za-z0-9_.+-]*"),
        ("--band", band or "default", r"[A-Za-z0-9_]{1,50}"),
    ):
        if not re.fullmatch(pattern, value):
            raise UserError(f"{option} {value}: must be a name of letters, digits and _.")
    if band is not None and band_from is not None:
        raise UserError("Give --band or --band-from, not both.")
    try:
        re.compile(band_from or "")
    except re.error as error:
        raise UserError(
            f"--band-from {band_from}: is no FITS card and no regular expression: {error}"
        ) from error
    given = {}
    for text in companions:
        kind, sign, pattern = text.partition("=")
        if not sign:
            raise UserError(f"--companion {text}: must be KIND=PATTERN, such as weight='*_wht.fits'.")
        if kind in given:
            raise UserError(f"--companion {text}: {kind} is given twice.")
        given[kind] = pattern
    if {"variance", "weight"} <= given.keys():
        raise UserError("--companion: give variance or weight (its inverse), not both.")
    return ingest(
        paths,
        repo,
        dataset_type=dataset_type,
        collection=collection,
        skymap=skymap,
        bands=BandRule(band, band_from),
        companions=given,
    )
