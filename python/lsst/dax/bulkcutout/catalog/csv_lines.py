# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""The lines of a CSV catalog: its header, how many, which are no text."""

from __future__ import annotations

import csv
import io
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from ..errors import UserError
from .file_bytes import native_stream
from .files import unreadable

__all__ = ("count_lines", "find_undecodable", "not_utf8", "read_header")

PIECE_BYTES = 1024 * 1024
"""Bytes that are read at a time; the header must be shorter."""


def read_header(path: Path) -> tuple[list[str], int]:
    """Read the names of the columns.

    Parameters
    ----------
    path
        The catalog.

    Returns
    -------
    names
        The names.
    n_lines
        How many lines stand before the first row.

    Raises
    ------
    UserError
        Raised if there are no names.
    """
    try:
        with _open_stream(path) as stream:
            start = stream.read(PIECE_BYTES)
    except (pa.ArrowException, OSError) as error:
        raise unreadable(path, error) from error
    if b"\0" in start:
        raise UserError(
            f"Catalog {path} is neither Parquet, CSV, FITS nor VOTable: other formats are not read."
        )
    # What is not UTF-8 matters only where it is used.
    text = start[: start.rfind(b"\n") + 1 or None].decode("utf-8-sig", errors="surrogateescape")
    lines = io.StringIO(text, newline="")
    n_skipped, comment = 0, ""
    names: list[str] = []
    for line in lines:
        if line.strip() and not line.startswith("#"):
            reader = csv.reader(itertools.chain([line], lines))
            try:
                names = [name.strip() for name in next(reader)]
            except csv.Error as error:
                raise UserError(
                    f"Catalog {path}: the line with the column names is wrong: {error}."
                ) from None
            n_skipped += reader.line_num
            break
        n_skipped += 1
        comment = line
    if not names:
        raise UserError(f"Catalog {path} is empty: it has no line with column names.")
    if not all(map(_is_unicode, names)):
        raise not_utf8(path, line=n_skipped)
    if sum(map(_is_number, names)) > 1:
        hint = " Remove the # before it." if comment.count(",") == len(names) - 1 else ""
        raise UserError(
            f"Catalog {path} has no line with column names: line {n_skipped} is "
            f"{', '.join(names)[:80]!r}.{hint}"
        )
    if len(names) == 1:
        raise UserError(
            f"Catalog {path} has a single column, {names[0][:80]!r}: names and values must be separated by "
            "commas."
        )
    return names, n_skipped


def count_lines(path: Path, *, skip: int) -> tuple[int, int, int]:
    """Count lines, for a comparison with rows.

    Parameters
    ----------
    path
        The catalog.
    skip
        How many lines not to count at the start.

    Returns
    -------
    n_lines
        Number of lines.
    n_empty
        Number of those that are empty.
    n_quotes
        Number of quotation marks in them.
    """
    n_lines = n_empty = n_quotes = 0
    with _open_lines(path) as stream:
        for _ in range(skip):
            stream.readline()
        last = ord("\n")
        while data := stream.read(PIECE_BYTES):
            n_quotes += data.count(b'"')
            characters = np.frombuffer(data, dtype=np.uint8)
            characters = characters[characters != ord("\r")]
            if not len(characters):
                continue
            is_end = characters == ord("\n")
            n_lines += int(np.count_nonzero(is_end))
            n_empty += int(np.count_nonzero(is_end[1:] & is_end[:-1])) + int(is_end[0] and last == ord("\n"))
            last = int(characters[-1])
    return n_lines + (last != ord("\n")), n_empty, n_quotes


def _open_stream(path: Path) -> Any:
    return native_stream(path)[0]


def _open_lines(path: Path) -> io.BufferedReader:
    return io.BufferedReader(_open_stream(path), buffer_size=PIECE_BYTES)


def find_undecodable(path: Path) -> int | None:
    """Find text that is not in UTF-8.

    Parameters
    ----------
    path
        The catalog.

    Returns
    -------
    line
        Number of the first line, from 1, that is not; `None` if all are, or
        if the file cannot be read.
    """
    try:
        with _open_lines(path) as stream:
            for number, line in enumerate(stream, start=1):
                try:
                    line.decode()
                except UnicodeDecodeError:
                    return number
    except (pa.ArrowException, OSError):
        pass
    return None


def not_utf8(path: Path, *, line: int) -> UserError:
    """Make the error for text that is not in UTF-8.

    Parameters
    ----------
    path
        The catalog.
    line
        Number of the line, from 1.

    Returns
    -------
    error
        The error.
    """
    return UserError(f"Catalog {path} is not text in UTF-8 (line {line}). Save it as UTF-8.")


def _is_unicode(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
