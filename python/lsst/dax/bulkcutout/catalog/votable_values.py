# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Values of VOTables: from text, and from bytes that stand row by row."""

from __future__ import annotations

import binascii
import struct
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from .text import to_float
from .votable_fields import NUMBERS, VotableField

__all__ = ("BinaryRows", "values_of_text")

MOST_VALUE_BYTES = 16 * 1024 * 1024
"""Largest value in binary data."""

_INT = r"^[+-]?[0-9]{1,20}$"
_TRUTH = {"t": True, "true": True, "1": True, "f": False, "false": False, "0": False}


def values_of_text(field: VotableField, dtype: pa.DataType, cells: list[str | None]) -> tuple[pa.Array, int]:
    """Convert cells of TABLEDATA.

    Parameters
    ----------
    field
        The column.
    dtype
        What its values become.
    cells
        Text of the cells; `None` for what is missing.

    Returns
    -------
    values
        Null for an empty cell, for what the column says stands for nothing,
        and for what is no value of the type.
    n_bad
        How many are of the last kind.
    """
    text = pa.array(cells, pa.string())
    if pa.types.is_string(dtype):
        text = pc.if_else(pc.equal(text, ""), pa.scalar(None, pa.string()), text)
        return _without(text, field.null), 0
    text = pc.ascii_trim_whitespace(text)
    is_given = pc.not_equal(text, "").fill_null(False)
    text = pc.if_else(is_given, text, pa.scalar(None, pa.string()))
    if pa.types.is_boolean(dtype):
        words = pc.ascii_lower(text)
        known = pa.array(list(_TRUTH))
        values = pa.array(list(_TRUTH.values())).take(pc.index_in(words, value_set=known))
        n_bad = pc.sum(pc.and_(values.is_null(), pc.invert(pc.is_in(words, pa.array([None, "?"])))))
        return values, n_bad.as_py() or 0
    if pa.types.is_floating(dtype):
        values = to_float(text)
        n_bad = text.null_count
        n_bad = values.null_count - n_bad
        return _without(values.cast(dtype, safe=False), field.null), n_bad
    values = _ints(_without(text, field.null), dtype)
    n_bad = values.null_count - _without(text, field.null).null_count
    return _without(values, field.null), n_bad


def _ints(text: pa.Array, dtype: pa.DataType) -> pa.Array:
    try:
        return text.cast(dtype)
    except pa.ArrowInvalid:
        pass
    limits = np.iinfo(dtype.to_pandas_dtype())
    values: list[int | None] = []
    for word in text.to_pylist():
        try:
            value = None if word is None else int(word, 16 if word.lower().startswith("0x") else 10)
        except ValueError:
            value = None
        values.append(value if value is not None and limits.min <= value <= limits.max else None)
    return pa.array(values, dtype)


def _without(values: pa.Array, null: str | None) -> pa.Array:
    """Make null what equals the value that stands for nothing."""
    if null is None:
        return values
    dtype = values.type
    try:
        missing = pa.scalar(null).cast(dtype)
    except pa.ArrowInvalid:
        return values
    return pc.if_else(pc.equal(values, missing).fill_null(False), pa.scalar(None, dtype), values)


