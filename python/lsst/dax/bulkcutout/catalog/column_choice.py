# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Columns that stand for something: named by the user, or guessed."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pyarrow as pa

from ..errors import UserError, did_you_mean
from ..tables import why_not_carried

__all__ = ("GUESSES", "ColumnChoice", "field_text")

GUESSES = {
    "id": (
        "objectid",
        "object_id",
        "objid",
        "diaobjectid",
        "id",
        "source_id",
        "sourceid",
        "diasourceid",
        "ssobjectid",
        "forcedsourceid",
        "forcedsourceondiaobjectid",
        "coadd_object_id",
        "target_id",
        "targetid",
        "number",
    ),
    "ra": (
        "coord_ra",
        "ra",
        "ra_deg",
        "radeg",
        "raj2000",
        "ra_j2000",
        "ra_icrs",
        "alpha_j2000",
        "ramean",
        "right_ascension",
        "s_ra",
        "target_ra",
    ),
    "dec": (
        "coord_dec",
        "dec",
        "dec_deg",
        "decdeg",
        "decl",
        "dej2000",
        "decj2000",
        "dec_j2000",
        "de_icrs",
        "dec_icrs",
        "delta_j2000",
        "decmean",
        "declination",
        "s_dec",
        "target_dec",
    ),
    "ra_b1950": ("ra1950", "rab1950", "ra_b1950", "ra_1950", "alpha_b1950"),
    "dec_b1950": ("de1950", "dec1950", "deb1950", "decb1950", "dec_b1950", "dec_1950", "delta_b1950"),
    "galactic_lon": ("l", "glon", "gal_lon", "galactic_l", "galacticl", "galactic_lon", "galactic_longitude"),
    "galactic_lat": ("b", "glat", "gal_lat", "galactic_b", "galacticb", "galactic_lat", "galactic_latitude"),
    "ecliptic_lon": ("elon", "ecl_lon", "eclipticlambda", "ecliptic_lon", "ecliptic_longitude"),
    "ecliptic_lat": ("elat", "ecl_lat", "eclipticbeta", "ecliptic_lat", "ecliptic_latitude"),
    "supergalactic_lon": ("sgl", "supergalactic_lon"),
    "supergalactic_lat": ("sgb", "supergalactic_lat"),
    "pm_ra": ("pmra", "pm_ra", "pm_ra_cosdec", "pmra_cosdec", "pmracosdec"),
    "pm_dec": ("pmdec", "pm_dec", "pmde"),
    "epoch": ("ref_epoch",),
}
"""Names, in lower case, of columns that the user need not name."""

# The row of a table that has both is what the first one numbers.
_OUTRANKS = {
    "diasourceid": ("diaobjectid", "ssobjectid", "objectid"),
    "forcedsourceid": ("objectid",),
    "forcedsourceondiaobjectid": ("diaobjectid",),
    "sourceid": ("objectid",),
}

MEANINGS = {
    "id": "identifier",
    "ra": "right ascension",
    "dec": "declination",
    "ra_b1950": "right ascension",
    "dec_b1950": "declination",
    "galactic_lon": "galactic longitude",
    "galactic_lat": "galactic latitude",
    "ecliptic_lon": "ecliptic longitude",
    "ecliptic_lat": "ecliptic latitude",
    "supergalactic_lon": "supergalactic longitude",
    "supergalactic_lat": "supergalactic latitude",
    "pm_ra": "proper motion in right ascension",
    "pm_dec": "proper motion in declination",
    "epoch": "epoch of the position",
}

_UCDS = {
    "id": ("meta.id;meta.main",),
    "ra": ("pos.eq.ra;meta.main", "pos_eq_ra_main"),
    "dec": ("pos.eq.dec;meta.main", "pos_eq_dec_main"),
}
_MOST_LISTED = 40


