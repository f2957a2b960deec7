# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Whom a request has told when its campaign is over."""

from __future__ import annotations

import re
from typing import Annotated, Any

import pydantic
from pydantic import BeforeValidator

from .checks import path_or_uri
from .field_types import Part

__all__ = ("NotifySpec",)

# No user name, no fragment, and nothing that could end a line of HTTP.
_URL = re.compile(
    r"https?://"
    r"(?:[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])"
    r"(?::(?P<port>[0-9]{1,5}))?"
    r"(?:[/?][A-Za-z0-9._~%!$&'()*+,;=:@/?-]*)?"
)

_LONGEST = 2000


def _check_url(value: Any) -> Any:
    if value is None:
        return value
    match = _URL.fullmatch(value) if isinstance(value, str) and len(value) <= _LONGEST else None
    if match is None or not 0 < int(match["port"] or 80) < 65536:
        raise ValueError(
            "must be an address like https://server.example/hooks: http or https, host, perhaps port, path "
            f"and query; without user name and password; at most {_LONGEST} characters"
        )
    return value


def _check_secret_file(value: Any, info: pydantic.ValidationInfo) -> Any:
    path = value if value is None else path_or_uri(value, info)
    if path is not None and not path.startswith("/"):
        raise ValueError("must be a file on a file system that the jobs see, not a URI")
    return path


class NotifySpec(Part):
    """Who is told when the campaign is over."""

    url: Annotated[str | None, BeforeValidator(_check_url)] = None
    """Address that gets a POST when the campaign is over: http or https."""

    secret_file: Annotated[str | None, BeforeValidator(_check_secret_file)] = None
    """File with the secret that the POST is signed with, readable by its
    owner alone."""

    @pydantic.model_validator(mode="after")
    def _url_and_secret(self) -> NotifySpec:
        if (self.url is None) != (self.secret_file is None):
            raise ValueError("url and secret_file belong together: name both or neither")
        return self
