# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Opening a catalog file with the reader that its contents ask for."""

from __future__ import annotations

from pathlib import Path

from ..errors import UserError
from .csv_file import CsvFile
from .file_bytes import CatalogBytes
from .files import CatalogFile
from .fits_file import FitsFile
from .parquet_directory import SUFFIXES, ParquetDirectory
from .parquet_file import ParquetFile
from .votable_file import VotableFile
from .votable_text import looks_like_xml

__all__ = ("open_file",)

_OTHER_FORMATS = {
    b"\x89HDF": "HDF5",
    b"PARE": "encrypted Parquet",
    b"PK\x03\x04": "a ZIP archive",
    b"\xfd7zXZ": "compressed by xz",
    b"\x1f\x9d": "compressed by compress",
}


def open_file(uri: str) -> CatalogFile:
    """Open a file or a directory.

    Parameters
    ----------
    uri
        Its path.

    Returns
    -------
    file
        What reads it.

    Raises
    ------
    UserError
        Raised if it cannot be opened, or is nothing that can be read.
    """
    if "://" in uri:
        raise UserError(
            f"Catalog {uri} is not on a local disk: copy it there and name its path in catalog.uri."
        )
    path = Path(uri)
    if path.is_dir():
        return ParquetDirectory(path)
    with CatalogBytes(path) as contents:
        start = contents.read(1024)
        is_compressed = contents.codec is not None
    if not start:
        raise UserError(f"Catalog {path} is empty: it has no bytes.")
    if start.startswith(b"PAR1"):
        if is_compressed:
            raise UserError(f"Catalog {path} is a Parquet file that was compressed again: decompress it.")
        return ParquetFile(path)
    if start.startswith(b"SIMPLE  ="):
        return FitsFile(path)
    if looks_like_xml(start):
        return VotableFile(path)
    for magic, name in _OTHER_FORMATS.items():
        if start.startswith(magic):
            raise UserError(
                f"Catalog {path} is {name}, which is not read: make it Parquet, CSV, FITS or VOTable."
            )
    if path.suffix.lower() in SUFFIXES:
        raise UserError(
            f"Catalog {path} is not a Parquet file, though its name says so: it is damaged, or the name is "
            "wrong."
        )
    return CsvFile(path)
