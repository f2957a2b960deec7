# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""What a VOTable says about its columns, and about the frames of positions."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from .frames import frame_of_coosys

__all__ = ("NUMBERS", "CoordinateSystem", "DataPiece", "VotableField", "VotableHeader", "coordinate_system")

NUMBERS: dict[str, np.dtype[Any]] = {
    "unsignedByte": np.dtype("u1"),
    "short": np.dtype(">i2"),
    "int": np.dtype(">i4"),
    "long": np.dtype(">i8"),
    "float": np.dtype(">f4"),
    "double": np.dtype(">f8"),
}
"""Numbers as they stand in binary data."""

_BITS = {"boolean": 8, "bit": 1, "char": 8, "unicodeChar": 16, "floatComplex": 64, "doubleComplex": 128}
_BITS |= {name: 8 * dtype.itemsize for name, dtype in NUMBERS.items()}


@dataclasses.dataclass(frozen=True)
class CoordinateSystem:
    """A COOSYS element."""

    frame: str
    """Text for `frames.known_frame`; empty if it states none."""

    epoch: str
    """Epoch of the positions as it is written, such as ``J2015.5``."""


@dataclasses.dataclass
class VotableField:
    """A FIELD element."""

    name: str
    """Its name, or else its ID."""

    datatype: str
    """Type of the values."""

    shape: str
    """Its arraysize, empty for a single value."""

    unit: str = ""
    """Unit, without quotation marks."""

    ucd: str = ""
    """UCD."""

    ref: str = ""
    """ID of a COOSYS element or of a group."""

    null: str | None = None
    """What stands for a missing value."""

    description: str = ""
    """Its DESCRIPTION."""

    @classmethod
    def from_attributes(cls, attributes: Mapping[str, str]) -> VotableField:
        """Read an element.

        Parameters
        ----------
        attributes
            What is written in the tag.

        Returns
        -------
        field
            The column.

        Raises
        ------
        ValueError
            Raised for a type that VOTables do not have.
        """
        name = attributes.get("name") or attributes.get("ID") or ""
        datatype = attributes.get("datatype", "")
        if datatype not in _BITS:
            raise ValueError(f"the datatype of column {name!r} is {datatype!r}")
        shape = attributes.get("arraysize", "").strip()
        if not re.fullmatch(r"|(\d{1,9}x){0,9}(\d{1,9}\*?|\*)", shape):
            raise ValueError(f"the arraysize of column {name!r} is {shape!r}")
        return cls(
            name=name,
            datatype=datatype,
            shape="" if shape == "1" else shape,
            unit=attributes.get("unit", "").strip().strip("\"'"),
            ucd=attributes.get("ucd", "").strip(),
            ref=attributes.get("ref", ""),
        )

    @property
    def is_text(self) -> bool:
        """Whether a value is text."""
        return self.datatype in ("char", "unicodeChar") and "x" not in self.shape

    @property
    def is_variable(self) -> bool:
        """Whether values differ in length."""
        return self.shape.endswith("*")

    @property
    def n_bits(self) -> int:
        """Bits of an element in binary data."""
        return _BITS[self.datatype]

    @property
    def n_bytes(self) -> int:
        """Bytes of a value in binary data, if it is not variable."""
        n = 1
        for length in filter(None, self.shape.split("x")):
            n *= int(length)
        return -(-n * self.n_bits // 8)

    def arrow(self, systems: Mapping[str, CoordinateSystem]) -> pa.Field:
        """Describe the column.

        Parameters
        ----------
        systems
            Coordinate systems of the file by ID.

        Returns
        -------
        field
            Name, type (a list for what no catalog column can be), and as
            metadata ``unit``, ``description``, ``ucd``, ``frame``, ``epoch``.
        """
        if self.is_text:
            dtype = pa.string()
        elif self.shape or self.datatype not in ("boolean", "bit", *NUMBERS):
            dtype = pa.list_(pa.float64())
        elif self.datatype in ("boolean", "bit"):
            dtype = pa.bool_()
        else:
            dtype = pa.from_numpy_dtype(NUMBERS[self.datatype].newbyteorder("="))
        system = systems.get(self.ref, CoordinateSystem("", ""))
        metadata = {
            "unit": self.unit,
            "description": " ".join(self.description.split()),
            "ucd": self.ucd,
            "frame": system.frame,
            "epoch": system.epoch,
        }
        return pa.field(self.name, dtype, metadata=metadata)


@dataclasses.dataclass
class VotableHeader:
    """A table and what is said about it."""

    number: int
    """Which of the tables it is, from 0."""

    fields: list[VotableField]
    """Its columns."""

    systems: dict[str, CoordinateSystem]
    """Coordinate systems that were stated up to it, by ID."""

    kind: str = ""
    """TABLEDATA, BINARY or BINARY2."""


@dataclasses.dataclass(frozen=True)
class DataPiece:
    """Some data of a table."""

    rows: list[list[str | None]]
    """Text of the cells of TABLEDATA, row by row; `None` where a cell is
    empty.  Rows may have too many or too few."""

    encoded: str
    """Text of the STREAM of binary data."""


def coordinate_system(attributes: Mapping[str, str]) -> CoordinateSystem:
    """Read a COOSYS element.

    Parameters
    ----------
    attributes
        What is written in the tag.

    Returns
    -------
    system
        What it says.
    """
    system, equinox = attributes.get("system", ""), attributes.get("equinox", "")
    return CoordinateSystem(frame_of_coosys(system, equinox), attributes.get("epoch", "").strip())
