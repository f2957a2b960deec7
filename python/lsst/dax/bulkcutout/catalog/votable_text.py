# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""The text of a VOTable, looked through before any parser sees it.

A VOTable may name other files: as a document type, as an entity, as the place
of its data.  A parser that follows such a name hands out files of this
machine, or asks servers for whoever wrote the catalog.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from pathlib import Path

from ..errors import UserError
from .file_bytes import PIECE_BYTES, CatalogBytes

__all__ = ("check_votable", "looks_like_xml", "utf8_pieces")

_OVERLAP_BYTES = 64 * 1024
_MARKUP = re.compile(rb"<!(DOCTYPE|ENTITY)", re.IGNORECASE)
_STREAM = re.compile(rb"""<(?:[^\s<>/!?:]+:)?STREAM\s((?:[^<>"']|"[^"<]*"|'[^'<]*')*)""")
_HREF = re.compile(rb"(?:^|[\s:])href\s*=", re.IGNORECASE)
_DECLARED = re.compile(rb"""<\?xml\s[^>]*?encoding\s*=\s*["']([A-Za-z0-9._-]+)["']""")
_UTF8 = ("utf-8", "utf8", "us-ascii", "ascii")
_LATIN = ("iso-8859-1", "latin-1", "latin1")
_UTF16 = {b"\xff\xfe": "utf-16-le", b"\xfe\xff": "utf-16-be", b"<\0": "utf-16-le", b"\0<": "utf-16-be"}


def looks_like_xml(start: bytes) -> bool:
    """Tell whether a file is XML.

    Parameters
    ----------
    start
        Its first bytes.

    Returns
    -------
    is_xml
        Whether markup is the first thing in it, in UTF-8 or UTF-16.
    """
    if codec := _UTF16.get(start[:2]):
        start = start.decode(codec, errors="ignore").lstrip("\ufeff\0").encode()
    return start.removeprefix(codecs.BOM_UTF8).lstrip().startswith(b"<")


def check_votable(path: Path) -> None:
    """Refuse a VOTable that names other files.

    Parameters
    ----------
    path
        The file.

    Raises
    ------
    UserError
        Raised if it has a document type or entities, if its data are in
        another file, or if it is in an encoding that would hide them.
    """
    rest = b""
    for piece in utf8_pieces(path):
        text = rest + piece
        if match := _MARKUP.search(text):
            word = match[0].decode().upper()
            raise UserError(
                f"Catalog {path} has {word}, which no VOTable needs and which can be misused: remove it, and "
                "all that belongs to it. Nothing of the file was read."
            )
        for tag in _STREAM.finditer(text):
            if _HREF.search(tag[1]):
                raise refused_href(path)
        rest = text[-_OVERLAP_BYTES:]


def refused_href(path: Path) -> UserError:
    """Make the error for data that are in another file.

    Parameters
    ----------
    path
        The VOTable.

    Returns
    -------
    error
        The error.
    """
    return UserError(
        f"Catalog {path} has its data in another file (STREAM href), which is not read. Save it as a VOTable "
        "with its data in it, or as Parquet."
    )


def utf8_pieces(path: Path) -> Iterator[bytes]:
    """Read a VOTable as UTF-8, whatever it is in.

    Parameters
    ----------
    path
        The file.

    Yields
    ------
    piece
        Some bytes of text; characters may be divided between pieces.

    Raises
    ------
    UserError
        Raised if the encoding is not known.
    """
    with CatalogBytes(path) as contents:
        start = contents.read(PIECE_BYTES)
        codec = _codec(path, start)
        if codec is None:
            yield start.removeprefix(codecs.BOM_UTF8)
            while piece := contents.read(PIECE_BYTES):
                yield piece
            return
        decoder = codecs.getincrementaldecoder(codec)()
        piece, is_first = start, True
        while True:
            try:
                text = decoder.decode(piece, final=not piece)
            except UnicodeDecodeError as error:
                raise UserError(
                    f"Catalog {path} cannot be read: its text is not in {codec}, as it begins ({error}). "
                    "Save it as UTF-8."
                ) from None
            yield (text.removeprefix("\ufeff") if is_first else text).encode()
            is_first = False
            if not piece:
                return
            piece = contents.read(PIECE_BYTES)


def _codec(path: Path, start: bytes) -> str | None:
    """Find how the text is encoded; `None` for UTF-8."""
    if start.startswith((b"\xff\xfe\0\0", b"\0\0\xfe\xff", b"<\0\0\0", b"\0\0\0<")):
        raise UserError(f"Catalog {path} is a VOTable in UTF-32: save it as UTF-8.")
    if codec := _UTF16.get(start[:2]):
        return codec
    declared = _DECLARED.match(start.removeprefix(codecs.BOM_UTF8).lstrip())
    name = declared[1].decode().lower() if declared else "utf-8"
    if name in _UTF8:
        return None
    if name in _LATIN:
        return "iso-8859-1"
    raise UserError(f"Catalog {path} is a VOTable in the encoding {name!r}: save it as UTF-8.")
