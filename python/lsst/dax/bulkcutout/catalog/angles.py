# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Angles as catalogs write them: units, and sexagesimal text."""

from __future__ import annotations

import dataclasses
import math
import re

import astropy.units
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from .text import numbers_from, shown, unpacked

__all__ = ("Angle", "AngleColumn", "angle_unit")

_DEGREES = ("", "deg", "degree", "degrees", "angle[deg]", "°")
_HOURS = ("h", "hr", "hrs", "hour", "hours", "hourangle", "hour angle")
_UNITS = {
    "rad": (180.0 / math.pi, "radians"),
    "radian": (180.0 / math.pi, "radians"),
    "radians": (180.0 / math.pi, "radians"),
    "arcmin": (1 / 60, "arcmin"),
    "arcsec": (1 / 3600, "arcsec"),
    "mas": (1 / 3_600_000, "mas"),
}
_SEXAGESIMAL = re.compile(r"([hd])+[: ]?m+[: ]?s+(\.s+)?")
_PARTS = (
    r"^(?P<sign>[+-]?)(?P<first>[0-9]{1,3})(?:\s*(?P<letter>[:hd°])\s*|\s+)(?P<minutes>[0-5]?[0-9])"
    r"(?:\s*[:m'′]\s*|\s+)(?P<seconds>[0-5]?[0-9](?:\.[0-9]*)?)\s*[s\"″]?$"
)


@dataclasses.dataclass(frozen=True)
class AngleUnit:
    """The unit of a column of angles."""

    degrees: float
    """What one of it is in degrees."""

    name: str
    """What it is called in messages, in the plural."""

    sexagesimal: str
    """What sexagesimal text begins with: ``h``, ``d``, or nothing where there
    should be none."""


def angle_unit(unit: str, *, is_ra: bool, is_text: bool) -> AngleUnit:
    """Understand the unit that a file states for a column of angles.

    Parameters
    ----------
    unit
        What it states; empty if nothing.
    is_ra
        Whether the angle is a right ascension, which may be in hours.
    is_text
        Whether the column holds text.

    Returns
    -------
    unit
        What it means.

    Raises
    ------
    ValueError
        Raised if it is none that is known.
    """
    word = unit.strip().lower()
    if word in _DEGREES:
        # Without a unit a right ascension with colons is in hours.
        usual = ("h" if is_ra else "d") if is_text and not word else ""
        return AngleUnit(1.0, "degrees", usual)
    if (match := _SEXAGESIMAL.fullmatch(word)) and is_text and (is_ra or match[1] == "d"):
        return AngleUnit(1.0, "degrees", match[1])
    if word in _HOURS and is_ra:
        return AngleUnit(15.0, "hours", "h" if is_text else "")
    if word in _UNITS:
        return AngleUnit(*_UNITS[word], "")
    try:
        # Such as "0.001 deg", or with a prefix.
        factor = float(astropy.units.Unit(unit).to(astropy.units.deg))
    except (ValueError, TypeError):
        hours = ", hourangle, or h:m:s for text" if is_ra else ", or d:m:s for text"
        raise ValueError(f"known units are deg, rad, arcmin, arcsec, mas{hours}") from None
    return AngleUnit(factor, unit, "")


@dataclasses.dataclass(frozen=True)
class AngleColumn:
    """A column of angles."""

    name: str
    """Its name."""

    unit: AngleUnit
    """Its unit."""

    least: float
    """Smallest value in degrees."""

    most: float
    """Largest value in degrees."""

    def read(self, given: pa.Array) -> Angle:
        """Read some values.

        Parameters
        ----------
        given
            Numbers or text, with nulls.

        Returns
        -------
        angle
            The values.
        """
        return Angle(self, given)


class Angle:
    """Some values of a column of angles, and which of them are none.

    Parameters
    ----------
    column
        The column.
    given
        Numbers or text, with nulls.
    """

    def __init__(self, column: AngleColumn, given: pa.Array) -> None:
        self._column = column
        self._given = unpacked(given)
        self.n_sexagesimal = 0
        values = numbers_from(self._given).to_numpy(zero_copy_only=False)
        if column.unit.degrees != 1.0:
            values = values * column.unit.degrees
        if column.unit.sexagesimal and pa.types.is_string(self._given.type):
            values = self._with_sexagesimal(values)
        self.degrees: np.ndarray = values
        """Degrees; not a number where there is none."""
        with np.errstate(invalid="ignore"):
            self.is_bad: np.ndarray = ~((values >= column.least) & (values <= column.most))
        """Which of them are missing or out of range."""

    def problems(self, indices: np.ndarray, *, start: int) -> list[str]:
        """Say what is wrong with some values.

        Parameters
        ----------
        indices
            Which ones.
        start
            Number of the first row.

        Returns
        -------
        sentences
            As many; empty for a good one.
        """
        bad = indices[self.is_bad[indices]]
        sentences = dict.fromkeys(indices.tolist(), "")
        for index, given, value in zip(
            bad.tolist(), shown(self._given, bad), self.degrees[bad].tolist(), strict=True
        ):
            where = f"{self._column.name} in row {start + index} is {given}"
            if given in ("missing", "nan"):
                sentences[index] = f"{where}."
            elif math.isnan(value):
                sentences[index] = f"{where}: must be {self._form}."
            else:
                sentences[index] = f"{where}: {self._allowed}."
        return list(sentences.values())

    @property
    def _form(self) -> str:
        unit = self._column.unit
        if not unit.sexagesimal:
            return f"a number of {unit.name}"
        example = "12:34:56.7 (hours)" if unit.sexagesimal == "h" else "+12:34:56.7 (degrees)"
        return f"a number of {unit.name}, or sexagesimal as in {example}"

    @property
    def _allowed(self) -> str:
        unit = self._column.unit
        least, most = (limit / unit.degrees for limit in (self._column.least, self._column.most))
        return f"must be from {least:g} to {most:g} {unit.name}"

    def _with_sexagesimal(self, values: np.ndarray) -> np.ndarray:
        """Read what is no number but has three parts."""
        rest = np.flatnonzero(np.isnan(values))
        if not len(rest):
            return values
        text = pc.ascii_lower(pc.utf8_trim_whitespace(self._given.take(pa.array(rest))))
        parts = pc.extract_regex(text, pattern=_PARTS)
        is_one = np.asarray(parts.is_valid())
        if not is_one.any():
            return values
        found = parts.filter(pa.array(is_one))
        first, minutes, seconds = (
            found.field(name).cast(pa.float64()).to_numpy() for name in ("first", "minutes", "seconds")
        )
        angle = first + minutes / 60 + seconds / 3600
        angle[np.asarray(pc.equal(found.field("sign"), "-"))] *= -1
        letters = found.field("letter").to_pylist()
        usual = self._column.unit.sexagesimal
        is_ra = usual == "h" or self._column.most > 90
        factors = {"h": 15.0 if is_ra else math.nan, "d": 1.0, "°": 1.0}
        angle *= [factors.get(letter, 15.0 if usual == "h" else 1.0) for letter in letters]
        self.n_sexagesimal = len(angle)
        values = values.copy()
        values[rest[is_one]] = angle
        return values
