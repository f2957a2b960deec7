# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""The tables that flow through a campaign: columns, types and status codes."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

import pyarrow as pa

__all__ = (
    "BAND_NO_DATA",
    "BAND_NO_DATASET",
    "BAND_OK",
    "BAND_READ_FAILED",
    "BAND_STATUS",
    "CARRIED_PREFIX",
    "DELIVERED",
    "HEALPIX_ORDER",
    "INVALID_ID",
    "INVALID_POSITION",
    "INVALID_SIZE",
    "NOT_PROCESSED",
    "NO_DATA",
    "NO_DATASET",
    "OUTSIDE_FOOTPRINT",
    "READ_FAILED",
    "STATUS",
    "MaskPlane",
    "NeighborInput",
    "carried_fields",
    "field_description",
    "field_unit",
    "in_band_order",
    "refusal_schema",
    "status_names",
    "status_schema",
    "target_schema",
    "why_not_carried",
    "with_unit",
)

DELIVERED = "delivered"
OUTSIDE_FOOTPRINT = "outside_footprint"
NO_DATASET = "no_dataset"
NO_DATA = "no_data"
READ_FAILED = "read_failed"
NOT_PROCESSED = "not_processed"
INVALID_POSITION = "invalid_position"
INVALID_SIZE = "invalid_size"
INVALID_ID = "invalid_id"

STATUS: Mapping[str, str] = MappingProxyType(
    {
        DELIVERED: "The cutout is in the product.",
        OUTSIDE_FOOTPRINT: "The position lies outside the sky map or the part of it that has images.",
        NO_DATASET: "No image of the requested dataset type and bands covers the position.",
        NO_DATA: "Images cover the position, but no pixel of the cutout holds data in any band.",
        READ_FAILED: "The images that cover the position are damaged, or lack what the request needs.",
        NOT_PROCESSED: "The job that was to cut this target did not finish; a restart may deliver it.",
        INVALID_POSITION: "The catalog gives no usable position in this row.",
        INVALID_SIZE: "The catalog gives no usable cutout size in this row.",
        INVALID_ID: "The catalog gives no identifier in this row.",
    }
)
"""What can become of a row of the catalog, and a sentence that says so."""

BAND_OK = 0
BAND_NO_DATASET = 1
BAND_NO_DATA = 2
BAND_READ_FAILED = 3

BAND_STATUS: Mapping[int, str] = MappingProxyType(
    {BAND_OK: "ok", BAND_NO_DATASET: NO_DATASET, BAND_NO_DATA: NO_DATA, BAND_READ_FAILED: READ_FAILED}
)
"""What can become of one band of a cutout (``band_status``, uint8)."""

CARRIED_PREFIX = "carried:"
"""Put before the names of carried columns in the target table, where they
stand beside our own columns."""

HEALPIX_ORDER = 4
"""Order of HEALPix pixels where none is named: ``nside = 16``, the value that
MultimodalUniverse asks for."""

_UNIT_KEYS = (b"unit", b"TUNIT", b"units")
_DESCRIPTION_KEYS = (b"description", b"TCOMM", b"comment")
_BAND_ORDER = "ugrizy"


@dataclasses.dataclass(frozen=True)
class MaskPlane:
    """One bit of a mask."""

    name: str
    """Name as in the image file, such as ``NO_DATA``."""

    bit: int
    """Number of the bit: its value in the mask is ``1 << bit``."""

    description: str = ""
    """What a set bit means."""


@dataclasses.dataclass(frozen=True, order=True)
class NeighborInput:
    """An image of another patch that may have given pixels."""

    patch: int
    """Patch identifier; the tract is the cutouts' own."""

    band: str
    """Band."""

    dataset_id: str
    """Identifier (UUID) of the dataset."""


def in_band_order(bands: Iterable[str]) -> tuple[str, ...]:
    """Sort bands by wavelength.

    Parameters
    ----------
    bands
        Names of bands; duplicates are dropped.

    Returns
    -------
    ordered
        First u, g, r, i, z, y, then all others by name.
    """
    return tuple(
        sorted(set(bands), key=lambda b: (_BAND_ORDER.index(b) if len(b) == 1 and b in _BAND_ORDER else 9, b))
    )


def target_schema(id_type: pa.DataType, carried: Sequence[pa.Field] = ()) -> pa.Schema:
    """Columns of the target table.

    Parameters
    ----------
    id_type
        Type of ``target_id``: int64 or string.
    carried
        Columns copied from the catalog, under the names that they have there.

    Returns
    -------
    schema
        The columns; carried ones come last, with `CARRIED_PREFIX` before
        their names.
    """
    return pa.schema(
        [
            _field("row", pa.int64(), "", "Zero-based row of the catalog", nullable=False),
            _field("target_id", id_type, "", "Identifier as the catalog gives it"),
            _field("ra", pa.float64(), "deg", "ICRS right ascension, 0 to 360"),
            _field("dec", pa.float64(), "deg", "ICRS declination"),
            _field("size_pixels", pa.int32(), "pixel", "Side of the square cutout"),
            _field("tract", pa.int32(), "", "Tract of the sky map"),
            _field("patch", pa.int32(), "", "Patch of the tract"),
            *(field.with_name(CARRIED_PREFIX + field.name).with_nullable(True) for field in carried),
        ]
    )


