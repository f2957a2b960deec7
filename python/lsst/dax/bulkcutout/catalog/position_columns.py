# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Which columns hold positions and proper motions, in which frame and unit."""

from __future__ import annotations

import re

import astropy.units
import pyarrow as pa

from ..errors import UserError
from ..request import CatalogSpec, EpochColumn
from ..tables import field_unit
from .angles import AngleColumn, angle_unit
from .column_choice import GUESSES, MEANINGS, ColumnChoice, field_text
from .frames import ICRS, Frame, known_frame
from .motion import Motion
from .positions import Positions

__all__ = ("choose_positions", "has_positions")

ASSUMED_IMAGE_EPOCH = 2025.0
"""Julian year, for a request that does not tell when its images were taken."""

ASSUMED_EPOCH = 2016.0
"""Julian year of positions that nothing is known of: Gaia's."""

_FAMILIES = ("", "_b1950", "galactic_", "ecliptic_", "supergalactic_")
_UCD_FRAMES = {
    "pos.eq.": "",
    "pos_eq_": "",
    "pos.galactic.": "galactic",
    "pos_gal_": "galactic",
    "pos.ecliptic.": "ecliptic",
    "pos_ec_": "ecliptic",
    "pos.supergalactic.": "supergalactic",
}
_NAME_FRAMES = {"_b1950": "fk4 B1950", "galactic_": "galactic", "ecliptic_": "ecliptic"}
_NAME_FRAMES |= {"supergalactic_": "supergalactic"}


def has_positions(spec: CatalogSpec, choice: ColumnChoice) -> bool:
    """Tell whether a catalog has any column that may be a coordinate.

    Parameters
    ----------
    spec
        What the user says about the catalog.
    choice
        Its columns.

    Returns
    -------
    has_positions
        Whether one is named, or would be guessed.
    """
    if spec.ra_column or spec.dec_column:
        return True
    return any(_is_there(choice, family) for family in _FAMILIES)


def choose_positions(spec: CatalogSpec, image_epoch: float | None, choice: ColumnChoice) -> Positions:
    """Find the columns of positions, and what they mean.

    Parameters
    ----------
    spec
        What the user says about the catalog.
    image_epoch
        Julian year of the images, if the request tells.
    choice
        Columns of the catalog.

    Returns
    -------
    positions
        What reads them.

    Raises
    ------
    UserError
        Raised if there is no single guess, if a column has the wrong type or
        unit, or if it is not clear in which frame the positions are.
    """
    family = _family(spec, choice)
    names = []
    for role, guess, name in zip(
        ("ra", "dec"), _roles(family), (spec.ra_column, spec.dec_column), strict=True
    ):
        field = f"catalog.{role}_column"
        names.append(choice.named(field, name) if name is not None else choice.guessed(guess, field=field))
    if names[0] == names[1]:
        raise UserError(
            f"catalog.ra_column and catalog.dec_column are both {names[0]!r}: name two columns of "
            f"{choice.path}."
        )
    frame = _frame(spec, choice, names)
    lon = _angle(choice, "ra", names[0], frame)
    lat = _angle(choice, "dec", names[1], frame)
    return Positions(choice.path, lon, lat, frame, _motion(spec, image_epoch, choice, names, frame))


def _roles(family: str) -> tuple[str, str]:
    return (f"{family}lon", f"{family}lat") if family.endswith("_") else (f"ra{family}", f"dec{family}")


def _family(spec: CatalogSpec, choice: ColumnChoice) -> str:
    """Choose by which names to look for columns that are not named."""
    named = {name.lower() for name in (spec.ra_column, spec.dec_column) if name is not None}
    for family in _FAMILIES:
        if any(name in GUESSES[role] for name in named for role in _roles(family)):
            return family
    wanted = (spec.frame or "").partition(" ")[0]
    # The frame that the request names first, if it has names of its own.
    for family in sorted(_FAMILIES, key=lambda family: family != f"{wanted}_"):
        if _is_there(choice, family):
            return family
    return ""


