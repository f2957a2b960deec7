# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Which rows of a product are isolated stars of known flux.

All that is asked here are columns; what the pixels say of a star (saturation,
holes) is seen when it is measured.
"""

from __future__ import annotations

import dataclasses
import operator
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import UserError, did_you_mean

if TYPE_CHECKING:
    from ..formats.cutouts import Cutouts
    from ..formats.hdf5_reader import HDF5Reader

__all__ = ("USUAL_CONDITIONS", "Condition", "StarCatalog", "parse_condition", "read_star_catalog")

USUAL_CONDITIONS = (
    "refExtendedness < 0.5",
    "detect_isIsolated",
    "not {band}_psfFlux_flag",
    "not {band}_pixelFlags_saturatedCenter",
)
"""Conditions that are made where their columns are carried and the user has
named none; names as in Rubin's object tables."""

_SAME_ARCSEC = 0.2
"""Rows nearer than this are the same star."""

_FAINT_NEIGHBOUR = 0.01
"""Neighbours with less than this part of a star's flux are no matter."""

_OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    ">": operator.gt,
    "=": operator.eq,
}


@dataclasses.dataclass(frozen=True)
class Condition:
    """What a carried column must say of a star; no value, no star."""

    text: str
    """As it was written."""

    column: str
    """Name of the column, perhaps with ``{band}``."""

    compare: str
    """One of ``< <= > >= == !=``."""

    value: bool | float | str
    """What it is compared with."""

    def holds(self, values: np.ndarray) -> np.ndarray:
        """Compare.

        Parameters
        ----------
        values
            Values of the column.

        Returns
        -------
        holds
            Bool, of the same shape; false for NaN.
        """
        is_text = values.dtype.kind in "UO"
        if is_text != isinstance(self.value, str):
            kind = "text" if is_text else "numbers"
            raise UserError(f"The column {self.column} holds {kind}: `{self.text}` cannot be compared.")
        with np.errstate(invalid="ignore"):
            found = np.asarray(_OPERATORS[self.compare](values, self.value), dtype=bool)
        if values.dtype.kind == "f":
            found &= np.isfinite(values)
        return found


@dataclasses.dataclass(frozen=True)
class StarCatalog:
    """Rows that may be stars, and their fluxes."""

    number: np.ndarray
    """Number of the cutout in the product, shape ``(n,)``."""

    flux: np.ndarray
    """Flux in each band, nJy, shape ``(n, bands)``; NaN where the row is no
    isolated star of known flux in that band."""

    bands: tuple[str, ...]
    """The bands that have a column of fluxes."""

    without: tuple[str, ...]
    """The bands of the product that have none."""

    conditions: tuple[str, ...]
    """The conditions that were made."""


def parse_condition(text: str) -> Condition:
    """Understand a condition.

    Parameters
    ----------
    text
        ``NAME < NUMBER`` (or another comparison, or another kind of value),
        ``NAME`` or ``not NAME``.

    Returns
    -------
    condition
        The condition.

    Raises
    ------
    UserError
        Raised if it is none of these.
    """
    found = re.fullmatch(r"\s*([\w{}.\-]+)\s*(<=|>=|==|!=|<|>|=)\s*(\S.*?)\s*", text)
    if found:
        column, compare, value = found.groups()
        return Condition(text, column, compare, _value(value))
    found = re.fullmatch(r"\s*(not\s+)?([\w{}.\-]+)\s*", text)
    if found:
        return Condition(text, found[2], "==", not found[1])
    raise UserError(f"The condition {text!r} is not understood: write `NAME < 0.5`, `NAME` or `not NAME`.")


