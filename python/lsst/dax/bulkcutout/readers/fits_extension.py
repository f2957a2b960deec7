# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""The HDUs of a FITS file, one after the other."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from .fits_file import BLOCK, FitsFile
from .fits_header import FitsHeader

__all__ = ("Extension", "walk_extensions")

_MOST_HDUS = 10_000


@dataclasses.dataclass(frozen=True)
class Extension:
    """One HDU of a file."""

    name: str
    """EXTNAME, upper case."""

    number: int
    """Zero-based number of the HDU in the file."""

    header: FitsHeader
    """Its cards."""


def walk_extensions(file: FitsFile) -> Iterator[Extension]:
    """All HDUs of a file, the primary one first.

    Parameters
    ----------
    file
        The open file.

    Yields
    ------
    extension
        In the order of the file. One without a name is named by its number.

    Raises
    ------
    CorruptInputError
        Raised if the file ends within an HDU. Fewer than a block of bytes
        behind the last HDU are left alone.
    """
    header, number = file.primary, 0
    while True:
        name = _name(header, number)
        yield Extension(name=name, number=number, header=dataclasses.replace(header, name=name))
        end = header.data_address + header.data_size
        if end > file.size:
            raise file.corrupt(f"truncated, it has {file.size} bytes and HDU {number} ends at byte {end}")
        address = header.data_address + -(-header.data_size // BLOCK) * BLOCK
        number += 1
        if address + BLOCK > file.size:
            return
        if number > _MOST_HDUS:
            raise file.corrupt(f"it has more than {_MOST_HDUS} HDUs")
        if not file.read(address, 8, f"HDU {number}").startswith(b"XTENSION"):
            # The standard allows special records behind the last HDU.
            return
        header = file.header(address, f"HDU {number}")


def _name(header: FitsHeader, number: int) -> str:
    name = header.values.get("EXTNAME")
    return name.strip().upper() if isinstance(name, str) and name.strip() else f"HDU {number}"
