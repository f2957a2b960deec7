# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""``status.parquet`` as a VOTable (1.4, BINARY2), with footprints.

It is written as a stream: astropy would hold all of it in memory.
"""

from __future__ import annotations

import base64
import functools
import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from xml.sax.saxutils import escape, quoteattr

import astropy.units
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..errors import TransientError
from ..tables import field_description, field_unit

__all__ = ("STATUS_VOTABLE_NAME", "write_status_votable")

STATUS_VOTABLE_NAME = "status.vot"

_UCDS = {
    "row": "meta.record",
    "target_id": "meta.id;meta.main",
    "ra": "pos.eq.ra;meta.main",
    "dec": "pos.eq.dec;meta.main",
    "status": "meta.code.status",
    "reason": "meta.note",
    "file": "meta.id;meta.file",
    "index": "meta.record",
    "valid_fraction": "stat.filling",
    "bands": "instr.bandpass",
}

_ASCII = ("status", "file", "bands")
"""Texts of our own, which have no other characters."""

_LINE_BYTES = 57 * 1024
"""A whole number of lines of base64."""

_FOOTPRINT = (
    '<FIELD name="s_region" datatype="char" arraysize="*" ref="icrs" xtype="adql:REGION"'
    ' ucd="pos.outline;obs.field" utype="obscore:Char.SpatialAxis.Coverage.Support.Area">'
    "<DESCRIPTION>Footprint of the cutout; null if there is none</DESCRIPTION></FIELD>"
)


def write_status_votable(
    path: Path,
    schema: pa.Schema,
    rows: Iterable[tuple[pa.RecordBatch, np.ndarray]],
    *,
    n_rows: int,
    infos: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Write the VOTable.

    Parameters
    ----------
    path
        File to write.
    schema
        Columns of ``status.parquet``.
    rows
        Batches of it, each with the corners of its cutouts, as
        `cutout_corners.corners` gives them, shape ``(n, 4, 2)``; NaN for a row
        that has none.
    n_rows
        Number of rows of all batches.
    infos
        What to say of the table, by name.

    Raises
    ------
    TransientError
        Raised if the disk takes no more.

    Notes
    -----
    A batch is in memory as a whole, and nothing else.
    """
    columns = [(field, *_encoding(field)) for field in schema]
    part = path.with_name(f".{path.name}")
    try:
        with part.open("wb") as stream:
            stream.write(_head(columns, n_rows, infos).encode())
            for line in _base64(_records(columns, batch, corners) for batch, corners in rows):
                stream.write(line)
            stream.write(b"</STREAM>\n</BINARY2>\n</DATA>\n</TABLE>\n</RESOURCE>\n</VOTABLE>\n")
        part.replace(path)
    except OSError as error:
        raise TransientError(f"Cannot write {path}: {error}") from error
    finally:
        part.unlink(missing_ok=True)


type _Encode = Callable[[pa.Array], list[bytes]]
type _Column = tuple[pa.Field, str, _Encode]


def _head(columns: Sequence[_Column], n_rows: int, infos: Mapping[str, str]) -> str:
    lines = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        '<VOTABLE version="1.4" xmlns="http://www.ivoa.net/xml/VOTable/v1.3">',
        '<RESOURCE type="results">',
        '<COOSYS ID="icrs" system="ICRS"/>',
        *(f"<INFO name={quoteattr(name)} value={quoteattr(value)}/>" for name, value in infos.items()),
        f'<TABLE name="status" nrows="{n_rows}">',
        *(
            _field(field, identifier, datatype)
            for (field, datatype, _), identifier in zip(
                columns, _identifiers([field.name for field, *_ in columns]), strict=True
            )
        ),
        _FOOTPRINT,
        '<DATA>\n<BINARY2>\n<STREAM encoding="base64">\n',
    ]
    return "\n".join(lines)


def _identifiers(names: Sequence[str]) -> list[str]:
    """Names with what XML allows in an identifier."""
    taken = {"icrs", *names}
    found = []
    for name in names:
        identifier = plain = re.sub(r"[^A-Za-z0-9_.-]", "_", re.sub(r"^(?![A-Za-z_])", "_", name))
        number = 1
        while identifier != name and identifier in taken:
            number += 1
            identifier = f"{plain}_{number}"
        taken.add(identifier)
        found.append(identifier)
    return found


