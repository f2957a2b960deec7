# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""The container that lsst.images writes: HDUs, an index of them, a JSON tree.

Two cards of the primary header say where the index and the tree are, so all
there is to know about a file takes three short reads.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import pydantic

from ..errors import UserError
from .byte_source import Location
from .fits_extension import Extension
from .fits_file import BLOCK, FitsFile
from .fits_header import FitsHeader
from .fits_table import FitsTable

__all__ = ("ImagesArchive", "schema_of")

CONTAINER_VERSION = 1
"""The value of FMTVER that is understood here."""

_SCHEMA = re.compile(r"https?://.+/schemas/(?P<name>[^/]+)-(?P<version>\d+(\.\d+)*)")
_SOURCE = re.compile(r"fits:(?P<name>[\w/\-]+)(,(?P<version>\d+))?(\[\d+\])?")


def schema_of(header: FitsHeader) -> tuple[str, str] | None:
    """What a file says that it holds.

    Parameters
    ----------
    header
        Primary header.

    Returns
    -------
    schema
        Name and version, such as ``("cell_coadd", "1.0.0")``; `None` for a
        file that lsst.images did not write.
    """
    match = _SCHEMA.fullmatch(str(header.values.get("DATAMODL")))
    return (match["name"], match["version"]) if match else None


class ImagesArchive(FitsFile):
    """A file of lsst.images.

    Parameters
    ----------
    path
        File to read, as for `FitsFile`.
    schema
        Name of the data model it must have.
    major_version
        Major version of that model which the caller understands.

    Raises
    ------
    UserError
        Raised if the model, its version or that of the container is another
        one.
    CorruptInputError
        Raised if the file is truncated, or contradicts itself.
    OSError
        Raised as it comes if the file cannot be read.
    """

    def __init__(self, path: Location, *, schema: str, major_version: int) -> None:
        super().__init__(path)
        try:
            self._check_versions(schema, major_version)
            self._index = self._read_index()
        except BaseException:
            self.close()
            raise

    def _check_versions(self, schema: str, major_version: int) -> None:
        name, version = schema_of(self.primary) or ("unknown", "unknown")
        if name != schema or version.partition(".")[0] != str(major_version):
            raise UserError(
                f"{self.path}: its data model is {name} version {version}; this release reads {schema} "
                f"version {major_version}.x. A newer release of dax_bulkcutout may read it."
            )
        container = self.primary.integer("FMTVER", minimum=1)
        if container != CONTAINER_VERSION:
            raise UserError(
                f"{self.path}: its container version (FMTVER) is {container}; this release reads "
                f"{CONTAINER_VERSION}. A newer release of dax_bulkcutout may read it."
            )
        if "JSONADDR" not in self.primary.values:
            # An image that was cut out of a file by another tool keeps its
            # pixels only: no tract, no band, no PSF.
            raise UserError(
                f"{self.path}: it has no JSON tree (card JSONADDR), so it is a part cut out of an "
                "lsst.images file; give the whole file."
            )

    def _read_index(self) -> dict[tuple[str, int], tuple[int, int, int]]:
        address = self.primary.integer("INDXADDR", minimum=1)
        # The index is the last HDU: a file that is long enough for it has lost
        # nothing at its end.
        end = address + self.primary.integer("INDXSIZE", minimum=1)
        if end > self.size:
            raise self.corrupt(f"truncated, it has {self.size} bytes instead of {end}")
        rows = FitsTable(self.header(address, "INDEX")).rows
        missing = {"EXTNAME", "EXTVER", "HDRADDR", "DATADDR", "DATSIZE"} - set(rows.dtype.names or ())
        if missing:
            raise self.corrupt(f"its INDEX lacks the column {sorted(missing)[0]}")
        index: dict[tuple[str, int], tuple[int, int, int]] = {}
        expected = 0
        for number, row in enumerate(rows):
            name = bytes(row["EXTNAME"]).rstrip(b" \0").decode("ascii", errors="replace").upper()
            header_address, data_address = int(row["HDRADDR"]), int(row["DATADDR"])
            if header_address != expected or not header_address < data_address <= address:
                raise self.corrupt(f"INDEX row {number} ({name}) does not begin where the one before ends")
            expected = data_address + int(row["DATSIZE"])
            if expected < data_address:
                raise self.corrupt(f"INDEX row {number} ({name}) has a negative size")
            index[name, int(row["EXTVER"])] = (number, header_address, expected)
        if expected != address:
            raise self.corrupt(f"its INDEX ends at byte {expected} and begins at byte {address}")
        return index

    def find(self, source: str) -> Extension:
        """The HDU that the tree refers to.

        Parameters
        ----------
        source
            Reference such as ``fits:IMAGE`` or ``fits:MASK,2``.

        Returns
        -------
        extension
            The HDU, compared with what the index says of it.
        """
        match = _SOURCE.fullmatch(source)
        key = (match["name"].upper(), int(match["version"] or 1)) if match else ("", 0)
        if match is None or key not in self._index:
            raise self.corrupt(f"its tree refers to {source!r}, which is not in the INDEX")
        number, address, end = self._index[key]
        header = self.header(address, key[0])
        found = (str(header.values.get("EXTNAME", "")).upper(), header.values.get("EXTVER", 1))
        if found != key:
            raise self.corrupt(f"HDU {number} is {found} and its INDEX says {key}")
        if header.data_address + -(-header.data_size // BLOCK) * BLOCK != end:
            raise self.corrupt(f"HDU {number} ({key[0]}) has another size than its INDEX says")
        return Extension(name=key[0], number=number, header=header)

    def extensions(self) -> Iterator[Extension]:
        """All HDUs that the index knows, but the primary.

        Yields
        ------
        extension
            In the order of the file.
        """
        for name, version in self._index:
            if name:
                yield self.find(f"fits:{name},{version}")

    def tree[T: pydantic.BaseModel](self, model: type[T]) -> T:
        """The JSON tree.

        Parameters
        ----------
        model
            What of it is wanted; the rest is skipped.

        Returns
        -------
        tree
            An instance of ``model``.
        """
        table = FitsTable(self.header(self.primary.integer("JSONADDR", minimum=1), "JSON"))
        if "JSON" not in (table.rows.dtype.names or ()) or len(table.rows) == 0:
            raise self.corrupt("its JSON table is empty")
        try:
            return model.model_validate_json(table.cells("JSON", 0, 1)[0])
        except pydantic.ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"]) or "the text"
            raise self.corrupt(f"its JSON tree is wrong at {where}: {first['msg']}") from None
