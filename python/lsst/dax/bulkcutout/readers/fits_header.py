# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""The cards of a FITS header.

astropy needs some twenty times as long for one, and opening an image takes
six of them.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from ..errors import CorruptInputError

if TYPE_CHECKING:
    from .fits_file import FitsFile

__all__ = ("CardValue", "FitsHeader", "read_cards")

type CardValue = bool | int | float | str | None

_QUOTED = re.compile(r" *'((?:[^']|'')*)'")


@dataclasses.dataclass(frozen=True)
class FitsHeader:
    """The cards of one HDU, and where it is."""

    file: FitsFile = dataclasses.field(repr=False)
    """File that holds it."""

    name: str
    """Name of the HDU, for messages."""

    values: Mapping[str, CardValue]
    """Value by keyword, the first where a keyword repeats; hierarchical ones
    without their ``HIERARCH``; comments and history are left out."""

    address: int
    """First byte of the header."""

    data_address: int
    """First byte of the data."""

    @property
    def data_size(self) -> int:
        """Bytes of data, without the padding."""
        n_axes = self.integer("NAXIS", minimum=0)
        if n_axes == 0:
            return 0
        size = self.integer("PCOUNT", 0, minimum=0)
        pixels = 1
        for axis in range(1, n_axes + 1):
            pixels *= self.integer(f"NAXIS{axis}", minimum=0)
        return abs(self.integer("BITPIX")) // 8 * self.integer("GCOUNT", 1) * (size + pixels)

    def integer(self, key: str, default: int | None = None, *, minimum: int | None = None) -> int:
        """Value of a card that must hold a whole number.

        Parameters
        ----------
        key
            Keyword.
        default
            Value for a missing card; without one the card must be there.
        minimum
            Smallest value that is allowed.

        Returns
        -------
        value
            The value.
        """
        value = self.values.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or (minimum is not None and value < minimum):
            raise self._wrong(key, value, "a whole number" + ("" if minimum is None else f" >= {minimum}"))
        return value

    def number(self, key: str, default: float | None = None) -> float:
        """Value of a card that must hold a finite number.

        Parameters
        ----------
        key
            Keyword.
        default
            Value for a missing card; without one the card must be there.

        Returns
        -------
        value
            The value.
        """
        value = self.values.get(key, default)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            raise self._wrong(key, value, "a number")
        return float(value)

    def text(self, key: str, default: str | None = None) -> str:
        """Value of a card that must hold a string.

        Parameters
        ----------
        key
            Keyword.
        default
            Value for a missing card; without one the card must be there.

        Returns
        -------
        value
            The value.
        """
        value = self.values.get(key, default)
        if not isinstance(value, str):
            raise self._wrong(key, value, "text")
        return value

    def _wrong(self, key: str, value: CardValue, expected: str) -> CorruptInputError:
        # A damaged card is all noise up to its end.
        found = repr(value[:20] if isinstance(value, str) else value) if key in self.values else "missing"
        return self.file.corrupt(f"card {key} of {self.name} is {found}, it must be {expected}")


def read_cards(text: bytes) -> Mapping[str, CardValue]:
    """Values by keyword.

    Parameters
    ----------
    text
        Cards of 80 characters.

    Returns
    -------
    values
        The first where a keyword repeats; hierarchical ones without their
        ``HIERARCH``; comments and history are left out.
    """
    return _Cards(text.decode("ascii", errors="replace"))


class _Cards(Mapping[str, CardValue]):
    """Values by keyword, converted when they are asked for: of some sixty
    cards in a header a dozen are.
    """

    def __init__(self, text: str) -> None:
        self._texts: dict[str, list[str]] = {}
        self._known: dict[str, CardValue] = {}
        texts: list[str] = []
        for start in range(0, len(text), 80):
            card = text[start : start + 80]
            if card[8:10] == "= ":
                texts = [card[10:]]
                self._texts.setdefault(card[:8].rstrip(), texts)
            elif card.startswith("CONTINUE"):
                texts.append(card[8:])
            elif card.startswith("HIERARCH ") and "=" in card:
                key, _, text_of_value = card[9:].partition("=")
                texts = [text_of_value]
                self._texts.setdefault(key.strip(), texts)
            else:
                texts = []

    def __contains__(self, key: object) -> bool:
        return key in self._texts

    def __getitem__(self, key: str) -> CardValue:
        if key not in self._known:
            self._known[key] = self._convert(self._texts[key])
        return self._known[key]

    def get[T](self, key: str, default: T = None) -> CardValue | T:  # type: ignore[assignment]
        # Most of what is asked for is not there, and errors are dear.
        return self[key] if key in self._texts else default

    def _convert(self, texts: list[str]) -> CardValue:
        value = _value(texts[0])
        for text in texts[1:]:
            more = _value(text)
            if isinstance(value, str) and value.endswith("&") and isinstance(more, str):
                value = value[:-1] + more
        return value

    def __iter__(self) -> Iterator[str]:
        return iter(self._texts)

    def __len__(self) -> int:
        return len(self._texts)


def _value(text: str) -> CardValue:
    if match := _QUOTED.match(text):
        return match[1].replace("''", "'").rstrip()
    text = text.partition("/")[0].strip()
    if text in ("T", "F"):
        return text == "T"
    for convert in (int, _float):
        try:
            return convert(text)
        except ValueError:
            pass
    return text or None


def _float(text: str) -> float:
    return float(text.replace("D", "E"))