def _field(field: pa.Field, identifier: str, datatype: str) -> str:
    attributes = {"name": field.name, "datatype": datatype}
    if identifier != field.name:
        attributes["ID"] = identifier
    if datatype in ("char", "unicodeChar"):
        attributes["arraysize"] = "*"
    if field.name in _UCDS:
        attributes["ucd"] = _UCDS[field.name]
    if field.name in ("ra", "dec"):
        attributes["ref"] = "icrs"
    description, unit = field_description(field), field_unit(field)
    if unit and _is_vounit(unit):
        attributes["unit"] = unit
    elif unit:
        # Any text may be the unit of a catalog's column.
        description = f"{description} (unit: {unit})".strip()
    text = " ".join(f"{name}={quoteattr(_clean(value))}" for name, value in attributes.items())
    return f"<FIELD {text}><DESCRIPTION>{escape(_clean(description))}</DESCRIPTION></FIELD>"


def _is_vounit(unit: str) -> bool:
    try:
        astropy.units.Unit(unit, format="vounit", parse_strict="raise")
    except (ValueError, TypeError):
        return False
    return True


def _clean(text: str) -> str:
    """Leave out what XML has no place for."""
    return "".join(letter for letter in " ".join(text.split()) if letter.isprintable())


def _encoding(field: pa.Field) -> tuple[str, _Encode]:
    """Type of a column in VOTable, and what makes bytes of its values."""
    kind = field.type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    for is_kind, datatype, code in _NUMBERS:
        if is_kind(kind):
            return datatype, functools.partial(_numbers, code)
    if pa.types.is_boolean(kind):
        return "boolean", lambda values: [b"T" if value else b"F" for value in values.to_pylist()]
    if field.name in _ASCII:
        return "char", lambda values: _texts(values, "ascii", 1)
    # Also whole numbers above 2**63, for which VOTable has no type.
    return "unicodeChar", lambda values: _texts(values.cast(pa.string()), "utf-16-be", 2)


_NUMBERS: tuple[tuple[Callable[[pa.DataType], bool], str, str], ...] = (
    (pa.types.is_int64, "long", ">i8"),
    (pa.types.is_uint32, "long", ">i8"),
    (pa.types.is_int32, "int", ">i4"),
    (pa.types.is_uint16, "int", ">i4"),
    (pa.types.is_int16, "short", ">i2"),
    (pa.types.is_int8, "short", ">i2"),
    (pa.types.is_uint8, "unsignedByte", "u1"),
    (pa.types.is_float64, "double", ">f8"),
    (pa.types.is_float32, "float", ">f4"),
    (pa.types.is_float16, "float", ">f4"),
)


def _numbers(code: str, values: pa.Array) -> list[bytes]:
    filler = float("nan") if code[-2] == "f" else 0
    filled = values.fill_null(pa.scalar(filler).cast(values.type)) if values.null_count else values
    array = filled.to_numpy(zero_copy_only=False).astype(code)
    return [value.tobytes() for value in array] if array.itemsize == 1 else _split(array)


def _split(array: np.ndarray) -> list[bytes]:
    data, width = array.tobytes(), array.itemsize
    return [data[start : start + width] for start in range(0, len(data), width)]


def _texts(values: pa.Array, encoding: str, width: int) -> list[bytes]:
    encoded = [(value or "").encode(encoding) for value in values.to_pylist()]
    return [(len(text) // width).to_bytes(4, "big") + text for text in encoded]


def _records(columns: Iterable[_Column], batch: pa.RecordBatch, corners: np.ndarray) -> bytes:
    """Rows in the form of BINARY2: which are null, and then the values."""
    nulls, values = [], []
    for field, _, encode in columns:
        column = batch.column(field.name)
        if pa.types.is_dictionary(column.type):
            column = column.dictionary_decode()
        nulls.append(pc.is_null(column).to_numpy(zero_copy_only=False))
        values.append(encode(column))
    missing = np.isnan(corners).any(axis=(1, 2))
    nulls.append(missing)
    values.append([_polygon(box, gone) for box, gone in zip(corners.tolist(), missing.tolist(), strict=True)])
    flags = _split(np.packbits(np.stack(nulls, axis=1), axis=1).view(f"V{-(-len(nulls) // 8)}").reshape(-1))
    return b"".join(itertools.chain.from_iterable(zip(flags, *values, strict=True)))


def _polygon(box: list[list[float]], is_missing: bool) -> bytes:
    text = "" if is_missing else "POLYGON ICRS " + " ".join(f"{ra:.8f} {dec:.8f}" for ra, dec in box)
    return len(text).to_bytes(4, "big") + text.encode("ascii")


def _base64(blocks: Iterable[bytes]) -> Iterator[bytes]:
    rest = b""
    for block in blocks:
        block = rest + block
        whole = len(block) // _LINE_BYTES * _LINE_BYTES
        for start in range(0, whole, _LINE_BYTES):
            yield base64.encodebytes(block[start : start + _LINE_BYTES])
        rest = block[whole:]
    yield base64.encodebytes(rest)
