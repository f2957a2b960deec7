# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""From the tags of a VOTable to its columns and to pieces of its data."""

from __future__ import annotations

import xml.parsers.expat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from ..errors import UserError
from .files import unreadable
from .votable_fields import DataPiece, VotableField, VotableHeader, coordinate_system
from .votable_rows import MAY_HIDE_ROWS, ROW_END, ROWS_END, START, plain_rows
from .votable_text import refused_href, utf8_pieces

__all__ = ("MOST_CELL_BYTES", "read_data", "read_header")

MOST_CELL_BYTES = 16 * 1024 * 1024
"""Largest value, tag or stretch of text; so much may have to be held."""

MOST_FIELDS = 10_000
MOST_DEPTH = 50
MOST_DESCRIPTION = 1000
FEED_BYTES = 1024 * 1024
"""So much is parsed at a time."""


def read_header(path: Path) -> tuple[VotableHeader, int]:
    """Find the first table that has rows.

    Parameters
    ----------
    path
        The file.

    Returns
    -------
    header
        What is said about it.
    n_empty
        How many tables without rows come before it.

    Raises
    ------
    UserError
        Raised if there is none, or if the file is damaged before its rows.
    """
    parser = _Parser(path, wanted=None)
    for _ in parser.pieces():
        if parser.has_rows:
            break
    if parser.has_rows:
        return parser.header, parser.header.number
    n = parser.n_tables
    what = f"{n} tables, but none has rows" if n else "no table"
    raise UserError(f"Catalog {path} is a VOTable with {what}.")


def read_data(path: Path, header: VotableHeader) -> Iterator[DataPiece]:
    """Read the data of a table.

    Parameters
    ----------
    path
        The file.
    header
        What `read_header` gave.

    Yields
    ------
    piece
        Data in the order of the file.

    Raises
    ------
    UserError
        Raised if the file is damaged.
    """
    parser = _Parser(path, wanted=header.number)
    yield from parser.pieces()