class BinaryRows:
    """Rows of BINARY or BINARY2 data, decoded as they come.

    Parameters
    ----------
    fields
        All columns.
    with_mask
        Whether bits before each row tell what is missing (BINARY2).
    wanted
        Indices of the columns to keep.

    Raises
    ------
    ValueError
        Raised if the length of a column cannot be told.
    """

    def __init__(self, fields: Sequence[VotableField], *, with_mask: bool, wanted: Sequence[int]) -> None:
        for field in fields:
            if field.is_variable and "x" in field.shape:
                raise ValueError(
                    f"column {field.name!r} has the arraysize {field.shape!r} in binary data; save it "
                    "as TABLEDATA"
                )
        self._fields = fields
        self._wanted = list(wanted)
        self._n_mask = -(-len(fields) // 8) if with_mask else 0
        self._base64 = b""
        self._data = b""
        # Stretches of fixed length, each but the last followed by a value
        # that says its own length.
        self._stretches = [self._n_mask]
        self._places: list[tuple[int, int]] = []
        self._variable: list[int] = []
        for index, field in enumerate(fields):
            if field.is_variable:
                self._places.append((len(self._variable), -1))
                self._variable.append(index)
                self._stretches.append(0)
            else:
                self._places.append((len(self._variable), self._stretches[-1]))
                self._stretches[-1] += field.n_bytes
        if (n_bytes := sum(self._stretches)) > MOST_VALUE_BYTES or not (n_bytes or self._variable):
            raise ValueError(
                f"its rows have {n_bytes} bytes; at most {MOST_VALUE_BYTES} are allowed, at least 1"
            )

    def add(self, encoded: str) -> None:
        """Take text in base64.

        Parameters
        ----------
        encoded
            Text that follows what was taken before.

        Raises
        ------
        ValueError
            Raised if it is not base64.
        """
        text = self._base64 + encoded.encode("ascii", errors="replace").translate(None, b" \t\r\n")
        n = len(text) // 4 * 4
        self._data += binascii.a2b_base64(text[:n], strict_mode=True)
        self._base64 = text[n:]

    def finish(self) -> None:
        """Make sure that nothing is left.

        Raises
        ------
        ValueError
            Raised if the data end within a row.
        """
        if self._base64 or self._data:
            raise ValueError(
                "its binary data do not end with a row: they are cut short, or have another layout"
            )

    def take(self) -> tuple[int, list[pa.Array]]:
        """Decode the rows that are complete.

        Returns
        -------
        n_rows
            Number of rows.
        values
            Of each column that is wanted.

        Raises
        ------
        ValueError
            Raised if a length cannot be.
        """
        starts, n_rows, n_bytes = self._split()
        data = np.frombuffer(self._data, np.uint8)
        values = []
        for index in self._wanted:
            field = self._fields[index]
            stretch, offset = self._places[index]
            missing = np.zeros(n_rows, dtype=bool)
            if self._n_mask:
                masks = data[starts[:, 0] + index // 8] if n_rows else np.zeros(0, np.uint8)
                missing = (masks >> (7 - index % 8) & 1).astype(bool)
            if offset < 0:
                first = starts[:, stretch] + self._stretches[stretch] + 4
                texts = [
                    self._data[a:b]
                    for a, b in zip(first.tolist(), starts[:, stretch + 1].tolist(), strict=True)
                ]
                values.append(_text(field, texts, missing))
                continue
            cells = _gather(data, starts[:, stretch] + offset, field.n_bytes)
            if field.is_text:
                texts = [cell.tobytes() for cell in cells]
                values.append(_text(field, texts, missing))
            else:
                values.append(_numbers(field, cells, missing))
        self._data = self._data[n_bytes:]
        return n_rows, values

    def _split(self) -> tuple[np.ndarray, int, int]:
        """Find where the stretches of each row begin."""
        n_data = len(self._data)
        if not self._variable:
            n_rows = n_data // self._stretches[0]
            return (np.arange(n_rows) * self._stretches[0])[:, None], n_rows, n_rows * self._stretches[0]
        lengths = [
            (size, self._fields[index].n_bits)
            for size, index in zip(self._stretches, self._variable, strict=False)
        ]
        unpack, last = struct.Struct(">I").unpack_from, self._stretches[-1]
        starts: list[int] = []
        row = 0
        while True:
            at = row
            found = []
            for size, n_bits in lengths:
                found.append(at)
                at += size
                if at + 4 > n_data:
                    break
                n = (unpack(self._data, at)[0] * n_bits + 7) // 8
                if n > MOST_VALUE_BYTES:
                    raise ValueError(
                        f"a value in its binary data would have {n} bytes; at most {MOST_VALUE_BYTES} are "
                        "allowed"
                    )
                at += 4 + n
            else:
                found.append(at)
                at += last
                if at <= n_data:
                    starts += found
                    row = at
                    continue
            break
        table = np.array(starts, dtype=np.int64).reshape(-1, len(self._stretches))
        return table, len(table), row


def _gather(data: np.ndarray, starts: np.ndarray, n_bytes: int) -> np.ndarray:
    return data[starts[:, None] + np.arange(n_bytes)]


def _text(field: VotableField, texts: list[bytes], missing: np.ndarray) -> pa.Array:
    codec = "utf-16-be" if field.datatype == "unicodeChar" else "utf-8"
    strings = [text.decode(codec, errors="replace").partition("\0")[0].rstrip(" ") for text in texts]
    values = pa.array(strings, pa.string(), mask=missing | np.array([not s for s in strings], dtype=bool))
    return _without(values, field.null)


def _numbers(field: VotableField, cells: np.ndarray, missing: np.ndarray) -> pa.Array:
    if field.datatype == "boolean":
        letters = cells[:, 0]
        is_true = np.isin(letters, np.frombuffer(b"Tt1", np.uint8))
        is_false = np.isin(letters, np.frombuffer(b"Ff0", np.uint8))
        return pa.array(is_true, mask=missing | ~(is_true | is_false))
    if field.datatype == "bit":
        # Which of its bits is meant is not agreed upon; the others are 0.
        return pa.array(cells[:, 0] != 0, mask=missing)
    raw = NUMBERS[field.datatype]
    numbers = np.ascontiguousarray(cells).view(raw)[:, 0]
    return _without(pa.array(numbers.astype(raw.newbyteorder("=")), mask=missing), field.null)
