# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Docstrings of what we offer to others: complete, in numpydoc's form."""

from __future__ import annotations

import ast
import importlib
import inspect
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

validate = pytest.importorskip("numpydoc.validate", reason="numpydoc is not installed").validate

PACKAGE = "lsst.dax.bulkcutout"
SOURCES = Path(__file__).parents[1] / "python" / "lsst" / "dax" / "bulkcutout"

IGNORED = {
    "ES01": "a summary that says it all needs no second paragraph",
    "EX01": "examples are in doc/, where they are run",
    "GL01": "the summary stands on the line of the opening quotes",
    "PR04": "types are in the signature",
    "PR05": "types are in the signature",
    "PR06": "types are in the signature",
    "RT02": "types are in the signature",
    "SA01": "a see-also section only where there is something to see",
    "SS05": "takes 'Process' and 'Compress' for the third person",
}
"""Checks of numpydoc that are not made, each with its reason."""

PARAMETERS = "PR01"
"""Not made for classes that take over their `__init__`. Values do: there a
string stands under each field, see `test_each_field_has_its_string`."""

OVERRIDES = {"PR01", "RT01", "YD01"}
"""Not made for methods that replace one which has a docstring: that says what
comes in and out, ours what is particular here."""

FRAMEWORK = ("Config", "PipelineTask", "PipelineTaskConnections")
"""Bases whose `__init__` is called by the middleware alone."""


def public_modules() -> list[str]:
    """Name all modules without a leading underscore."""
    names = []
    for path in sorted(SOURCES.rglob("*.py")):
        parts = path.relative_to(SOURCES).with_suffix("").parts
        parts = parts[:-1] if parts[-1] == "__init__" else parts
        if not any(part.startswith("_") for part in parts):
            names.append(".".join([PACKAGE, *parts]))
    return names


def ignored_checks(thing: Any, overridden: bool) -> set[str]:
    """Choose the checks that are not made for a class or function."""
    ignored = set(IGNORED)
    if overridden:
        ignored |= OVERRIDES
    if inspect.isclass(thing):
        init = vars(thing).get("__init__")
        written_here = getattr(init, "__qualname__", "") == f"{thing.__qualname__}.__init__"
        is_value = hasattr(thing, "__dataclass_fields__") or hasattr(thing, "model_fields")
        is_framework = any(base.__name__ in FRAMEWORK for base in thing.__mro__)
        if not written_here or is_value or is_framework:
            ignored.add(PARAMETERS)
    return ignored


def public_objects(module: ModuleType) -> Iterator[tuple[str, Any, bool]]:
    """Yield functions and classes of `__all__`, and their public methods.

    Parameters
    ----------
    module
        One of our modules.

    Yields
    ------
    name
        Full name, as numpydoc finds it.
    thing
        The function, class, method or property.
    overridden
        Whether it replaces something that has a docstring.
    """
    for name in getattr(module, "__all__", ()):
        thing = inspect.getattr_static(module, name, None)
        if getattr(thing, "__module__", None) != module.__name__:
            continue  # offered again here, checked where it is written
        if inspect.isfunction(thing) or inspect.isclass(thing):
            yield f"{module.__name__}.{name}", thing, False
        if inspect.isclass(thing):
            for key, member in vars(thing).items():
                if key.startswith("_") or not _is_written_in(thing, key, member):
                    continue
                overridden = any(_docstring(getattr(base, key, None)) for base in thing.__mro__[1:])
                # Without a docstring it has that of what it replaces.
                if _docstring(member) or not overridden:
                    yield f"{module.__name__}.{name}.{key}", member, overridden


def _is_written_in(cls: type, key: str, member: Any) -> bool:
    return isinstance(member, property | classmethod | staticmethod) or (
        inspect.isfunction(member) and member.__qualname__ == f"{cls.__qualname__}.{key}"
    )


def _docstring(member: Any) -> str | None:
    return None if member is None else getattr(member, "__func__", member).__doc__


def undocumented_fields(path: Path) -> Iterator[str]:
    """Yield the fields of public classes that nothing is said about."""
    for cls in ast.walk(ast.parse(path.read_text())):
        if not isinstance(cls, ast.ClassDef) or cls.name.startswith("_"):
            continue
        if any(ast.unparse(base).endswith("Task") for base in cls.bases):
            continue  # what it annotates are attributes of the framework's
        told = ast.get_docstring(cls) or ""
        for node, after in zip(cls.body, [*cls.body[1:], None], strict=True):
            if not isinstance(node, ast.AnnAssign) or not isinstance(node.target, ast.Name):
                continue
            name = node.target.id
            has_string = (
                isinstance(after, ast.Expr)
                and isinstance(after.value, ast.Constant)
                and isinstance(after.value.value, str)
            )
            in_section = any(name in line.replace(",", " ").split() for line in told.splitlines())
            is_described = "description=" in ast.unparse(node.value) if node.value else False
            if (
                not name.startswith("_")
                and name != "model_config"
                and not (has_string or in_section or is_described)
            ):
                yield f"{path.name}:{node.lineno}: {cls.name}.{name}"


@pytest.mark.parametrize("module", public_modules())
def test_module_says_what_it_offers(module: str) -> None:
    """Each module has a docstring, and a tuple `__all__` of names it has."""
    loaded = importlib.import_module(module)
    assert loaded.__doc__, "a docstring says the module's one job"
    if module.startswith(f"{PACKAGE}.tests") and not hasattr(loaded, "__all__"):
        return
    offered = getattr(loaded, "__all__", None)
    assert isinstance(offered, tuple), "__all__ is a tuple of names"
    assert not [name for name in offered if not hasattr(loaded, name)]


@pytest.mark.parametrize("module", public_modules())
def test_docstrings_pass_numpydoc(module: str) -> None:
    """What `__all__` offers is described: parameters, results, in order."""
    faults = []
    for name, thing, overridden in public_objects(importlib.import_module(module)):
        ignored = ignored_checks(thing, overridden)
        faults += [f"{name}: {code} {text}" for code, text in validate(name)["errors"] if code not in ignored]
    if faults:
        pytest.fail("\n".join(faults), pytrace=False)


@pytest.mark.parametrize(
    "path", sorted(SOURCES.rglob("*.py")), ids=lambda path: str(path.relative_to(SOURCES))
)
def test_each_field_has_its_string(path: Path) -> None:
    """Fields are described one by one, each below it or in the docstring."""
    faults = list(undocumented_fields(path))
    if faults:
        pytest.fail("\n".join(faults), pytrace=False)
