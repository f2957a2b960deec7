# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Reading a YAML or JSON file into plain values, without surprises."""

from __future__ import annotations

import json
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from ..errors import UserError

__all__ = ("MAX_REQUEST_BYTES", "read_mapping")

MAX_REQUEST_BYTES = 1_000_000
"""A request is a page of text; the catalog is a file of its own."""


def read_mapping(path: Path, what: str = "Request file") -> dict[str, Any]:
    """Read a request file, or another one of this kind.

    Parameters
    ----------
    path
        YAML or JSON file, told by its suffix, or by its contents if it has
        another one.
    what
        What to call it in messages.

    Returns
    -------
    contents
        Its fields as plain values.

    Raises
    ------
    UserError
        Raised if the file cannot be read, is too large, or is not what it
        should be; the message names file, line and column.
    """
    try:
        with path.open("rb") as stream:
            raw = stream.read(MAX_REQUEST_BYTES + 1)
    except OSError as error:
        raise UserError(f"{what} {path} cannot be read: {error.strerror or error}.") from None
    if len(raw) > MAX_REQUEST_BYTES:
        raise UserError(
            f"{what} {path} has more than {MAX_REQUEST_BYTES} bytes. Positions belong into a catalog file "
            "that the request names in catalog.uri."
        )
    try:
        text = raw.decode("utf-8-sig")
        contents = _parse_json(text) if _is_json(path, text) else yaml.load(text, _RequestLoader)
    except UnicodeDecodeError as error:
        raise UserError(f"{what} {path} is not text in UTF-8 (byte {error.start}).") from None
    except yaml.YAMLError as error:
        raise UserError(f"{what} {path} is not good YAML: {error}") from None
    except RecursionError:
        raise UserError(f"{what} {path} is nested too deeply.") from None
    except ValueError as error:
        raise UserError(f"{what} {path} cannot be read: {error}") from None
    if not isinstance(contents, dict):
        found = "is empty" if contents is None else f"holds one {type(contents).__name__}"
        raise UserError(f"{what} {path} {found}; it must hold fields with values, as in `size: 64`.")
    return contents


def _is_json(path: Path, text: str) -> bool:
    suffix = path.suffix.lower()
    if suffix in (".json", ".yaml", ".yml"):
        return suffix == ".json"
    if not text.lstrip().startswith("{"):
        return False
    # YAML may begin with a brace, too.
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _parse_json(text: str) -> Any:
    def without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        fields: dict[str, Any] = {}
        for name, value in pairs:
            if name in fields:
                raise ValueError(f"the field {name!r} is given twice.")
            fields[name] = value
        return fields

    return json.loads(text, object_pairs_hook=without_duplicates)


class _RequestLoader(yaml.SafeLoader):  # type: ignore[misc]  # yaml has no types
    """Safe YAML in which dates stay text and no field may be given twice."""

    yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Hashable, Any]:
        names = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        for position, name in enumerate(names):
            if name in names[:position]:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the field {name!r} is given twice", node.start_mark
                )
        mapping: dict[Hashable, Any] = super().construct_mapping(node, deep)
        return mapping