class _Parser:
    """Takes what expat finds.

    Parameters
    ----------
    path
        The file.
    wanted
        Number of the table whose data are wanted; `None` for the first that
        has rows.
    """

    def __init__(self, path: Path, *, wanted: int | None) -> None:
        self._path = path
        self._wanted = wanted
        self._depth = 0
        self._rows: list[list[str | None]] = []
        self._row: list[str | None] = []
        self._cell: list[str] = []
        self._encoded: list[str] = []
        self._field: VotableField | None = None
        self._was_root = self._is_after = self._is_in_rows = False
        self._n_fed = 0
        self._plain: Literal["before", "yes", "no"] = "before"
        self._rows_depth = 0
        self.n_tables = 0
        self.has_rows = False
        self.header = VotableHeader(-1, [], {})
        # The text is UTF-8 by now, whatever its declaration says.
        self._expat = xml.parsers.expat.ParserCreate(encoding="utf-8")
        self._expat.buffer_text = True
        self._expat.buffer_size = FEED_BYTES
        self._expat.StartDoctypeDeclHandler = _refuse_markup
        self._expat.EntityDeclHandler = _refuse_markup
        self._expat.ExternalEntityRefHandler = _refuse_markup
        self._handle(self._start, self._end, None)

    def pieces(self) -> Iterator[DataPiece]:
        """Read the file, and give out data as they come."""
        rest = b""
        for piece in utf8_pieces(self._path):
            for at in range(0, len(piece), FEED_BYTES):
                rest = self._parse(rest + piece[at : at + FEED_BYTES])
                if data := self._take():
                    yield data
                if self._is_after:
                    return
        self._feed(rest, is_final=True)
        if data := self._take():
            yield data

    def _parse(self, text: bytes) -> bytes:
        """Parse some text; gives what is to be put before the next."""
        while self._plain == "before":
            was_in_rows = self._is_in_rows
            if (end := text.find(START)) < 0:
                end = max(len(text) - len(START) + 1, 0)
                self._feed(text[:end])
                return text[end:]
            end += len(START)
            self._feed(text[:end])
            text = text[end:]
            if self._is_in_rows:
                # If the parser was in rows before, this is no tag.
                self._plain, self._rows_depth = "no" if was_in_rows else "yes", self._depth
        if self._plain == "yes":
            text = self._take_plain(text)
            if self._plain == "yes":
                return text
        self._feed(text)
        return b""

    def _take_plain(self, text: bytes) -> bytes:
        """Take whole rows without the parser, and give it those that are not
        plain.
        """
        end = text.rfind(ROW_END) + len(ROW_END)
        if end >= len(ROW_END):
            head, text = text[:end], text[end:]
            if (rows := plain_rows(head)) is not None:
                self._rows += rows
                self.has_rows = self.has_rows or bool(rows)
            else:
                self._feed(head)
                # Within a comment the end of a row is none.
                if MAY_HIDE_ROWS.search(head) or not self._is_in_rows or self._depth != self._rows_depth:
                    self._plain = "no"
        if len(text) > MOST_CELL_BYTES or ROWS_END in text or MAY_HIDE_ROWS.search(text):
            self._plain = "no"
        return text

    def _feed(self, data: bytes, *, is_final: bool = False) -> None:
        self._n_fed += len(data)
        try:
            self._expat.Parse(data, is_final)
        except xml.parsers.expat.ExpatError as error:
            raise unreadable(self._path, error) from error
        except ValueError as error:
            raise UserError(f"Catalog {self._path} cannot be read: {error}.") from None
        self._check_limits()

    def _take(self) -> DataPiece | None:
        data = DataPiece(self._rows, "".join(self._encoded))
        self._rows = []
        self._encoded.clear()
        return data if data.rows or data.encoded else None

    def _check_limits(self) -> None:
        n_held = self._n_fed - self._expat.CurrentByteIndex
        if max(n_held, sum(map(len, self._cell))) > MOST_CELL_BYTES or len(self._row) > 2 * MOST_FIELDS:
            raise UserError(
                f"Catalog {self._path} cannot be read: it has a tag or a value of more than "
                f"{MOST_CELL_BYTES} bytes, or a row of more than {2 * MOST_FIELDS} cells, at line "
                f"{self._expat.CurrentLineNumber}."
            )

    def _handle(self, start: Any, end: Any, text: Any) -> None:
        self._expat.StartElementHandler = start
        self._expat.EndElementHandler = end
        self._expat.CharacterDataHandler = text

    def _deeper(self) -> None:
        self._depth += 1
        if self._depth > MOST_DEPTH:
            raise ValueError(f"it has elements that are nested more than {MOST_DEPTH} deep")

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        tag = tag.rpartition(":")[2]
        self._deeper()
        if not self._was_root and tag != "VOTABLE":
            raise ValueError(f"it is XML, but begins with {tag[:40]!r} and not with VOTABLE")
        self._was_root = True
        if tag == "COOSYS":
            if len(self.header.systems) < MOST_FIELDS:
                self.header.systems[attributes.get("ID", "")] = coordinate_system(attributes)
        elif tag == "TABLE":
            self.header = VotableHeader(self.n_tables, [], self.header.systems)
            self.n_tables += 1
        elif tag == "FIELD":
            self._field = VotableField.from_attributes(attributes)
            self.header.fields.append(self._field)
            if len(self.header.fields) > MOST_FIELDS:
                raise ValueError(f"it has more than {MOST_FIELDS} columns")
        elif tag == "VALUES":
            if self._field is not None and attributes.get("null"):
                self._field.null = attributes["null"]
        elif tag == "DESCRIPTION":
            if self._field is not None:
                self._handle(self._start, self._end, self._describe)
        elif tag in ("TABLEDATA", "BINARY", "BINARY2"):
            self._start_data(tag)
        elif tag == "STREAM":
            self._start_stream(attributes)
        elif tag in ("FITS", "PARQUET"):
            raise ValueError(f"its data are in the form {tag}, and not in TABLEDATA, BINARY or BINARY2")

    def _end(self, tag: str) -> None:
        tag = tag.rpartition(":")[2]
        self._depth -= 1
        if tag == "FIELD":
            self._field = None
        elif tag == "DESCRIPTION":
            self._handle(self._start, self._end, None)

    def _describe(self, text: str) -> None:
        if self._field is not None and len(self._field.description) < MOST_DESCRIPTION:
            self._field.description += text[:MOST_DESCRIPTION]

    def _start_data(self, tag: str) -> None:
        if not self.header.fields:
            raise ValueError("it has a table without FIELD elements")
        self.header.kind = tag
        if tag == "TABLEDATA" and self._wanted in (None, self.header.number):
            self._is_in_rows = True
            self._handle(self._start_cell, self._end_cell, self._cell.append)

    def _start_cell(self, tag: str, attributes: dict[str, str]) -> None:
        self._cell.clear()
        if attributes.get("encoding"):
            raise ValueError("it has cells (TD) with an encoding of their own")
        self._deeper()

    def _end_cell(self, tag: str) -> None:
        cell = self._cell
        self._depth -= 1
        tag = tag if ":" not in tag else tag.rpartition(":")[2]
        if tag == "TD":
            self._row.append((cell[0] if len(cell) == 1 else "".join(cell)) if cell else None)
            cell.clear()
        elif tag == "TR":
            self._rows.append(self._row)
            self._row = []
            self.has_rows = True
        elif tag == "TABLEDATA":
            cell.clear()
            self._end_data()

    def _start_stream(self, attributes: dict[str, str]) -> None:
        if any(name.rpartition(":")[2].lower() == "href" for name in attributes):
            raise refused_href(self._path)
        if self._wanted not in (None, self.header.number) or not self.header.kind.startswith("BINARY"):
            return
        if (encoding := attributes.get("encoding", "none")).strip().lower() != "base64":
            raise ValueError(f"its STREAM has the encoding {encoding!r}, and not 'base64'")
        self._handle(self._start, self._end_stream, self._add_encoded)

    def _add_encoded(self, text: str) -> None:
        self._encoded.append(text)
        self.has_rows = self.has_rows or not text.isspace()

    def _end_stream(self, tag: str) -> None:
        self._depth -= 1
        if tag.rpartition(":")[2] == "STREAM":
            self._end_data()

    def _end_data(self) -> None:
        self._is_in_rows = False
        if self.has_rows or self._wanted is not None:
            # What follows is nobody's concern.
            self._is_after = True
            self._handle(None, None, None)
        else:
            self._handle(self._start, self._end, None)


def _refuse_markup(*_: object) -> Any:
    raise ValueError("it has a document type or an entity")
