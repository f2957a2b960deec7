# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Which columns of a catalog are needed: named by the user, or guessed."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from ..request import CatalogSpec, SizeArcsec, SizeColumn
from .column_choice import ColumnChoice

__all__ = ("Columns", "choose_columns", "choose_identifiers")


@dataclasses.dataclass(frozen=True)
class Columns:
    """The columns of a catalog that are read, each by its name."""

    id: str
    """Identifier."""

    positions: tuple[str, ...]
    """Right ascension and declination, and what else positions need."""

    size: str | None
    """Size of the cutout; `None` if all have the same."""

    tract: str | None
    """Tract, if the catalog tells."""

    patch: str | None
    """Patch, if the catalog tells."""

    carried: tuple[str, ...]
    """Columns to copy."""

    @property
    def names(self) -> list[str]:
        """All of them, each once."""
        roles = (self.id, *self.positions, self.size, self.tract, self.patch, *self.carried)
        return list(dict.fromkeys(name for name in roles if name is not None))


def choose_columns(
    spec: CatalogSpec, size: int | SizeArcsec | SizeColumn, *, choice: ColumnChoice, positions: Sequence[str]
) -> Columns:
    """Find the columns to read.

    Parameters
    ----------
    spec
        What the user says about the catalog.
    size
        Size of all cutouts, or the column that has it.
    choice
        Columns of the catalog.
    positions
        Those that positions need.

    Returns
    -------
    columns
        The columns.

    Raises
    ------
    UserError
        Raised if a column is not there, has the wrong type, or if there is no
        single guess for one that the user did not name.
    """
    columns = Columns(
        id=choose_identifiers(spec, choice),
        positions=tuple(positions),
        size=choice.named("size.column", size.column) if isinstance(size, SizeColumn) else None,
        tract=choice.named("catalog.tract_column", spec.tract_column) if spec.tract_column else None,
        patch=choice.named("catalog.patch_column", spec.patch_column) if spec.patch_column else None,
        carried=choice.all_carried() if spec.carry == "all" else choice.carried(spec.carry),
    )
    for field, name in (
        ("size.column", columns.size),
        ("catalog.tract_column", columns.tract),
        ("catalog.patch_column", columns.patch),
    ):
        if name is not None:
            choice.number(field, name)
    return columns


def choose_identifiers(spec: CatalogSpec, choice: ColumnChoice) -> str:
    """Find the column with the identifiers.

    Parameters
    ----------
    spec
        What the user says about the catalog.
    choice
        Columns of the catalog.

    Returns
    -------
    name
        Its name.

    Raises
    ------
    UserError
        Raised if it is not there, or if there is no single guess.
    """
    if spec.id_column is not None:
        return choice.named("catalog.id_column", spec.id_column)
    return choice.guessed("id", field="catalog.id_column")
