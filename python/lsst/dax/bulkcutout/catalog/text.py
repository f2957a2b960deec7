# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Numbers and truth values that are written as text.

What is a number depends on the question.  A position may be written in any
way that has one meaning.  But where the type of a column is to be found out,
a leading zero (``007``) makes text of all its values: it would be lost.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..request.checks import quoted

__all__ = ("TextCensus", "numbers_from", "shown", "to_bool", "to_float", "to_int", "unpacked")

# All matched against lower case without spaces at the ends.
_NULL_WORDS = ("", "null", "none", "na", "n/a", "--")
_NAN = "nan"
_INT = r"^(0|-?[1-9][0-9]*)$"
_ANY_NUMBER = r"^[+-]?(([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]+)?|inf|infinity|nan)$"
# What programs write for a whole number that is held as floating point, but
# not `12e4`, which may be a name.
_INT_AS_FLOAT = r"^-?([0-9]+\.[0-9]*(e\+?[0-9]+)?|[0-9]+e\+[0-9]+)$"
_BOOLS = ("true", "false")
# Starts of numbers that are text where types are found out.
_CODES = (*(f"0{digit}" for digit in range(10)), "0x")


def to_float(text: pa.Array) -> pa.Array:
    """Read numbers.

    Parameters
    ----------
    text
        Strings with nulls.

    Returns
    -------
    numbers
        Type float64; null for what is missing or not a number.
    """
    words = _words(text)
    try:
        return words.cast(pa.float64())
    except pa.ArrowInvalid:
        numeric = pc.match_substring_regex(words, _ANY_NUMBER)
        numbers = pc.if_else(numeric, words, pa.scalar(None, pa.string()))
        # Older readers do not take the plus.
        return pc.utf8_ltrim(numbers, characters="+").cast(pa.float64())


def to_int(text: pa.Array) -> pa.Array:
    """Read whole numbers from a column that was found to hold them.

    Parameters
    ----------
    text
        Strings with nulls.

    Returns
    -------
    numbers
        Type int64; null for what is missing.
    """
    words = _words(text)
    is_nan = pc.equal(words, _NAN)
    return pc.if_else(is_nan, pa.scalar(None, pa.string()), words).cast(pa.int64())


def to_bool(text: pa.Array) -> pa.Array:
    """Read truth values from a column that was found to hold them.

    Parameters
    ----------
    text
        Strings with nulls.

    Returns
    -------
    values
        Type bool; null for what is missing.
    """
    return pc.equal(_words(text), "true")


def unpacked(values: pa.Array) -> pa.Array:
    """Bring a column to one of the plain types.

    Parameters
    ----------
    values
        A column as the file holds it.

    Returns
    -------
    plain
        The same values without dictionary, and strings of one kind.
    """
    dtype = values.type
    if pa.types.is_dictionary(dtype):
        values = values.cast(dtype.value_type)
        dtype = values.type
    if pa.types.is_large_string(dtype) or pa.types.is_string_view(dtype):
        return values.cast(pa.string())
    return values


def numbers_from(values: pa.Array) -> pa.Array:
    """Read a column of numbers, whichever way the file holds them.

    Parameters
    ----------
    values
        Numbers or strings, with nulls.

    Returns
    -------
    numbers
        Type float64; null for what is missing or not a number.
    """
    plain = unpacked(values)
    return to_float(plain) if pa.types.is_string(plain.type) else plain.cast(pa.float64(), safe=False)


def shown(values: pa.Array, indices: np.ndarray) -> list[str]:
    """Show values of a column in messages.

    Parameters
    ----------
    values
        A column.
    indices
        Which of its values.

    Returns
    -------
    texts
        As many; ``missing`` for null.
    """
    # All at once: one by one is what makes a catalog of bad rows slow.
    plain = values.take(pa.array(indices)).to_pylist()
    return ["missing" if v is None else quoted(v) if isinstance(v, str) else repr(v) for v in plain]


class TextCensus:
    """Finds the type of a column of text.

    The kind is ``int``, else ``float``, else ``bool``, else ``string``: the
    first that takes all values.

    Parameters
    ----------
    identifiers
        Whether the column may hold identifiers that went through float.
    """

    def __init__(self, *, identifiers: bool = False) -> None:
        self._kinds = {"int": self._are_ints, "float": _are_floats, "bool": _are_bools}
        self._n_values = 0
        self._has_nan = False
        self._exceeds_int64 = False
        self._is_int_or_float = identifiers

    def see(self, text: pa.Array) -> None:
        """Look at some values.

        Parameters
        ----------
        text
            Strings with nulls.
        """
        words = _words(text).drop_null()
        is_nan = pc.equal(words, _NAN)
        if pc.any(is_nan).as_py():
            self._has_nan = True
            words = words.filter(pc.invert(is_nan))
        if not len(words):
            return
        self._n_values += len(words)
        for kind, are_such in list(self._kinds.items()):
            if not are_such(words):
                del self._kinds[kind]
            elif kind == "int":
                # Whole numbers are floats as well, but no truth values.
                self._kinds.pop("bool", None)
                return
        self._is_int_or_float = self._is_int_or_float and _all_match(words, f"{_INT_AS_FLOAT}|{_INT}")

    @property
    def kind(self) -> str:
        """What the column holds, as far as it was seen."""
        if not self._n_values:
            return "float" if self._has_nan else "string"
        kind = next(iter(self._kinds), "string")
        # As a float it would lose digits.
        return "string" if kind == "int" and self._exceeds_int64 else kind

    @property
    def exceeds_int64(self) -> bool:
        """Whether all values are whole numbers and some need more bits."""
        return "int" in self._kinds and self._exceeds_int64

    @property
    def is_int_or_float(self) -> bool:
        """Whether all identifiers are whole numbers, with float or not."""
        return self._n_values > 0 and self._is_int_or_float

    def _are_ints(self, words: pa.Array) -> bool:
        try:
            words.cast(pa.int64())
        except pa.ArrowInvalid:
            self._exceeds_int64 = _all_match(words, _INT)
            return self._exceeds_int64
        return not _has_codes(words)


def _words(text: pa.Array) -> pa.Array:
    """Trim, fold to lower case, and make the words for nothing null."""
    words = pc.ascii_lower(pc.ascii_trim_whitespace(text))
    is_null = pc.is_in(words, value_set=pa.array(_NULL_WORDS))
    return pc.if_else(is_null, pa.scalar(None, pa.string()), words) if pc.any(is_null).as_py() else words


def _all_match(words: pa.Array, pattern: str) -> bool:
    return bool(pc.all(pc.match_substring_regex(words, pattern)).as_py())


def _are_floats(words: pa.Array) -> bool:
    try:
        words.cast(pa.float64())
    except pa.ArrowInvalid:
        return False
    return not _has_codes(words)


def _are_bools(words: pa.Array) -> bool:
    return bool(pc.all(pc.is_in(words, value_set=pa.array(_BOOLS))).as_py())


def _has_codes(words: pa.Array) -> bool:
    unsigned = pc.ascii_ltrim(words, characters="+-")
    is_code = pc.is_in(pc.utf8_slice_codeunits(unsigned, 0, 2), value_set=pa.array(_CODES))
    return bool(pc.any(is_code).as_py())
