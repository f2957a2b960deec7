# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Which columns of a catalog are needed: named by the user, or guessed."""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path

import pyarrow as pa

from ..errors import UserError, did_you_mean
from ..request import CatalogSpec, SizeColumn
from ..tables import field_unit, why_not_carried

__all__ = ("Columns", "choose_columns")

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
}
"""Names, in lower case, of columns that the user need not name."""

_MEANINGS = {"id": "identifier", "ra": "right ascension", "dec": "declination"}
_DEGREES = ("", "deg", "degree", "degrees", "angle[deg]", "°")
_MOST_LISTED = 40


@dataclasses.dataclass(frozen=True)
class Columns:
    """The columns of a catalog that are read, each by its name."""

    id: str
    """Identifier."""

    ra: str
    """ICRS right ascension in degrees."""

    dec: str
    """ICRS declination in degrees."""

    size: str | None
    """Size of the cutout in pixels; `None` if all have the same."""

    tract: str | None
    """Tract, if the catalog tells."""

    patch: str | None
    """Patch, if the catalog tells."""

    carried: tuple[str, ...]
    """Columns to copy."""

    @property
    def names(self) -> list[str]:
        """All of them, each once."""
        roles = (self.id, self.ra, self.dec, self.size, self.tract, self.patch, *self.carried)
        return list(dict.fromkeys(name for name in roles if name is not None))


def choose_columns(
    spec: CatalogSpec, size: int | SizeColumn, *, path: Path, schema: pa.Schema
) -> tuple[Columns, list[str]]:
    """Find the columns to read.

    Parameters
    ----------
    spec
        What the user says about the catalog.
    size
        Size of all cutouts, or the column that has it.
    path
        The catalog file, for messages.
    schema
        All its columns.

    Returns
    -------
    columns
        The columns.
    warnings
        What the user should know about the choice.

    Raises
    ------
    UserError
        Raised if a column is not there, has the wrong type or unit, or if
        there is no single guess for one that the user did not name.
    """
    choice = _Choice(path, schema)
    columns = Columns(
        id=choice.named_or_guessed("id", spec.id_column),
        ra=choice.named_or_guessed("ra", spec.ra_column),
        dec=choice.named_or_guessed("dec", spec.dec_column),
        size=choice.named("size.column", size.column) if isinstance(size, SizeColumn) else None,
        tract=choice.named("catalog.tract_column", spec.tract_column) if spec.tract_column else None,
        patch=choice.named("catalog.patch_column", spec.patch_column) if spec.patch_column else None,
        carried=choice.all_carried() if spec.carry == "all" else choice.carried(spec.carry),
    )
    if columns.ra == columns.dec:
        raise UserError(
            f"catalog.ra_column and catalog.dec_column are both {columns.ra!r}: name two columns of {path}."
        )
    choice.check_degrees("ra", columns.ra)
    choice.check_degrees("dec", columns.dec)
    for field, name in (
        ("size.column", columns.size),
        ("catalog.tract_column", columns.tract),
        ("catalog.patch_column", columns.patch),
    ):
        if name is not None:
            choice.check_number(field, name)
    return columns, choice.warnings


class _Choice:
    """The columns that there are, and what is said about them."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self._path = path
        self._schema = schema
        self._counts = Counter(schema.names)
        self.warnings: list[str] = []

    def named(self, field: str, name: str) -> str:
        """Take a name from a field of the request."""
        if name not in self._counts:
            hint = did_you_mean(name, self._counts)
            raise UserError(
                f"{field} is {name!r}: catalog {self._path} has no such column{hint}. {self._listing()}"
            )
        if self._counts[name] > 1:
            raise UserError(
                f"{field} is {name!r}: catalog {self._path} has {self._counts[name]} columns of this name. "
                "Rename all but one."
            )
        return name

    def named_or_guessed(self, role: str, name: str | None) -> str:
        """Take a name from the request, or else the one that looks right."""
        field = f"catalog.{role}_column"
        if name is not None:
            return self.named(field, name)
        stated = (self._schema.metadata or {}).get(f"{role}_column".encode(), b"").decode()
        if stated in self._counts:
            return self.named(field, stated)
        candidates = [name for name in self._counts if name.lower() in GUESSES[role]]
        if len(candidates) == 1:
            return self.named(field, candidates[0])
        found = f"{len(candidates)} columns that may be" if candidates else "no column that looks like"
        which = f": {', '.join(candidates)}" if candidates else ""
        raise UserError(
            f"Catalog {self._path} has {found} the {_MEANINGS[role]}{which}. Name it in the request with "
            f"{field}. {self._listing()}"
        )

    def carried(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """Take the columns that the user lists."""
        for name in names:
            self.named("catalog.carry", name)
            if problem := self._why_not_carried(name):
                raise UserError(f"catalog.carry: column {name!r} of catalog {self._path} {problem}.")
        return names

    def all_carried(self) -> tuple[str, ...]:
        """Take all columns that can be carried, and tell which cannot."""
        names = []
        for name, count in self._counts.items():
            problem = "occurs more than once" if count > 1 else self._why_not_carried(name)
            if problem is None:
                names.append(name)
            else:
                self.warnings.append(f"Catalog {self._path}: column {name!r} is not carried: it {problem}.")
        return tuple(names)

    def check_degrees(self, role: str, name: str) -> None:
        """Make sure that a column holds degrees, as far as the file says."""
        field = self.check_number(f"catalog.{role}_column", name)
        unit = field_unit(field)
        if unit.lower() not in _DEGREES:
            raise UserError(
                f"Catalog {self._path}: column {name} states the unit {unit!r}; the {_MEANINGS[role]} must "
                "be in degrees. Convert the column and state the unit deg, or name another one with "
                f"catalog.{role}_column."
            )
        if field.type in (pa.float32(), pa.float16()):
            self.warnings.append(
                f"Catalog {self._path}: column {name} has the type {field.type}, which rounds positions "
                f"{'by up to 0.05 arcsec' if field.type == pa.float32() else 'by many arcsec'}."
            )

    def check_number(self, where: str, name: str) -> pa.Field:
        """Make sure that a column holds numbers, or text that may be."""
        field = self._schema.field(name)
        dtype = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
        if not any(is_type(dtype) for is_type in _NUMBERS_OR_TEXT):
            raise UserError(
                f"{where} is {name!r}: this column of catalog {self._path} has the type {field.type} and "
                "holds no numbers."
            )
        return field

    def _why_not_carried(self, name: str) -> str | None:
        return why_not_carried(name, self._schema.field(name).type)

    def _listing(self) -> str:
        names = list(self._counts)
        more = f" and {len(names) - _MOST_LISTED} more" if len(names) > _MOST_LISTED else ""
        return f"Its columns are: {', '.join(names[:_MOST_LISTED])}{more}."


_NUMBERS_OR_TEXT = (
    pa.types.is_integer,
    pa.types.is_floating,
    pa.types.is_decimal,
    pa.types.is_string,
    pa.types.is_large_string,
    pa.types.is_string_view,
)
