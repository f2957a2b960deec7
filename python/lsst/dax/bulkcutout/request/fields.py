# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Fields of a file become a model, or a message that says which are wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pydantic

from ..errors import UserError, did_you_mean
from .checks import quoted
from .field_types import Part

__all__ = ("check_fields",)


def check_fields[P: Part](
    model: type[P], contents: dict[str, Any], *, newest: int, where: str, directory: Path
) -> P:
    """Check the fields of a request, or of another file of this kind.

    Parameters
    ----------
    model
        What the fields are to become.
    contents
        The fields as plain values.
    newest
        The newest ``schema_version`` that is known here.
    where
        What to call the file in messages.
    directory
        Where relative paths start.

    Returns
    -------
    checked
        The model.

    Raises
    ------
    UserError
        Raised with one line for every field that is wrong: its name, its
        value, what is allowed.
    """
    version = contents.get("schema_version", newest)
    # Before all else: fields of a later version would be called unknown.
    if type(version) is int and version > newest:
        raise UserError(
            f"{where} was written for a newer version of this software: its schema_version is {version}, "
            f"and {newest} is the newest that is known here. Update dax_bulkcutout."
        )
    try:
        return model.model_validate(contents, context={"directory": directory})
    except pydantic.ValidationError as error:
        problems = [_explain(model, detail) for detail in error.errors(include_url=False)]
    raise UserError("\n  ".join([f"{where} cannot be used:", *problems]))


def _explain(model: Any, problem: Any) -> str:
    """Say in a line what is wrong with a field."""
    *parents, name = problem["loc"] or ("request",)
    for parent in parents:
        model = model.model_fields[parent].annotation
    loc = ".".join(str(part) for part in problem["loc"]) or "the request"
    value = quoted(problem["input"])
    field = model.model_fields.get(name)
    match problem["type"]:
        case "missing":
            return f"{loc} is missing: {field.description}"
        case "extra_forbidden":
            known = list(model.model_fields)
            return f"{loc} is not a field{did_you_mean(name, known)}; known fields: {', '.join(known)}"
        case "value_error":
            return f"{loc} is {value}: {problem['ctx']['error']}"
        case "model_type":
            fields = ", ".join(field.annotation.model_fields)
            return f"{loc} is {value}: must be a mapping with fields out of {fields}"
    return f"{loc} is {value}: {problem['msg']}"
