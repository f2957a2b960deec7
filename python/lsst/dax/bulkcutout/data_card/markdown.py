# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Tables in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

__all__ = ("markdown_table",)


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Write a table in Markdown.

    Parameters
    ----------
    head
        Headings of the columns.
    rows
        Texts of the cells.

    Returns
    -------
    text
        Lines of the table, each with its end.
    """
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(_cell(text) for text in row) + " |" for row in rows]
    return "".join(f"{line}\n" for line in lines)


def _cell(text: str) -> str:
    # Names and descriptions are the user's: they must not end the cell.
    return " ".join(text.split()).replace("|", "\\|")
