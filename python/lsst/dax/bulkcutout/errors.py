# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Errors, by whose turn it is, and the help that their messages give."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .boxes import Box

__all__ = (
    "BulkCutoutError",
    "CorruptInputError",
    "InternalError",
    "TransientError",
    "UserError",
    "did_you_mean",
    "nearest_names",
)


class BulkCutoutError(Exception):
    """Base class of all errors that this package raises on purpose."""


class UserError(BulkCutoutError):
    """The user's turn.

    The message names the field, row, column or file, says what was allowed,
    and what to do.
    """


class TransientError(BulkCutoutError):
    """The machine's turn: the same thing may succeed when tried again."""


class CorruptInputError(BulkCutoutError):
    """A file that is proven bad: its format, length or checksum is wrong.

    Parameters
    ----------
    message
        What is wrong with which file.
    box
        Pixels that cannot be read, where only some of a file are lost.
    """

    def __init__(self, message: str, *, box: Box | None = None) -> None:
        super().__init__(message)
        self.box = box


class InternalError(BulkCutoutError):
    """Our turn: what cannot be, such as a sum that does not add up."""


def nearest_names(name: str, known: Iterable[str], *, most: int = 3) -> list[str]:
    """Known names that a wrong one may stand for.

    Parameters
    ----------
    name
        What somebody wrote.
    known
        The names that exist.
    most
        Largest number of names to return.

    Returns
    -------
    nearest
        The nearest first; empty if nothing resembles ``name``.
    """
    by_folded: dict[str, str] = {}
    for candidate in known:
        by_folded.setdefault(candidate.casefold(), candidate)
    # Very long names would cost quadratic time and help nobody.
    matches = difflib.get_close_matches(name.casefold()[:200], by_folded, n=most, cutoff=0.6)
    return [by_folded[match] for match in matches]


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Write the part of a message that helps with a wrong name.

    Parameters
    ----------
    name
        What somebody wrote.
    known
        The names that exist.

    Returns
    -------
    hint
        The nearest names in parentheses, with a space before them; the empty
        string if there are none.
    """
    nearest = nearest_names(name, known)
    return f" (did you mean {' or '.join(repr(candidate) for candidate in nearest)}?)" if nearest else ""
