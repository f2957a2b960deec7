# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Rows of TABLEDATA as nearly all programs write them, without a parser.

An XML parser calls back three times for each cell.  Rows with nothing but
plain cells are taken out of the text before, which is five times as fast; all
others are left to it.
"""

from __future__ import annotations

import re

__all__ = ("MAY_HIDE_ROWS", "ROWS_END", "ROW_END", "START", "plain_rows")

START = b"<TABLEDATA>"
ROW_END = b"</TR>"
ROWS_END = b"</TABLEDATA"

MAY_HIDE_ROWS = re.compile(rb"<[!?]")
"""Comments and the like, in which tags are no tags."""

_SPACE = rb"[ \t\r\n]*+"
# What XML allows in text, but for entities and for line ends that change.
_TEXT = rb"[^<&\r\x00-\x08\x0b\x0c\x0e-\x1f]*+"
_ROWS = re.compile(
    rb"(?:%(space)s<TR>(?:%(space)s<TD(?:>%(text)s</TD>|%(space)s/>))*+%(space)s</TR>)*+%(space)s"
    % {b"space": _SPACE, b"text": _TEXT}
)
_CELL = re.compile(r"<TD(?:>([^<]*)|[ \t\r\n]*/)")


def plain_rows(text: bytes) -> list[list[str | None]] | None:
    """Read whole rows.

    Parameters
    ----------
    text
        UTF-8 from the start of a row to the end of one.

    Returns
    -------
    rows
        Text of the cells of each row, empty where they are; `None` if not all
        is as plain as it may be.
    """
    if b"]]>" in text or not _ROWS.fullmatch(text):
        return None
    try:
        decoded = text.decode()
    except UnicodeDecodeError:
        return None
    cells = _CELL.findall
    return [cells(row) for row in decoded.split("</TR>")[:-1]]
