# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""The layout of HATS catalogs: which files hold rows, which do not."""

from __future__ import annotations

import csv
import dataclasses
import json
import re
from collections.abc import Mapping
from pathlib import Path

from ..errors import UserError

__all__ = ("Hats", "find_hats", "hats_files")

KINDS = ("object", "source", "nested")
"""What a catalog with one position in each row is."""

_PROPERTIES = ("hats.properties", "properties", "catalog_info.json", "collection.properties")
_PIXEL = re.compile(r"Norder=(\d+)/(?:Dir=\d+/)?Npix=(\d+)(?:\.parquet|/.*\.parquet)")


@dataclasses.dataclass(frozen=True)
class Hats:
    """What the properties of a catalog say."""

    path: Path
    """Its directory."""

    n_rows: int | None
    """How many rows it has."""

    positions: Mapping[str, str]
    """Columns of ``ra`` and ``dec``."""


def find_hats(path: Path) -> Hats | None:
    """Look whether a directory is a HATS catalog.

    Parameters
    ----------
    path
        The directory.

    Returns
    -------
    hats
        The catalog, or the main one of a collection; `None` if it is none.

    Raises
    ------
    UserError
        Raised for a margin, an index or another table that is not a catalog
        of positions.
    """
    for name in _PROPERTIES:
        if not (path / name).is_file():
            continue
        said = _read(path / name)
        if main := said.get("hats_primary_table_url"):
            if Path(main).name != main or not (found := find_hats(path / main)):
                raise UserError(
                    f"Catalog {path} is a HATS collection, but its main catalog {main!r} is not in it: name "
                    "the directory of a catalog."
                )
            return found
        kind = said.get("dataproduct_type") or said.get("catalog_type")
        if kind is None:
            continue
        if kind not in KINDS:
            raise UserError(
                f"Catalog {path} is a HATS table of the kind {kind!r}, not a catalog: its rows are in a "
                f"catalog beside it, or are no positions. Name a catalog of the kind {' or '.join(KINDS)}."
            )
        count = said.get("hats_nrows") or said.get("total_rows") or ""
        given = {
            "ra": said.get("hats_col_ra") or said.get("ra_column"),
            "dec": said.get("hats_col_dec") or said.get("dec_column"),
        }
        positions = {role: name for role, name in given.items() if name}
        return Hats(path, int(count) if count.isdecimal() else None, positions)
    return None


def hats_files(hats: Hats) -> list[Path]:
    """Find the files that hold rows.

    Parameters
    ----------
    hats
        The catalog.

    Returns
    -------
    paths
        ``Norder=*/Dir=*/Npix=*.parquet`` by order, then by pixel.

    Raises
    ------
    UserError
        Raised if there is none, or if one is missing that the catalog lists.
    """
    found: dict[tuple[int, int], list[Path]] = {}
    for root in (hats.path / "dataset", hats.path):
        for path in sorted(root.glob("Norder=*/**/*.parquet")):
            if match := _PIXEL.fullmatch(path.relative_to(root).as_posix()):
                found.setdefault((int(match[1]), int(match[2])), []).append(path)
    if not found:
        raise UserError(
            f"Catalog {hats.path} is a HATS catalog without files Norder=*/Dir=*/Npix=*.parquet: copy "
            "it anew."
        )
    listed = _listed_pixels(hats.path / "partition_info.csv")
    if missing := sorted(listed - set(found)):
        order, pixel = missing[0]
        raise UserError(
            f"Catalog {hats.path} is not complete: {len(missing)} of the {len(listed)} files in its "
            f"partition_info.csv are missing, Norder={order} Npix={pixel} first. Copy it anew."
        )
    return [path for _, paths in sorted(found.items()) for path in paths]


def _read(path: Path) -> dict[str, str]:
    text = path.read_text(errors="replace")
    if path.suffix == ".json":
        try:
            said = json.loads(text)
        except ValueError:
            return {}
        return {str(k): str(v) for k, v in said.items() if v is not None} if isinstance(said, dict) else {}
    pairs = (line.partition("=") for line in text.splitlines() if not line.lstrip().startswith(("#", "!")))
    return {name.strip(): value.strip() for name, sign, value in pairs if sign}


def _listed_pixels(path: Path) -> set[tuple[int, int]]:
    if not path.is_file():
        return set()
    with path.open(newline="", errors="replace") as stream:
        try:
            return {(int(row["Norder"]), int(row["Npix"])) for row in csv.DictReader(stream)}
        except (KeyError, ValueError, TypeError, csv.Error):
            return set()
