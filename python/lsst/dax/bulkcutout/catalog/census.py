# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""What must be known about whole columns before the first row is given out.

Types of identifiers and of columns in text files (and, in `sizes`, the sizes
that a catalog asks for): each census sees all values once and then tells.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..errors import UserError
from .text import TextCensus, to_bool, to_float, to_int, unpacked

__all__ = ("CarriedCensus", "Census", "IdCensus")

Convert = Callable[[pa.Array], pa.Array]

_FLOAT_DIGITS = {pa.float16(): 11, pa.float32(): 24, pa.float64(): 53}


class Census(Protocol):
    """Something that looks at all values of a column."""

    def see(self, values: pa.Array, *, start: int) -> None:
        """Look at some rows.

        Parameters
        ----------
        values
            Values of the column in consecutive rows.
        start
            Number of the first of them.
        """


class IdCensus:
    """Finds the type of the identifiers: int64 or string.

    Parameters
    ----------
    path
        The catalog, for messages.
    field
        The column with the identifiers.
    is_text
        Whether the file holds text for all columns.
    """

    def __init__(self, path: Path, field: pa.Field, *, is_text: bool) -> None:
        self._where = f"Catalog {path}, column {field.name}"
        dtype = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
        self._text = TextCensus(identifiers=True) if is_text else None
        self._float = dtype if pa.types.is_floating(dtype) else None
        self._is_uint64 = dtype == pa.uint64()
        self._is_string = any(is_type(dtype) for is_type in _STRINGS)
        if not (self._is_string or self._float or pa.types.is_integer(dtype)):
            raise UserError(
                f"{self._where} has the type {field.type}: identifiers must be whole numbers or strings. "
                "Convert it, or name another column in catalog.id_column."
            )
        self._exceeds_int64 = False
        self._lost_digits: UserError | None = None

    @property
    def is_needed(self) -> bool:
        """Whether the type does not follow from the type of the column."""
        return self._text is not None or self._float is not None or self._is_uint64

    def see(self, values: pa.Array, *, start: int) -> None:
        """Look at some rows.

        Parameters
        ----------
        values
            Values of the column.
        start
            Number of the first row.
        """
        values = unpacked(values)
        if self._text is not None:
            self._text.see(values)
            if self._text.is_int_or_float and self._lost_digits is None:
                self._lost_digits = self._check_floats(to_float(values), pa.float64(), start)
        elif self._float is not None:
            if error := self._check_floats(values.cast(pa.float64()), self._float, start):
                raise error
        elif self._is_uint64 and (largest := pc.max(values).as_py()) is not None:
            self._exceeds_int64 = self._exceeds_int64 or largest >= 2**63

    def result(self) -> tuple[pa.DataType, Convert, list[str]]:
        """Tell what was found.

        Returns
        -------
        dtype
            Type int64 or string.
        convert
            Brings values of the column to that type.
        warnings
            What the user should know about it.

        Raises
        ------
        UserError
            Raised if identifiers have lost digits.
        """
        if self._text is not None:
            if self._text.kind == "int":
                return pa.int64(), to_int, []
            self._exceeds_int64 = self._text.exceeds_int64
            if self._text.is_int_or_float and not self._exceeds_int64:
                if self._lost_digits is not None:
                    raise self._lost_digits
                return pa.int64(), lambda values: _ints_from(to_float(values)), []
        elif self._float is not None:
            return pa.int64(), lambda values: _ints_from(unpacked(values)), []
        elif not self._is_string and not self._exceeds_int64:
            return pa.int64(), lambda values: unpacked(values).cast(pa.int64()), []
        warnings = []
        if self._exceeds_int64:
            warnings.append(f"{self._where} has values above 2^63-1: identifiers are kept as strings.")
        return pa.string(), lambda values: unpacked(values).cast(pa.string()), warnings

    def _check_floats(self, values: pa.Array, dtype: pa.DataType, start: int) -> UserError | None:
        """Refuse identifiers that are no whole numbers or have lost digits."""
        numbers = values.to_numpy(zero_copy_only=False)
        with np.errstate(invalid="ignore"):
            # Infinity is beyond all limits; a missing value is not a number.
            lost = np.abs(numbers) > 2.0 ** _FLOAT_DIGITS[dtype]
            broken = np.isfinite(numbers) & (numbers != np.floor(numbers))
        if not (lost | broken).any():
            return None
        index = int(np.argmax(lost | broken))
        what = f"holds {float(numbers[index])!r} in row {start + index}"
        if broken[index]:
            return UserError(
                f"{self._where}, {what}: identifiers must be whole numbers or strings. Name another column "
                "in catalog.id_column."
            )
        return UserError(
            f"{self._where}, has floating-point numbers and {what}. Beyond 2^{_FLOAT_DIGITS[dtype]} these "
            "cannot tell neighbouring identifiers apart: digits have been lost. Write the column again from "
            "its origin as int64 or string (pandas turns integers into floats where values are missing, but "
            "not with the type Int64)."
        )


class CarriedCensus:
    """Finds the type of a carried column in a text file."""

    def __init__(self) -> None:
        self._text = TextCensus()

    def see(self, values: pa.Array, *, start: int) -> None:
        """Look at some rows.

        Parameters
        ----------
        values
            Values of the column.
        start
            Not used.
        """
        self._text.see(values)

    def result(self) -> tuple[pa.DataType, Convert]:
        """Tell what was found.

        Returns
        -------
        dtype
            Type int64, float64, bool or string.
        convert
            Brings values of the column to that type.
        """
        return {
            "int": (pa.int64(), to_int),
            "float": (pa.float64(), to_float),
            "bool": (pa.bool_(), to_bool),
            "string": (pa.string(), unpacked),
        }[self._text.kind]


def _ints_from(numbers: pa.Array) -> pa.Array:
    # Missing values are null or not a number.
    values = numbers.cast(pa.float64()).to_numpy(zero_copy_only=False)
    is_null = np.isnan(values)
    return pa.array(np.where(is_null, 0, values).astype(np.int64), mask=is_null)


_STRINGS = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