def _is_there(choice: ColumnChoice, family: str) -> bool:
    found = [bool(choice.candidates(role)) for role in _roles(family)]
    # One alone of `l` and `b` is something else, such as a magnitude.
    return all(found) if family else any(found)


def _frame(spec: CatalogSpec, choice: ColumnChoice, names: list[str]) -> Frame:
    """Find the frame of the positions: the request's word, or the file's."""
    where = f"Catalog {choice.path}"
    said = {name: _frame_said(choice, name) for name in names}
    (frame, source), (other, _) = said.values()
    if spec.frame is not None:
        wanted = known_frame(spec.frame, where=where)
        stated = {text for text, _ in said.values() if text}
        if any(text != str(wanted) and text != wanted.name for text in stated):
            choice.warnings.append(
                f"{where}: catalog.frame is {wanted}, but the catalog says that columns "
                f"{' and '.join(names)} are "
                f"{' and '.join(sorted(stated))} (from {source}). The request is followed."
            )
        found = wanted
    elif frame != other:
        texts = [f"{name} is {text or 'ICRS'} (from {source})" for name, (text, source) in said.items()]
        raise UserError(
            f"{where} says that column {' and column '.join(texts)}: say in catalog.frame what both are, or "
            "name other columns with catalog.ra_column and catalog.dec_column."
        )
    else:
        found = known_frame(frame, where=f"{where}, {source},") if frame else ICRS
    if found != ICRS:
        source = "the request" if spec.frame is not None else source
        choice.warnings.append(
            f"{where}: positions in columns {' and '.join(names)} are {found} (from {source}); they are "
            "converted to ICRS."
        )
    return found


def _frame_said(choice: ColumnChoice, name: str) -> tuple[str, str]:
    """Find what the file says about the frame of a column, and where."""
    field = choice.schema.field(name)
    stated = field_text(field, "frame")
    of_all = field_text(choice.schema, "frame")
    ucd = field_text(field, "ucd").lower()
    implied, source = None, ""
    for prefix, frame in _UCD_FRAMES.items():
        if prefix in ucd:
            implied, source = frame, f"the UCD of {name}"
    if implied is None:
        for family, frame in _NAME_FRAMES.items():
            if any(name.lower() in GUESSES[role] for role in _roles(family)):
                implied, source = frame, f"the name of {name}"
    if stated and implied and stated.partition(" ")[0] != implied.partition(" ")[0]:
        return f"{stated} or {implied}", f"its coordinate system and {source}"
    if stated:
        return stated, f"the coordinate system of {name}"
    if of_all and (not implied or of_all.partition(" ")[0] == implied.partition(" ")[0]):
        # What a header says about equatorial columns says nothing of others.
        return of_all, "its header"
    return implied or "", source


def _angle(choice: ColumnChoice, role: str, name: str, frame: Frame) -> AngleColumn:
    field = choice.number(f"catalog.{role}_column", name)
    stated = field_unit(field)
    is_text = not (pa.types.is_floating(field.type) or pa.types.is_integer(field.type))
    is_ra = role == "ra" and frame.is_equatorial
    meaning = MEANINGS[role] if frame.is_equatorial else "longitude" if role == "ra" else "latitude"
    try:
        unit = angle_unit(stated, is_ra=is_ra, is_text=is_text)
    except ValueError as error:
        raise UserError(
            f"Catalog {choice.path}: column {name} states the unit {stated!r}, which is not known for the "
            f"{meaning}; {error}. Convert the column and state the unit deg, or name another one with "
            f"catalog.{role}_column."
        ) from None
    if unit.degrees != 1.0:
        choice.warnings.append(
            f"Catalog {choice.path}: column {name} is in {unit.name}; it is converted to degrees."
        )
    if field.type in (pa.float32(), pa.float16()):
        choice.warnings.append(
            f"Catalog {choice.path}: column {name} has the type {field.type}, which rounds positions "
            f"{'by up to 0.05 arcsec' if field.type == pa.float32() else 'by many arcsec'}."
        )
    least, most = (-180.0, 360.0) if role == "ra" else (-90.0, 90.0)
    return AngleColumn(name, unit, least, most)


