# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Identifiers that are looked up in sorted order."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from .text import unpacked

__all__ = ("SortedIds", "whole_numbers")


def whole_numbers(identifiers: pa.Array) -> pa.Array:
    """Read identifiers as numbers, however a catalog holds them.

    Parameters
    ----------
    identifiers
        Numbers or text, with nulls.

    Returns
    -------
    numbers
        Type int64; null for what is no whole number.
    """
    plain = unpacked(identifiers)
    if pa.types.is_string(plain.type):
        text = pc.ascii_trim_whitespace(plain)
        is_number = pc.match_substring_regex(text, r"^-?[0-9]{1,18}(\.0*)?$|^[0-9]{19}$")
        text = pc.if_else(is_number, text, pa.scalar(None, pa.string()))
        text = pc.replace_substring_regex(text, r"\.0*$", "")
        # Of numbers with 19 digits some are too large.
        too_large = pc.and_(pc.equal(pc.utf8_length(text), 19), pc.greater(text, str(2**63 - 1)))
        return pc.if_else(too_large, pa.scalar(None, pa.string()), text).cast(pa.int64())
    if pa.types.is_floating(plain.type):
        plain = plain.cast(pa.float64())
        is_whole = pc.and_(pc.is_finite(plain), pc.less_equal(pc.abs(plain), 2.0**53))
        plain = pc.if_else(
            pc.and_(is_whole, pc.equal(plain, pc.floor(plain))), plain, pa.scalar(None, plain.type)
        )
    elif plain.type == pa.uint64():
        plain = pc.if_else(pc.less(plain, pa.scalar(2**63, pa.uint64())), plain, pa.scalar(None, plain.type))
    return plain.cast(pa.int64())


class SortedIds:
    """Identifiers of some rows, each once and in order.

    Parameters
    ----------
    identifiers
        Identifiers row by row, int64 with nulls.
    """

    def __init__(self, identifiers: pa.Array) -> None:
        is_given = np.asarray(identifiers.is_valid())
        self._rows = np.flatnonzero(is_given)
        given = identifiers.drop_null().to_numpy()
        self.values: np.ndarray
        """The identifiers."""
        self.values, self._inverse = np.unique(given, return_inverse=True)

    def has_any(self, least: int, most: int) -> bool:
        """Tell whether some are between two numbers.

        Parameters
        ----------
        least, most
            The numbers, which are included.

        Returns
        -------
        has_any
            Whether at least one is.
        """
        return bool(np.searchsorted(self.values, least) < np.searchsorted(self.values, most, side="right"))

    def places(self, identifiers: pa.Array) -> np.ndarray:
        """Find identifiers among them.

        Parameters
        ----------
        identifiers
            Whole numbers, with nulls.

        Returns
        -------
        places
            Index in `values` of each; -1 where it is not among them.
        """
        if not len(self.values):
            return np.full(len(identifiers), -1)
        is_given = np.asarray(identifiers.is_valid())
        numbers = whole_numbers(identifiers).fill_null(0).to_numpy()
        places = np.minimum(np.searchsorted(self.values, numbers), len(self.values) - 1)
        return np.where(is_given & (self.values[places] == numbers), places, -1)

    def spread(self, answers: np.ndarray, rows: np.ndarray) -> None:
        """Give each row the answer for its identifier.

        Parameters
        ----------
        answers
            One for each of `values`.
        rows
            One place for each row; those without identifier become zero with
            -1 in the field ``tract``.
        """
        rows["tract"] = -1
        rows[self._rows] = answers[self._inverse]
