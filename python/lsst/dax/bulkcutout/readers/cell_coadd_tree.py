# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""What is read of the JSON tree of a cell coadd; the rest of it is skipped.

Boxes are half-open, in tract pixels, y before x.
"""

from __future__ import annotations

from typing import Annotated, Any

import pydantic

from ..boxes import Box

__all__ = (
    "ArrayNode",
    "CellCoaddTree",
    "ImageNode",
    "MaskNode",
    "MaskPlaneNode",
    "PsfNode",
    "RectangleNode",
)


def _pair(value: Any) -> Any:
    """Both spellings of a (y, x) pair: ``[y, x]``, and by name since
    lsst.images wrote a schema for it.
    """
    return (value.get("y"), value.get("x")) if isinstance(value, dict) else value


type _Pair = Annotated[tuple[int, int], pydantic.BeforeValidator(_pair)]
type _Shape = Annotated[tuple[pydantic.PositiveInt, pydantic.PositiveInt], pydantic.BeforeValidator(_pair)]


class _Span(pydantic.BaseModel):
    start: int
    stop: int


class RectangleNode(pydantic.BaseModel):
    """A rectangle of pixels."""

    y: _Span
    """Rows."""

    x: _Span
    """Columns."""

    def box(self) -> Box:
        """The same as a box.

        Returns
        -------
        box
            Absolute pixels.
        """
        return Box(y0=self.y.start, y1=self.y.stop, x0=self.x.start, x1=self.x.stop)


class ArrayNode(pydantic.BaseModel):
    """An array in an HDU of its own."""

    source: str
    """Reference to the HDU."""

    shape: tuple[pydantic.PositiveInt, ...]
    """Its shape, as in numpy."""


class _Quantity(pydantic.BaseModel):
    value: ArrayNode
    unit: str


class ImageNode(pydantic.BaseModel):
    """A plane of floating-point pixels."""

    data: _Quantity | ArrayNode
    """The HDU, with or without a unit."""

    yx0: _Pair | None = None
    """First pixel."""

    @property
    def array(self) -> ArrayNode:
        """The HDU and its shape."""
        return self.data.value if isinstance(self.data, _Quantity) else self.data

    @property
    def unit(self) -> str | None:
        """Unit of the pixels, if it is stated."""
        return self.data.unit if isinstance(self.data, _Quantity) else None


class MaskPlaneNode(pydantic.BaseModel):
    """A mask plane; the mask's header says which bit it is."""

    name: str
    """Name as in the header."""


class MaskNode(pydantic.BaseModel):
    """The mask, in as many HDUs as its planes need."""

    data: list[ArrayNode] = pydantic.Field(min_length=1)
    """The HDUs."""

    yx0: _Pair | None = None
    """First pixel."""

    planes: list[MaskPlaneNode | None]
    """Planes of all HDUs; `None` for a bit that is not used."""


class _Cell(pydantic.BaseModel):
    i: int
    j: int


class _Grid(pydantic.BaseModel):
    bbox: RectangleNode
    cell_shape: _Shape


class _Cells(pydantic.BaseModel):
    grid: _Grid
    bbox: RectangleNode
    missing: list[_Cell] = []


class PsfNode(pydantic.BaseModel):
    """Kernels of the cells within ``bounds.bbox``, a part of the grid."""

    array: ArrayNode
    """The HDU; cells in y and x, rows, columns."""

    bounds: _Cells
    """Where the cells are."""


class _TractFrame(pydantic.BaseModel):
    skymap: str
    tract: int


def _first(value: Any) -> Any:
    return value[0] if isinstance(value, list) and value else value


class _Transform(pydantic.BaseModel):
    # The pixel frame comes first, then the sky's.
    frames: Annotated[_TractFrame, pydantic.BeforeValidator(_first)]


class _Projection(pydantic.BaseModel):
    pixel_to_sky: _Transform


class _Patch(pydantic.BaseModel):
    id: int
    index: _Pair


class _Backgrounds(pydantic.BaseModel):
    subtracted: str | None = None
    # Looked into only where they are asked for.
    fields: dict[str, Any] = {}


class CellCoaddTree(pydantic.BaseModel):
    """The tree as a whole."""

    image: ImageNode
    """Flux."""

    mask: MaskNode
    """Mask."""

    variance: ImageNode
    """Variance of the flux."""

    sky_projection: _Projection
    """Only the frame is read here; the header has the numbers."""

    band: str | None
    """Name of the band."""

    patch: _Patch | None
    """The patch, if the image lies within one."""

    psf: PsfNode
    """PSF by cell."""

    backgrounds: _Backgrounds = _Backgrounds()
    """Background models, and the name of the one that is subtracted."""

    noise_realizations: list[ImageNode] = []
    """Pictures of the noise alone."""

    mask_fractions: dict[str, ImageNode] = {}
    """By name of a mask plane, what part of the inputs had it."""