def _motion(
    spec: CatalogSpec, image_epoch: float | None, choice: ColumnChoice, names: list[str], frame: Frame
) -> Motion | None:
    moves = spec.epoch is not None
    if spec.pm_ra_column is not None and spec.pm_dec_column is not None:
        pm_ra = choice.named("catalog.pm_ra_column", spec.pm_ra_column)
        pm_dec = choice.named("catalog.pm_dec_column", spec.pm_dec_column)
    elif frame.is_equatorial and (moves or all(len(choice.candidates(r)) == 1 for r in ("pm_ra", "pm_dec"))):
        pm_ra = choice.guessed("pm_ra", field="catalog.pm_ra_column")
        pm_dec = choice.guessed("pm_dec", field="catalog.pm_dec_column")
    elif moves:
        raise UserError(
            f"Catalog {choice.path}: catalog.epoch moves positions, but which proper motions belong to "
            f"{frame} "
            "positions is not guessed. Name them with catalog.pm_ra_column (times the cosine of the "
            "latitude) and catalog.pm_dec_column, or name equatorial columns."
        )
    else:
        return None
    if frame.name.startswith("fk4"):
        if not moves:
            return None
        raise UserError(
            f"Catalog {choice.path}: catalog.epoch does not go together with {frame}, whose proper motions "
            "are not those of stars alone. Convert the catalog to ICRS."
        )
    try:
        units = [_pm_unit(choice, field, name) for field, name in (("pm_ra", pm_ra), ("pm_dec", pm_dec))]
    except UserError:
        if moves:
            raise
        return None
    epoch, is_assumed = _epoch(spec, choice, names)
    return Motion(
        lon=pm_ra,
        lat=pm_dec,
        lon_arcsec=units[0],
        lat_arcsec=units[1],
        epoch=epoch,
        epoch_is_assumed=is_assumed,
        image_epoch=ASSUMED_IMAGE_EPOCH if image_epoch is None else image_epoch,
        image_epoch_is_assumed=image_epoch is None,
        moves=moves,
    )


def _pm_unit(choice: ColumnChoice, role: str, name: str) -> float:
    field = choice.number(f"catalog.{role}_column", name)
    stated = field_unit(field)
    if not stated:
        return 1e-3
    for form in (None, "vounit", "cds"):
        try:
            return float(astropy.units.Unit(stated, format=form).to(astropy.units.arcsec / astropy.units.yr))
        except (ValueError, TypeError):
            pass
    raise UserError(
        f"Catalog {choice.path}: column {name} states the unit {stated!r}, which is not known for the "
        f"{MEANINGS[role]}; known are mas/yr, arcsec/yr and deg/yr. Convert the column, or name another one "
        f"with catalog.{role}_column."
    )


def _epoch(spec: CatalogSpec, choice: ColumnChoice, names: list[str]) -> tuple[float | str, bool]:
    """Find the epoch of the positions, and whether it is only assumed."""
    if isinstance(spec.epoch, EpochColumn):
        name = choice.named("catalog.epoch.column", spec.epoch.column)
        field = choice.number("catalog.epoch.column", name)
        if field_unit(field).lower() not in ("", "yr", "a", "year", "years", "julian year", "julian years"):
            raise UserError(
                f"Catalog {choice.path}: column {name} states the unit {field_unit(field)!r}; an epoch must "
                "be a Julian year, such as 2016.0. Convert the column."
            )
        return name, False
    if spec.epoch is not None:
        return spec.epoch, False
    if len(columns := choice.candidates("epoch")) == 1:
        return columns[0], False
    for text in (field_text(choice.schema.field(names[0]), "epoch"), field_text(choice.schema, "epoch")):
        if match := re.fullmatch(r"J?(\d{4}(?:\.\d*)?)", text):
            return float(match[1]), False
    return (2000.0 if "2000" in names[0] else ASSUMED_EPOCH), True
