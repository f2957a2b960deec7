# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Pixels out: one module a format, its writer beside its reader."""

from __future__ import annotations

import dataclasses
import importlib
from typing import TYPE_CHECKING, Any

from ..errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from typing import Protocol, Self

    from .layout import ProductLayout

    class ProductWriter(Protocol):
        """What the writer of every format can do."""

        def __init__(self, path: Path, layout: ProductLayout, n_rows: int) -> None: ...
        def __enter__(self) -> Self: ...
        def __exit__(self, *exc_info: object) -> None: ...
        def write(self, start: int, columns: Mapping[str, Any]) -> None: ...
        def close(self) -> None: ...


__all__ = ("FORMATS", "ProductFormat", "part_path", "writer_class")


@dataclasses.dataclass(frozen=True)
class ProductFormat:
    """An output format that a request can name."""

    writer: str
    """Writer class, ``module:name``; the module is relative to this one, and
    is imported only when a product is written."""

    suffix: str
    """How the names of its files end."""


FORMATS: dict[str, ProductFormat] = {"hdf5": ProductFormat(".hdf5:HDF5Writer", ".hdf5")}
"""The output formats by the name that requests use."""


def part_path(path: Path) -> Path:
    """Name a data file until it is whole.

    Parameters
    ----------
    path
        The data file.

    Returns
    -------
    part
        A file beside it.
    """
    return path.with_name(path.name + ".part")


def writer_class(name: str) -> type[ProductWriter]:
    """Find the writer of a format.

    Parameters
    ----------
    name
        Name of the format, a key of `FORMATS`.

    Returns
    -------
    writer
        Called with a path, a `~.layout.ProductLayout` and a number of rows.

    Raises
    ------
    UserError
        Raised if there is no such format.
    """
    if name not in FORMATS:
        raise UserError(f"No output format is called {name!r}: the formats are {', '.join(FORMATS)}.")
    module, _, attribute = FORMATS[name].writer.partition(":")
    writer: type[ProductWriter] = getattr(importlib.import_module(module, __name__), attribute)
    return writer
