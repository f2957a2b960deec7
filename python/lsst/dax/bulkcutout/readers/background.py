# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Background models out of a file of lsst.images.

A file has some models by name, one of which may be subtracted from its image.
Each is a tree of fields in the JSON tree; larger grids are HDUs of their own.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pydantic

from ..boxes import Box
from ..errors import CorruptInputError, UserError
from .background_fields import Chebyshev, Field, Product, Spline, Sum
from .cell_coadd_tree import ArrayNode, RectangleNode
from .images_archive import ImagesArchive
from .pixel_plane import PixelPlane

if TYPE_CHECKING:
    from astropy.units import UnitBase

__all__ = ("BackgroundField", "BackgroundModels")

BackgroundField = Field
"""A background model that can be evaluated, in nJy."""

_VERSION = 1
"""The ``min_read_version`` of fields that is understood here."""

type _Values = tuple[Field, UnitBase | None]


class BackgroundModels(Mapping[str, BackgroundField]):
    """The background models of a file by name, read when they are asked for.

    Parameters
    ----------
    archive
        The file.
    bbox
        Absolute pixels of its image.
    trees
        The models as the JSON tree has them.

    Notes
    -----
    Asking for a model raises `CorruptInputError` if it is damaged, and
    `UserError` if it has a field or a unit that is not known here.
    """

    def __init__(self, archive: ImagesArchive, bbox: Box, trees: Mapping[str, Any]) -> None:
        self._archive = archive
        self._bbox = bbox
        self._trees = dict(trees)
        self._fields: dict[str, BackgroundField] = {}

    def __getitem__(self, name: str) -> BackgroundField:
        if name not in self._fields:
            builder = _Builder(self._archive, self._bbox, name)
            field, unit = builder.build(self._trees[name])
            factor = builder.factor(unit, builder.unit("nJy"))
            self._fields[name] = field if factor == 1.0 else Sum([field], [factor])
        return self._fields[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._trees)

    def __len__(self) -> int:
        return len(self._trees)


class _InlineNode(pydantic.BaseModel):
    """An array within the tree."""

    data: list[Any]


class _ChebyshevNode(pydantic.BaseModel):
    bounds: dict[str, Any]
    coefficients: _InlineNode
    unit: str | None = None


class _SplineNode(pydantic.BaseModel):
    data: ArrayNode | _InlineNode
    y: _InlineNode
    x: _InlineNode
    unit: str | None = None


class _OperandsNode(pydantic.BaseModel):
    operands: list[Any] = pydantic.Field(min_length=1)


class _Builder:
    """Makes fields out of the tree of one model."""

    def __init__(self, archive: ImagesArchive, bbox: Box, name: str) -> None:
        self._archive = archive
        self._where = f"{archive.path}: background model {name!r}"
        self._bbox = bbox

    def build(self, tree: Any) -> _Values:
        kinds = {
            "CHEBYSHEV": self._chebyshev,
            "SPLINE": self._spline,
            "SUM": self._sum,
            "PRODUCT": self._product,
        }
        kind, version = (
            (tree.get("field_type"), tree.get("min_read_version", _VERSION))
            if isinstance(tree, dict)
            else (tree, _VERSION)
        )
        if kind not in kinds or version != _VERSION:
            raise UserError(
                f"{self._where} has a field of kind {kind!r}, version {version}, which is not known here; "
                f"known are {', '.join(kinds)} of version {_VERSION}. Ask for another background, or for "
                "`stored`."
            )
        try:
            return kinds[kind](tree)
        except pydantic.ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(part) for part in first["loc"])
            raise CorruptInputError(f"{self._where} is wrong at {place}: {first['msg']}.") from None
        except (ValueError, TypeError, LookupError, OverflowError) as error:
            raise CorruptInputError(f"{self._where} is wrong in a {kind} field: {error}.") from None

    def factor(self, unit: UnitBase | None, wanted: UnitBase | None) -> float:
        """What takes values of one unit to another."""
        from astropy.units import UnitConversionError, dimensionless_unscaled

        try:
            return float((unit or dimensionless_unscaled).to(wanted or dimensionless_unscaled))
        except UnitConversionError:
            raise UserError(
                f"{self._where} has the unit {'none' if unit is None else str(unit)!r}; allowed is one that "
                f"can be converted to {wanted}. Ask for another background, or for `stored`."
            ) from None

    def _chebyshev(self, tree: Any) -> _Values:
        node = _ChebyshevNode.model_validate(tree)
        return Chebyshev(self._array(node.coefficients), _box(node.bounds)), self.unit(node.unit)

    def _spline(self, tree: Any) -> _Values:
        node = _SplineNode.model_validate(tree)
        data, y, x = (self._array(each) for each in (node.data, node.y, node.x))
        return Spline(data, y, x, self._bbox), self.unit(node.unit)

    def _sum(self, tree: Any) -> _Values:
        terms = [self.build(operand) for operand in _OperandsNode.model_validate(tree).operands]
        unit = terms[0][1]
        return Sum([term for term, _ in terms], [self.factor(each, unit) for _, each in terms]), unit

    def _product(self, tree: Any) -> _Values:
        terms = [self.build(operand) for operand in _OperandsNode.model_validate(tree).operands]
        units = [unit for _, unit in terms if unit is not None]
        unit = functools.reduce(lambda a, b: a * b, units) if units else None
        return Product([term for term, _ in terms]), unit

    def _array(self, node: ArrayNode | _InlineNode) -> np.ndarray:
        """The numbers of a node, float64."""
        if isinstance(node, _InlineNode):
            return np.array(node.data, dtype=np.float64)
        if len(node.shape) != 2:
            raise ValueError(f"an array has the shape {node.shape}")
        shape = (node.shape[0], node.shape[1])
        plane = PixelPlane(self._archive.find(node.source), shape=shape, dtype=np.float64)
        return plane.read(slice(0, shape[0]), slice(0, shape[1]))

    def unit(self, text: str | None) -> UnitBase | None:
        # Imported here: most campaigns have no use for it.
        from astropy.units import Unit

        try:
            return None if text is None else Unit(text)
        except ValueError:
            raise UserError(
                f"{self._where} has the unit {text!r}, which nobody knows. Ask for another background, or "
                "for `stored`."
            ) from None


def _box(bounds: Any) -> Box:
    """Pixels of any of the bounds that lsst.images knows."""
    match bounds:
        case {"y": _, "x": _}:
            return RectangleNode.model_validate(bounds).box()
        case {"bbox": inner}:
            return _box(inner)
        case {"a": a, "b": b}:
            if (overlap := _box(a).intersection(_box(b))) is None:
                raise ValueError("bounds hold no pixel")
            return overlap
        case {"coordinates": coordinates}:
            points = np.array(list(_points(coordinates)), dtype=np.float64).reshape(-1, 2)
            (x0, y0), (x1, y1) = points.min(axis=0).tolist(), points.max(axis=0).tolist()
            # Pixels with their centres within or on the border.
            return Box(
                y0=math.floor(y0 + 0.5),
                y1=math.ceil(y1 - 0.5) + 1,
                x0=math.floor(x0 + 0.5),
                x1=math.ceil(x1 - 0.5) + 1,
            )
    raise ValueError(f"bounds with {sorted(bounds)} are not known here")


def _points(nested: Any) -> Iterator[Any]:
    for part in nested:
        if isinstance(part[0], list):
            yield from _points(part)
        else:
            yield part
