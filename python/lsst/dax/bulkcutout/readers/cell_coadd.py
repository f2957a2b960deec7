# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Cell coadds as lsst.images writes them (Rubin DP2 and later)."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..boxes import Box
from ..errors import UserError
from .background import BackgroundModels
from .byte_source import Location
from .celestial import tangent_wcs
from .cell_coadd_tree import CellCoaddTree, ImageNode, PsfNode
from .cell_psf import CellPsf
from .fits_extension import Extension
from .fits_file import FitsFile
from .fits_header import FitsHeader
from .images_archive import ImagesArchive, schema_of
from .mask_cards import BITS_PER_MASK_HDU, read_mask_planes
from .pixel_plane import PixelPlane
from .tile_loader import TileLoader
from .tiled_image import TiledImage
from .tiles import TileGrid

__all__ = ("CellCoaddReader",)

_SCHEMA = "cell_coadd"
_MAJOR_VERSION = 1


class CellCoaddReader(TiledImage):
    """A cell coadd, open for reading.

    Parameters
    ----------
    path
        File to read (path, URI, or an open source of bytes).
    verify_checksums
        Whether to compare the HDUs that are used here with their DATASUM and
        CHECKSUM cards, if they have any. It reads all of their bytes.

    Raises
    ------
    CorruptInputError
        Raised if the file is truncated or contradicts itself.
    UserError
        Raised if it is a file that this reader does not take: another data
        model or version, another unit than nJy, another projection.
    OSError
        Raised as it comes if the file cannot be read.
    """

    layout = "lsst.images cell coadd (FITS)"
    """What this reader reads, for messages."""

    def __init__(self, path: Location, *, verify_checksums: bool = False) -> None:
        self._file: ImagesArchive
        super().__init__(ImagesArchive(path, schema=_SCHEMA, major_version=_MAJOR_VERSION))
        try:
            tree = self._file.tree(CellCoaddTree)
            self._read_identity(tree)
            self._read_planes(tree)
            self._read_psf(tree.psf)
            self.backgrounds = BackgroundModels(self._file, self.bbox, tree.backgrounds.fields)
            if verify_checksums:
                self._verify_checksums()
        except BaseException:
            self.close()
            raise

    @classmethod
    def can_read(cls, file: FitsFile) -> bool:
        """Whether a file says that it is a cell coadd.

        Parameters
        ----------
        file
            File to look at, open.

        Returns
        -------
        can
            `False` for any other FITS file.
        """
        schema = schema_of(file.primary)
        return schema is not None and schema[0] == _SCHEMA

    def cell_of(self, y: Any, x: Any) -> np.ndarray:
        """Cells that hold positions.

        Parameters
        ----------
        y, x
            Absolute pixels, shape ``(n,)``. A position belongs to the pixel
            that a cutout of size one would hold.

        Returns
        -------
        cells
            Indices ``(y, x)`` in the grid of the patch, int64, shape ``(n,
            2)``; (-1, -1) outside the grid. The cell may still be missing.
        """
        return self._psf.cell_of(y, x)

    def psf_kernels(self, cells: Any) -> np.ndarray:
        """PSF kernels of cells, as they are stored.

        Parameters
        ----------
        cells
            Indices ``(y, x)`` as `cell_of` gives them, shape ``(n, 2)``.

        Returns
        -------
        kernels
            Float32, shape ``(n, ky, kx)``, centred at ``[ky // 2, kx // 2]``;
            NaN for missing cells and those outside.

        Raises
        ------
        CorruptInputError
            Raised with the ``box`` of the cell if one of the kernels is
            damaged; the others can be had by asking for them alone.
        """
        return self._psf.kernels(cells)

    def _read_identity(self, tree: CellCoaddTree) -> None:
        frame = tree.sky_projection.pixel_to_sky.frames
        self.skymap: str = frame.skymap
        self.tract: int = frame.tract
        self.patch: int | None = tree.patch.id if tree.patch else None
        self.patch_index: tuple[int, int] | None = tree.patch.index if tree.patch else None
        self.band: str | None = tree.band
        self.background = tree.backgrounds.subtracted
        self.unit = "nJy"
        for what, image, allowed in (("image", tree.image, "nJy"), ("variance", tree.variance, "nJy2")):
            if image.unit is not None:
                self._check_unit(f"its {what}", image.unit, allowed)

    def _check_unit(self, what: str, found: str, allowed: str) -> None:
        if found.translate({ord(sign): None for sign in " *^()"}) != allowed:
            raise UserError(f"{self._file.path}: the unit of {what} is {found!r}, allowed is {allowed}.")

    def _read_planes(self, tree: CellCoaddTree) -> None:
        image, variance = (self._file.find(plane.array.source) for plane in (tree.image, tree.variance))
        masks = [self._file.find(array.source) for array in tree.mask.data]
        shape = tree.image.array.shape
        if len(shape) != 2 or any(array.shape != shape for array in (tree.variance.array, *tree.mask.data)):
            raise self._file.corrupt("its tree gives the planes different shapes")
        y0, x0 = self._origin(tree, [image, variance, *masks])
        self.bbox = Box(y0=y0, y1=y0 + shape[0], x0=x0, x1=x0 + shape[1])
        for extension, allowed in ((image, "nJy"), (variance, "nJy2")):
            if "BUNIT" in extension.header.values:
                self._check_unit(f"{extension.name} (BUNIT)", extension.header.text("BUNIT"), allowed)
        self.wcs = tangent_wcs(image.header, x0=x0, y0=y0)
        self.mask_planes = read_mask_planes(masks)
        names = [plane.name for plane in self.mask_planes]
        if sorted(names) != sorted(plane.name for plane in tree.mask.planes if plane is not None):
            raise self._file.corrupt(f"its mask headers name the planes {names}, its tree names others")
        self._hdus: dict[str, tuple[PixelPlane, ...]] = {
            name: tuple(PixelPlane(one, shape=(shape[0], shape[1]), dtype=dtype) for one in hdus)
            for name, hdus, dtype in (
                ("image", [image], np.float32),
                ("variance", [variance], np.float32),
                ("mask", masks, np.int32),
            )
        }
        self.planes = frozenset(self._hdus) | {"psf"}
        self._origin_yx = (y0, x0)
        self._extra_nodes = {
            **{f"noise/{number}": node for number, node in enumerate(tree.noise_realizations)},
            **{f"mask_fraction/{name}": node for name, node in tree.mask_fractions.items()},
        }
        self.extra_planes = tuple(self._extra_nodes)
        # Planes need not share a tile shape; the image's decides, and the
        # others are read by the same boxes.
        self.tile_shape = self._hdus["image"][0].tile_shape or tree.psf.bounds.grid.cell_shape
        self._grid = grid = TileGrid(self.bbox, self.tile_shape)
        self.n_tiles = grid.n_tiles

    def _loader(self, plane: str) -> TileLoader:
        return TileLoader(self._plane(plane), TileGrid(self.bbox, self.tile_shape), BITS_PER_MASK_HDU)

    def _plane(self, name: str) -> tuple[PixelPlane, ...]:
        """HDUs of a plane.  Extra ones are looked at when they are asked for,
        so that damage in them is no concern of others.
        """
        if name not in self._hdus:
            if name not in self._extra_nodes:
                known = sorted({*self._hdus, *self._extra_nodes})
                raise ValueError(f"No plane {name!r} in {self._file.path}; there are {known}.")
            self._hdus[name] = (self._extra_plane(self._extra_nodes[name]),)
        return self._hdus[name]

    def _extra_plane(self, node: ImageNode) -> PixelPlane:
        extension, shape = self._file.find(node.array.source), self.bbox.shape
        origins = {node.yx0, _header_origin(extension.header)} - {None}
        if node.array.shape != shape or origins - {self._origin_yx}:
            raise self._file.corrupt(
                f"{extension.name} has the shape {node.array.shape} and begins at "
                f"{sorted(map(str, origins))}, the image has {shape} and begins at {self._origin_yx}"
            )
        return PixelPlane(extension, shape=shape, dtype=np.float32)

    def _origin(self, tree: CellCoaddTree, extensions: list[Extension]) -> tuple[int, int]:
        stated = {plane.yx0 for plane in (tree.image, tree.variance, tree.mask) if plane.yx0 is not None}
        stated |= {origin for extension in extensions if (origin := _header_origin(extension.header))}
        if len(stated) != 1:
            raise self._file.corrupt(f"its planes begin at {sorted(stated) or 'an unknown pixel'} (y, x)")
        return stated.pop()

    def _read_psf(self, node: PsfNode) -> None:
        self._psf = CellPsf(self._file.find(node.array.source), node)
        self.has_psf = True
        self.psf_note = ""
        self.psf_shape: tuple[int, int] = self._psf.kernel_shape
        self.cell_shape: tuple[int, int] = self._psf.cell_shape
        self.n_cells: tuple[int, int] = self._psf.n_cells
        self.missing_cells: frozenset[tuple[int, int]] = self._psf.missing

    def _verify_checksums(self) -> None:
        self._file.verify_checksums(self._file.primary)
        for extension in self._file.extensions():
            self._file.verify_checksums(extension.header)


def _header_origin(header: FitsHeader) -> tuple[int, int] | None:
    if "LTV1" in header.values:
        return (-round(header.number("LTV2")), -round(header.number("LTV1")))
    if header.values.get("CTYPE1A") != "LINEAR":
        return None
    y, x = (header.number(f"CRVAL{axis}A") - (header.number(f"CRPIX{axis}A", 1.0) - 1.0) for axis in (2, 1))
    return (round(y), round(x))
