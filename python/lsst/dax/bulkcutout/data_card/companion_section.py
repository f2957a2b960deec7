# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""What the data card says of images that lack a variance, mask or PSF which
others have in files of their own.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from ..formats.hdf5_reader import HDF5Reader
from ..manifest import Manifest, ProductFile
from ..readers.companions import KINDS

__all__ = ("companion_section",)


def companion_section(directory: Path, manifest: Manifest, files: Sequence[ProductFile]) -> str:
    """Say which images lack companions that the request names.

    Parameters
    ----------
    directory
        Directory of the product.
    manifest
        Its manifest.
    files
        Its files of cutouts.

    Returns
    -------
    text
        Markdown; empty if none is lacking.
    """
    types = manifest.request.get("companions") or {}
    kinds = [kind for kind in KINDS if types.get(kind)]
    if not kinds:
        return ""
    images: set[tuple[str, str]] = set()
    there: dict[str, set[str]] = {kind: set() for kind in kinds}
    for file in files:
        with HDF5Reader(directory / file.path) as reader:
            for keys in reader.read("provenance/dataset_uuid").tolist():
                images |= {(key, band) for key, band in zip(keys, reader.bands, strict=True) if key}
            for text in filter(None, reader.read("provenance/companions").tolist()):
                for key, own in json.loads(text).items():
                    for kind in own.keys() & there.keys():
                        there[kind].add(key)
    lines = []
    for kind in kinds:
        lacking = [band for key, band in images if key not in there[kind]]
        if lacking:
            bands = ", ".join(
                f"{lacking.count(band)} in {band}" for band in manifest.bands if band in lacking
            )
            lines.append(
                f"- Of {len(images)} images {len(lacking)} have no {kind} (`{types[kind]}`), {bands}: "
                f"{_CONSEQUENCES[kind]}.\n"
            )
    return "## What some images lack\n\n" + "".join(lines) if lines else ""


_CONSEQUENCES = {
    "variance": "the variance of their pixels is NaN",
    "weight": "the variance of their pixels is NaN",
    "mask": "their mask has no plane but `NO_DATA`",
    "psf": "their cutouts have no PSF",
}
