# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Columns of FITS binary tables: how their values stand in a row."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import numpy as np
import pyarrow as pa

__all__ = ("FitsColumn", "fits_columns")

_TFORM = re.compile(r"(\d{0,9})([LXBIJKAEDCMPQ])")
_WIDTHS = {"L": 1, "B": 1, "I": 2, "J": 4, "K": 8, "A": 1, "E": 4, "D": 8, "C": 8, "M": 16, "P": 8, "Q": 16}
_NUMBERS = {"B": "u1", "I": ">i2", "J": ">i4", "K": ">i8", "E": ">f4", "D": ">f8"}
_UNSIGNED = {"B": -(2.0**7), "I": 2.0**15, "J": 2.0**31, "K": 2.0**63}
"""TZERO for integers of the other kind: signed for B, unsigned for others."""

_OPPOSITE: dict[str, np.dtype[Any]] = {
    "B": np.dtype("i1"),
    "I": np.dtype("u2"),
    "J": np.dtype("u4"),
    "K": np.dtype("u8"),
}


@dataclasses.dataclass
class FitsColumn:
    """A column, and how to get its values out of rows."""

    field: pa.Field
    """Name, type (a list for what no catalog column can be), unit, UCD and
    description."""

    code: str
    """Letter of TFORM."""

    raw: np.dtype
    """Type of the bytes."""

    offset: int
    """Where they begin in a row."""

    scale: float = 1.0
    """TSCAL."""

    zero: float = 0.0
    """TZERO."""

    null: int | None = None
    """TNULL."""

    has_odd_text: bool = False
    """Whether text was met that is not UTF-8."""

    def values(self, raw: np.ndarray) -> pa.Array:
        """Convert values.

        Parameters
        ----------
        raw
            Values as they stand in the file, of the type `raw`.

        Returns
        -------
        values
            Of the type of `field`; null for TNULL, blank text and truth
            values that are neither T nor F.
        """
        if self.code == "A":
            return self._text(raw)
        if self.code == "L":
            is_true = raw == ord("T")
            return pa.array(is_true, mask=~is_true & (raw != ord("F")))
        mask = None if self.null is None else raw == self.null
        numbers = raw.astype(raw.dtype.newbyteorder("="))
        if self._is_opposite:
            # The sign bit turned over is what adding TZERO does.
            sign = np.array(1 << (8 * numbers.dtype.itemsize - 1)).astype(_OPPOSITE_BITS[self.code])
            numbers = (numbers.view(sign.dtype) ^ sign).view(_OPPOSITE[self.code])
        elif (self.scale, self.zero) != (1.0, 0.0):
            numbers = numbers.astype(np.float64) * self.scale + self.zero
        return pa.array(numbers, mask=mask)

    @property
    def _is_opposite(self) -> bool:
        return self.scale == 1.0 and self.zero == _UNSIGNED.get(self.code)

    def _text(self, raw: np.ndarray) -> pa.Array:
        width = raw.dtype.itemsize
        characters = np.ascontiguousarray(raw).view(np.uint8).reshape(len(raw), width)
        is_nul = characters == 0
        if is_nul.any():
            # Text ends at the first one, whatever follows.
            characters = np.where(np.logical_or.accumulate(is_nul, axis=1), ord(" "), characters)
        texts = np.char.rstrip(np.ascontiguousarray(characters).view(f"S{width}")[:, 0])
        is_blank = texts == b""
        binary = pa.array(texts.tolist(), pa.binary(), mask=is_blank)
        try:
            return binary.cast(pa.string())
        except pa.ArrowInvalid:
            self.has_odd_text = True
            return pa.array([t.decode(errors="replace") for t in texts.tolist()], mask=is_blank)


_OPPOSITE_BITS = {"B": np.uint8, "I": np.uint16, "J": np.uint32, "K": np.uint64}


def fits_columns(header: Any, row_bytes: int) -> list[FitsColumn]:
    """Read what a header says about columns.

    Parameters
    ----------
    header
        Header of a binary table, as astropy reads it.
    row_bytes
        NAXIS1, the length of a row.

    Returns
    -------
    columns
        All columns.

    Raises
    ------
    ValueError
        Raised if it does not fit together.
    """
    columns: list[FitsColumn] = []
    offset = 0
    for n in range(1, header["TFIELDS"] + 1):
        form = str(header.get(f"TFORM{n}", "missing")).strip()
        if not (match := _TFORM.match(form)):
            raise ValueError(f"TFORM{n} is {form!r}")
        repeat, code = int(match[1] or 1), match[2]
        width = -(-repeat // 8) if code == "X" else repeat * _WIDTHS[code]
        columns.append(_column(header, n, code, repeat, offset))
        offset += width
        if offset > row_bytes:
            break
    if offset != row_bytes:
        raise ValueError(f"its columns have {offset} bytes a row or more, and NAXIS1 is {row_bytes}")
    return columns


def _column(header: Any, n: int, code: str, repeat: int, offset: int) -> FitsColumn:
    def text(keyword: str) -> str:
        value = header.get(f"{keyword}{n}", "")
        return value.strip() if isinstance(value, str) else ""

    def number(keyword: str, default: float) -> float:
        value = header.get(f"{keyword}{n}", default)
        if not isinstance(value, int | float):
            raise ValueError(f"{keyword}{n} is {value!r}")
        return float(value)

    raw: np.dtype[Any] = np.dtype(f"V{repeat}")
    scale, zero = 1.0, 0.0
    null = None
    if code == "A" and repeat > 0 and not text("TDIM"):
        raw, dtype = np.dtype(f"S{repeat}"), pa.string()
    elif code == "L" and repeat == 1:
        raw, dtype = np.dtype("u1"), pa.bool_()
    elif code in _NUMBERS and repeat == 1:
        raw = np.dtype(_NUMBERS[code])
        scale, zero = number("TSCAL", 1.0), number("TZERO", 0.0)
        kind = raw.newbyteorder("=")
        if scale == 1.0 and zero == _UNSIGNED.get(code):
            kind = _OPPOSITE[code]
        elif (scale, zero) != (1.0, 0.0):
            kind = np.dtype(np.float64)
        dtype = pa.from_numpy_dtype(kind)
        given = header.get(f"TNULL{n}")
        null = given if type(given) is int and code in "BIJK" else None
    else:
        dtype = pa.list_(pa.float64())
    metadata = {
        "unit": text("TUNIT"),
        "description": text("TCOMM"),
        "ucd": text("TUCD"),
    }
    field = pa.field(text("TTYPE") or f"column{n}", dtype, metadata=metadata)
    return FitsColumn(field, code, raw, offset, scale, zero, null)