def refusal_schema(id_type: pa.DataType, carried: Sequence[pa.Field] = ()) -> pa.Schema:
    """Columns of target rows with what became of them.

    Parameters
    ----------
    id_type
        Type of ``target_id``: int64 or string.
    carried
        Columns copied from the catalog, under the names that they have there.

    Returns
    -------
    schema
        `target_schema` and then ``status`` (a key of `STATUS`, null for a row
        that nothing is wrong with so far) and ``reason`` (a sentence).
    """
    schema = target_schema(id_type, carried)
    schema = schema.append(_field("status", pa.string(), "", "What became of the row"))
    return schema.append(_field("reason", pa.string(), "", "Why, in a sentence; null if delivered"))


def status_schema(id_type: pa.DataType, carried: Sequence[pa.Field] = ()) -> pa.Schema:
    """Columns of the product's ``status.parquet``.

    Parameters
    ----------
    id_type
        Type of ``target_id``: int64 or string.
    carried
        Columns copied from the catalog, under the names that they have there.

    Returns
    -------
    schema
        The columns; carried ones come last, named by `status_names`.
    """
    names = status_names([field.name for field in carried])
    return pa.schema(
        [
            *_status_fields(id_type),
            *(f.with_name(name).with_nullable(True) for f, name in zip(carried, names, strict=True)),
        ]
    )


def status_names(carried: Sequence[str]) -> list[str]:
    """Names of carried columns in ``status.parquet``.

    Parameters
    ----------
    carried
        Names that the columns have in the catalog.

    Returns
    -------
    names
        The same, with ``catalog_`` before a name that is one of our own (more
        than once if need be).
    """
    own = {field.name for field in _status_fields(pa.string())}
    names: list[str] = []
    for original in carried:
        name = original
        while name in own or (name != original and (name in carried or name in names)):
            name = "catalog_" + name
        names.append(name)
    return names


def carried_fields(schema: pa.Schema) -> tuple[pa.Field, ...]:
    """Carried columns of a target table.

    Parameters
    ----------
    schema
        What `target_schema` or `refusal_schema` gave.

    Returns
    -------
    carried
        The columns under the names that they have in the catalog.
    """
    return tuple(
        field.with_name(field.name.removeprefix(CARRIED_PREFIX))
        for field in schema
        if field.name.startswith(CARRIED_PREFIX)
    )


def why_not_carried(name: str, dtype: pa.DataType) -> str | None:
    """Tell why a catalog column cannot be carried.

    Parameters
    ----------
    name
        Name of the column.
    dtype
        Its type.

    Returns
    -------
    problem
        What is wrong, to follow the column's name in a message; `None` if
        the column can be carried.
    """
    if pa.types.is_dictionary(dtype):
        dtype = dtype.value_type
    known = (
        pa.types.is_integer,
        pa.types.is_floating,
        pa.types.is_boolean,
        pa.types.is_string,
        pa.types.is_large_string,
        pa.types.is_string_view,
    )
    if not any(is_type(dtype) for is_type in known):
        return f"has the type {dtype}; integer, float, bool and string columns can be carried"
    # A name becomes the name of an HDF5 dataset.
    if not name or name == "." or "/" in name or not name.isprintable():
        return "has a name that HDF5 does not allow (empty, a single dot, a slash, or unprintable)"
    return None


def field_unit(field: pa.Field) -> str:
    """Get the unit of a column.

    Parameters
    ----------
    field
        Column with Arrow field metadata.

    Returns
    -------
    unit
        The unit; the empty string where none is stated.
    """
    return _first(field, _UNIT_KEYS)


def field_description(field: pa.Field) -> str:
    """Get the description of a column.

    Parameters
    ----------
    field
        Column with Arrow field metadata.

    Returns
    -------
    description
        The description; the empty string where none is stated.
    """
    return _first(field, _DESCRIPTION_KEYS)


def with_unit(field: pa.Field, *, unit: str, description: str) -> pa.Field:
    """Make a column state its unit and description.

    Parameters
    ----------
    field
        Any column; its other metadata are dropped.
    unit
        The unit.
    description
        The description.

    Returns
    -------
    field
        The column with the Arrow field metadata ``unit`` and ``description``.
    """
    return field.with_metadata({b"unit": unit.encode(), b"description": description.encode()})


def _status_fields(id_type: pa.DataType) -> list[pa.Field]:
    first = list(target_schema(id_type))
    return [
        *first[:4],
        _field("status", pa.string(), "", "delivered, or what became of the row instead", nullable=False),
        _field("reason", pa.string(), "", "Why, in a sentence; null if delivered"),
        _field("tract", pa.int32(), "", "Tract of the sky map"),
        _field("patch", pa.int32(), "", "Patch of the tract"),
        _field(
            "fallback", pa.bool_(), "", "Whether another patch stands in for that of the rule", nullable=False
        ),
        _field("size_pixels", pa.int32(), "pixel", "Side of the square cutout"),
        _field("file", pa.string(), "", "File of the product that holds the cutout"),
        _field("index", pa.int64(), "", "Zero-based row in that file"),
        _field("valid_fraction", pa.float64(), "", "Fraction of pixels with data, in the best band"),
        _field("bands", pa.string(), "", "Bands with data, joined by commas"),
    ]


def _field(name: str, dtype: pa.DataType, unit: str, description: str, *, nullable: bool = True) -> pa.Field:
    return with_unit(pa.field(name, dtype, nullable=nullable), unit=unit, description=description)


def _first(field: pa.Field, keys: Sequence[bytes]) -> str:
    metadata = field.metadata or {}
    for key in keys:
        if value := metadata.get(key, b"").decode(errors="replace").strip():
            return str(value)
    return ""