class ColumnChoice:
    """The columns that there are, and what is said about them.

    Parameters
    ----------
    path
        The catalog, for messages.
    schema
        All its columns.
    """

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self.path = path
        self.schema = schema
        self.warnings: list[str] = []
        self._counts = Counter(schema.names)

    def named(self, field: str, name: str) -> str:
        """Take a name from a field of the request.

        Parameters
        ----------
        field
            The field.
        name
            What it says.

        Returns
        -------
        name
            The same.

        Raises
        ------
        UserError
            Raised if there is no such column, or several.
        """
        if name not in self._counts:
            hint = did_you_mean(name, self._counts)
            raise UserError(
                f"{field} is {name!r}: catalog {self.path} has no such column{hint}. {self._listing()}"
            )
        if self._counts[name] > 1:
            raise UserError(
                f"{field} is {name!r}: catalog {self.path} has {self._counts[name]} columns of this name. "
                "Rename all but one."
            )
        return name

    def candidates(self, role: str) -> list[str]:
        """Find columns that may be meant.

        Parameters
        ----------
        role
            A key of `GUESSES`.

        Returns
        -------
        names
            What the file itself says, alone; else all whose names fit.  Of
            names that Rubin's tables have together, the right one.
        """
        stated = field_text(self.schema, f"{role}_column")
        if stated in self._counts:
            return [stated]
        names = [name for name in self._counts if name.lower() in GUESSES[role]]
        lower = {name.lower() for name in names}
        outranked = {other for name in lower for other in _OUTRANKS.get(name, ())}
        names = [name for name in names if name.lower() not in outranked]
        if len(names) == 1:
            return names
        # What the file says is the main one decides, also against names.
        main = [
            field.name for field in self.schema if field_text(field, "ucd").lower() in _UCDS.get(role, ())
        ]
        return main if len(main) == 1 else names

    def guessed(self, role: str, *, field: str) -> str:
        """Take the column that looks right.

        Parameters
        ----------
        role
            A key of `GUESSES`.
        field
            The field of the request that would name it.

        Returns
        -------
        name
            Its name.

        Raises
        ------
        UserError
            Raised if there is none, or more than one.
        """
        names = self.candidates(role)
        if len(names) == 1:
            return self.named(field, names[0])
        found = f"{len(names)} columns that may be" if names else "no column that looks like"
        which = f": {', '.join(names)}" if names else ""
        raise UserError(
            f"Catalog {self.path} has {found} the {MEANINGS[role]}{which}. Name it in the request with "
            f"{field}. {self._listing()}"
        )

    def number(self, where: str, name: str) -> pa.Field:
        """Make sure that a column holds numbers, or text that may be.

        Parameters
        ----------
        where
            The field of the request that names it, or would.
        name
            The column.

        Returns
        -------
        field
            The column.

        Raises
        ------
        UserError
            Raised if it is of another type.
        """
        field = self.schema.field(name)
        dtype = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
        if not any(is_type(dtype) for is_type in _NUMBERS_OR_TEXT):
            raise UserError(
                f"{where} is {name!r}: this column of catalog {self.path} has the type {field.type} and "
                "holds no numbers."
            )
        return field

    def carried(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """Take the columns that the user lists.

        Parameters
        ----------
        names
            Their names.

        Returns
        -------
        names
            The same.

        Raises
        ------
        UserError
            Raised if one is not there or cannot be carried.
        """
        for name in names:
            self.named("catalog.carry", name)
            if problem := why_not_carried(name, self.schema.field(name).type):
                raise UserError(f"catalog.carry: column {name!r} of catalog {self.path} {problem}.")
        return names

    def all_carried(self) -> tuple[str, ...]:
        """Take all columns that can be carried, and tell which cannot.

        Returns
        -------
        names
            Their names.
        """
        names = []
        for name, count in self._counts.items():
            if count > 1:
                problem: str | None = "occurs more than once"
            else:
                problem = why_not_carried(name, self.schema.field(name).type)
            if problem is None:
                names.append(name)
            else:
                self.warnings.append(f"Catalog {self.path}: column {name!r} is not carried: it {problem}.")
        return tuple(names)

    def _listing(self) -> str:
        names = list(self._counts)
        more = f" and {len(names) - _MOST_LISTED} more" if len(names) > _MOST_LISTED else ""
        return f"Its columns are: {', '.join(names[:_MOST_LISTED])}{more}."


def field_text(described: pa.Field | pa.Schema, key: str) -> str:
    """Get what a reader said about a column, or about the whole table.

    Parameters
    ----------
    described
        Column or table.
    key
        Such as ``frame``, ``ucd`` or ``epoch``.

    Returns
    -------
    text
        What it said; empty if nothing.
    """
    return str((described.metadata or {}).get(key.encode(), b"").decode(errors="replace"))


_NUMBERS_OR_TEXT = (
    pa.types.is_integer,
    pa.types.is_floating,
    pa.types.is_decimal,
    pa.types.is_string,
    pa.types.is_large_string,
    pa.types.is_string_view,
)
