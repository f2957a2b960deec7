# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Checks of single fields of a request.

Each takes what the user wrote and gives the value, or raises `ValueError`
with a text that says what is allowed.
"""

from __future__ import annotations

import os
import re
import reprlib
import urllib.parse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pydantic

from ..errors import did_you_mean

__all__ = (
    "julian_year",
    "path_or_uri",
    "quoted",
    "repository",
    "several",
    "text",
    "whole_number",
    "yes_or_no",
)

_SHORTENER = reprlib.Repr(maxstring=80, maxother=80, maxlong=80, maxlevel=3)
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")


def text(pattern: str, allowed: str, *, longest: int = 200) -> Callable[[Any], str]:
    """Make a check for text that ends up in Butler calls and configurations.

    Parameters
    ----------
    pattern
        Regular expression (ASCII) that the whole text has to match.
    allowed
        What the pattern says, for people.
    longest
        Largest number of characters.

    Returns
    -------
    check
        The check.
    """
    compiled = re.compile(pattern, re.ASCII)

    def check(value: Any) -> str:
        if not isinstance(value, str):
            quote = f" (if {value} is a name, put it in quotes)" if isinstance(value, (int, float)) else ""
            raise ValueError(f"must be {allowed}{quote}")
        if not compiled.fullmatch(value) or not value.isprintable() or len(value) > longest:
            raise ValueError(f"must be {allowed}, at most {longest} characters")
        return value

    return check


def whole_number(least: int, most: int, *, unit: str) -> Callable[[Any], int]:
    """Make a check for a whole number.

    Parameters
    ----------
    least, most
        Smallest and largest number.
    unit
        What is counted.

    Returns
    -------
    check
        The check; ``true`` and ``64.0`` do not pass.
    """

    def check(value: Any) -> int:
        if type(value) is not int or not least <= value <= most:
            raise ValueError(f"must be a whole number of {unit} from {least} to {most}")
        return value

    return check


def julian_year(value: Any, allowed: str) -> float:
    """Check an epoch.

    Parameters
    ----------
    value
        What the user wrote.
    allowed
        What is allowed, for people.

    Returns
    -------
    year
        A Julian year, from 1800 to 2200.

    Raises
    ------
    ValueError
        Raised for anything else.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not 1800 <= value <= 2200:
        raise ValueError(f"{allowed}, from 1800 to 2200")
    return float(value)


def yes_or_no(value: Any) -> bool:
    """Check a switch.

    Parameters
    ----------
    value
        What the user wrote.

    Returns
    -------
    value
        The same; texts and numbers do not pass.
    """
    if not isinstance(value, bool):
        raise ValueError("must be true or false")
    return value


def several(
    what: str,
    *,
    item: Callable[[Any], str] | None = None,
    known: tuple[str, ...] = (),
    or_all: bool = False,
    or_none: bool = False,
    repeated: bool = False,
) -> Callable[[Any], Any]:
    """Make a check for a list of names.

    Parameters
    ----------
    what
        What is listed, in the plural.
    item
        Check for each name.
    known
        The names that are allowed, where they are known.
    or_all
        Whether the word ``all`` may stand in place of the list.
    or_none
        Whether the list may be empty.
    repeated
        Whether a name may be given twice.

    Returns
    -------
    check
        The check; it gives a tuple or ``all``.
    """
    listed = f"; known: {', '.join(known)}" if known else ""

    def check(value: Any) -> Any:
        if or_all and value == "all":
            return value
        if not isinstance(value, (list, tuple)):
            word = "the word all or " if or_all else ""
            example = value if isinstance(value, str) and value else "NAME"
            raise ValueError(f"must be {word}a list of {what}, as in [{example}]{listed}")
        if not value and not or_none:
            raise ValueError(f"must name at least one of the {what}{listed}")
        for position, name in enumerate(value):
            if known and name not in known:
                hint = did_you_mean(name, known) if isinstance(name, str) else ""
                raise ValueError(f"{quoted(name)} is not one of the {what}{hint}{listed}")
            if item is not None:
                try:
                    item(name)
                except ValueError as error:
                    raise ValueError(f"{quoted(name)} {error}") from None
            if name in value[:position] and not repeated:
                raise ValueError(f"names {quoted(name)} twice")
        return tuple(value)

    return check


def path_or_uri(value: Any, info: pydantic.ValidationInfo) -> str:
    """Check a path or URI and make paths absolute.

    Parameters
    ----------
    value
        What the user wrote.
    info
        Validation context with the ``directory`` where relative paths start.

    Returns
    -------
    checked
        An absolute path or a URI; ``file:`` URIs become paths.
    """
    if not isinstance(value, str) or not value.strip() or not value.isprintable():
        raise ValueError("must be a path or URI: text that is not empty and has no control characters")
    if value.startswith("file:///") or value.startswith("file://localhost/"):
        return urllib.parse.unquote(urllib.parse.urlsplit(value).path)
    if _URI.match(value):
        return value
    # Without collapsing "..", which means something else behind a link.
    return str(_directory(info) / os.path.expanduser(value))


def repository(value: Any, info: pydantic.ValidationInfo) -> str:
    """Check the name of a Butler repository and make a path absolute.

    Parameters
    ----------
    value
        What the user wrote.
    info
        Validation context with the ``directory`` where relative paths start.

    Returns
    -------
    checked
        An absolute path, a URI, or a label of the repository index.
    """
    if not isinstance(value, str) or "/" in value or value.startswith((".", "~")):
        return path_or_uri(value, info)
    # A word may be a label, or a name in the directory of the request.  Only
    # what can be a repository counts as the latter: users keep a directory
    # `dp1` for their results beside a request for the repository `dp1`.
    local = str(_directory(info) / value)
    if value and (os.path.isfile(local) or os.path.isfile(os.path.join(local, "butler.yaml"))):
        return local
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*", value, re.ASCII):
        raise ValueError("must be the path, URI or label of a Butler repository")
    return value


def quoted(value: Any) -> str:
    """Show a value in a message.

    Parameters
    ----------
    value
        Anything a file can hold.

    Returns
    -------
    shown
        Its representation, cut short.
    """
    return _SHORTENER.repr(value)


def _directory(info: pydantic.ValidationInfo) -> Path:
    return Path((info.context or {}).get("directory", Path())).absolute()
