# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""The catalog's part of a request: where it is, and what its columns mean."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pydantic
from pydantic import BeforeValidator

from ..frame_names import sky_frame
from .checks import julian_year, several
from .field_types import Column, DatasetTypeName, Part, PathText, check_column

__all__ = ("CatalogSpec", "EpochColumn")


def _check_epoch(value: Any) -> Any:
    allowed = "must be a Julian year, as in 2016.0, or {column: NAME}"
    if isinstance(value, dict):
        if set(value) != {"column"}:
            raise ValueError(allowed)
        return EpochColumn(column=check_column(value["column"]))
    return value if value is None or isinstance(value, EpochColumn) else julian_year(value, allowed)


class EpochColumn(Part):
    """Epochs that the catalog gives row by row."""

    column: Column
    """Name of the catalog's column with the epoch in Julian years."""


class CatalogSpec(Part):
    """The user's catalog."""

    uri: PathText
    """Path of the catalog: Parquet, CSV, FITS, VOTable, or a directory of
    Parquet files or HATS."""

    id_column: Column | None = None
    """Name of the column with the identifiers; guessed by default."""

    ra_column: Column | None = None
    """Name of the column with the right ascension, or with the longitude of
    another frame; guessed by default."""

    dec_column: Column | None = None
    """Name of the column with the declination, or with the latitude of
    another frame; guessed by default."""

    frame: Annotated[str | None, BeforeValidator(lambda v: v if v is None else sky_frame(v))] = None
    """Frame of the positions: icrs, fk5, fk4, fk4-no-e, galactic,
    supergalactic or ecliptic, perhaps with an equinox; by default what the
    catalog says, else icrs."""

    epoch: Annotated[float | EpochColumn | None, BeforeValidator(_check_epoch)] = None
    """Epoch of the positions, a Julian year or {column: NAME}; proper motions
    move them from there to image_epoch."""

    pm_ra_column: Column | None = None
    """Name of the column with the proper motion in right ascension times
    cos(dec); guessed by default."""

    pm_dec_column: Column | None = None
    """Name of the column with the proper motion in declination; guessed by
    default."""

    lookup: DatasetTypeName | None = None
    """Dataset type of tables with positions by identifier; by default object,
    for a catalog without positions."""

    tract_column: Column | None = None
    """Name of a column with the tract of each row; needs patch_column."""

    patch_column: Column | None = None
    """Name of a column with the patch of each row; needs tract_column."""

    carry: Annotated[
        tuple[str, ...] | Literal["all"],
        BeforeValidator(several("columns", item=check_column, or_all=True, or_none=True)),
    ] = ()
    """Columns to copy into the product: a list of names, or all."""

    @pydantic.model_validator(mode="after")
    def _tract_and_patch(self) -> CatalogSpec:
        if (self.tract_column is None) != (self.patch_column is None):
            raise ValueError("tract_column and patch_column belong together: name both or neither")
        if (self.pm_ra_column is None) != (self.pm_dec_column is None):
            raise ValueError("pm_ra_column and pm_dec_column belong together: name both or neither")
        return self
