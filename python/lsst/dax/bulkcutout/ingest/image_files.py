# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""FITS files of folders."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from .ingest_report import IngestReport

__all__ = ("find_files",)

SUFFIXES = (".fits", ".fit", ".fts", ".fz", ".psf")
"""What files of a folder are called that are looked at."""

_PACKED = (".gz", ".bz2", ".xz", ".zst", ".z", ".zip")


def find_files(paths: Iterable[Path], report: IngestReport) -> list[Path]:
    """Find the files that are to be ingested.

    Parameters
    ----------
    paths
        Files, and folders that are searched with all that is in them.
    report
        Told of what is not there, packed, or empty.

    Returns
    -------
    files
        Absolute paths, each once; those of a folder in the order of their
        names.
    """
    found: dict[Path, None] = {}
    for path in paths:
        path = Path(path).absolute()
        if path.is_dir():
            everything = sorted(each for each in path.rglob("*") if each.is_file())
            inside = [each for each in everything if each.suffix.lower() in SUFFIXES]
            for each in everything:
                if each.suffix.lower() in _PACKED and Path(each.stem).suffix.lower() in SUFFIXES:
                    report.refused.append((each, f"{each}: it is packed: unpack it first."))
            if not inside:
                report.notes.append(f"{path} holds no FITS files ({', '.join(SUFFIXES)}).")
            found |= dict.fromkeys(inside)
        elif path.exists():
            found[path] = None
        else:
            report.refused.append((path, f"{path}: there is no such file."))
    return list(found)