def read_star_catalog(
    cutouts: Cutouts,
    *,
    flux_column: str,
    flux_unit: str | None,
    conditions: Sequence[str] | None,
    isolation_arcsec: float,
) -> StarCatalog:
    """Find rows that are isolated stars.

    Parameters
    ----------
    cutouts
        The product.
    flux_column
        Name of the carried columns of fluxes, with ``{band}`` in place of
        the band.
    flux_unit
        Their unit; `None` for that of the columns themselves.
    conditions
        What else must hold; `None` for `USUAL_CONDITIONS`.
    isolation_arcsec
        Distance within which no other row may have a hundredth of the flux.

    Returns
    -------
    stars
        In the order of the product.

    Raises
    ------
    UserError
        Raised if there is no column of fluxes, or its unit is not known, or
        a condition names a column that is not carried.
    """
    reader = cutouts.reader(0)
    carried = reader.names("carried")
    bands = tuple(band for band in cutouts.bands if _fill(flux_column, band) in carried)
    if not bands:
        wanted = _fill(flux_column, cutouts.bands[0])
        raise UserError(
            f"The product carries no column {wanted}{did_you_mean(wanted, carried)}: name the fluxes with "
            "--flux-column, with {band} for the band. A column that is not there must be named in `carry` "
            f"of the request. Columns of the product: {', '.join(carried) or 'none'}."
        )
    if "{band}" not in flux_column and len(cutouts.bands) > 1:
        raise UserError(
            f"The column {flux_column} cannot hold the fluxes of all of {', '.join(cutouts.bands)}: "
            "write {band} in its place, for instance --flux-column '{band}_psfFlux'."
        )
    made = [
        condition
        for condition in map(parse_condition, USUAL_CONDITIONS if conditions is None else conditions)
        if conditions is not None or all(_fill(condition.column, band) in carried for band in bands)
    ]
    numbers, fluxes, first = [], [], 0
    for file in range(len(cutouts.files)):
        reader = cutouts.reader(file)
        flux = np.stack([_fluxes(reader, _fill(flux_column, band), flux_unit) for band in bands], axis=1)
        star = np.isfinite(flux) & (flux > 0)
        for condition in made:
            star &= np.stack([_holds(reader, condition, band) for band in bands], axis=1)
        star &= _usable(reader, [cutouts.bands.index(band) for band in bands])
        ra, dec = reader.read("catalog/ra"), reader.read("catalog/dec")
        star &= _isolated(ra, dec, flux, star, isolation_arcsec)
        any_band = np.flatnonzero(star.any(axis=1))
        numbers.append(first + any_band)
        fluxes.append(np.where(star, flux, np.nan)[any_band])
        first += reader.n_rows
    return StarCatalog(
        number=np.concatenate(numbers),
        flux=np.concatenate(fluxes),
        bands=bands,
        without=tuple(band for band in cutouts.bands if band not in bands),
        conditions=tuple(condition.text for condition in made),
    )


def _value(text: str) -> bool | float | str:
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    try:
        return float(text)
    except ValueError:
        return text.strip("'\"")


def _fill(column: str, band: str) -> str:
    return column.replace("{band}", band)


def _fluxes(reader: HDF5Reader, column: str, stated: str | None) -> np.ndarray:
    """Read a column as nJy; NaN for a null."""
    # Astropy takes a second to import: only photometry needs units.
    import astropy.units

    values = reader.read(f"carried/{column}")
    if values.dtype.kind not in "iuf":
        raise UserError(f"The column {column} holds no numbers: fluxes are numbers.")
    name = stated or reader.attributes(f"carried/{column}").get("unit", "")
    if not name:
        raise UserError(f"The unit of the column {column} is not known: name it with --flux-unit.")
    values = np.where(reader.read(f"carried_null/{column}"), np.nan, values.astype(np.float64))
    try:
        quantity = astropy.units.Quantity(values, astropy.units.Unit(name), subok=True)
        return np.asarray(quantity.to_value(astropy.units.nJy))
    except (ValueError, TypeError) as error:
        raise UserError(
            f"{name!r} is no unit of flux that is known here ({column}): give --flux-unit, for instance nJy."
        ) from error


def _holds(reader: HDF5Reader, condition: Condition, band: str) -> np.ndarray:
    column = _fill(condition.column, band)
    carried = reader.names("carried")
    if column not in carried:
        raise UserError(
            f"The product carries no column {column}{did_you_mean(column, carried)}, which "
            f"`{condition.text}` names. Columns of the product: {', '.join(carried) or 'none'}."
        )
    null = reader.read(f"carried_null/{column}")
    return np.asarray(condition.holds(reader.read(f"carried/{column}")) & ~null)


def _usable(reader: HDF5Reader, bands: list[int]) -> np.ndarray:
    """Whether the target's own pixel and PSF are there, ``(n, bands)``."""
    usable = np.asarray(reader.read("images/psf_valid")[:, bands], dtype=bool)
    return np.asarray(usable & reader.read("images/center_valid")[:, bands])


def _isolated(
    ra: np.ndarray, dec: np.ndarray, flux: np.ndarray, star: np.ndarray, radius_arcsec: float
) -> np.ndarray:
    """Whether no other row of the catalog shines into a star."""
    isolated = np.ones(flux.shape, dtype=bool)
    order = np.argsort(dec, kind="stable")
    sorted_dec = dec[order]
    radius = radius_arcsec / 3600.0
    for number in np.flatnonzero(star.any(axis=1)).tolist():
        start, stop = np.searchsorted(sorted_dec, (dec[number] - radius, dec[number] + radius))
        others = order[start:stop]
        d_ra = (ra[others] - ra[number] + 180.0) % 360.0 - 180.0
        distance = np.hypot(d_ra * np.cos(np.radians(dec[number])), dec[others] - dec[number]) * 3600.0
        near = others[(distance <= radius_arcsec) & (distance > _SAME_ARCSEC)]
        if len(near):
            with np.errstate(invalid="ignore"):
                isolated[number] = ~(flux[near] > _FAINT_NEIGHBOUR * flux[number]).any(axis=0)
    return isolated
