# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Plain FITS images: one HDU of pixels and a projection, as most surveys
have them; variance, mask and PSF may be in files of their own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..boxes import Box
from ..errors import CorruptInputError, UserError
from ..masks import NO_DATA
from ..tables import MaskPlane
from .byte_source import Location
from .celestial import celestial_wcs, has_celestial_wcs
from .companions import CompanionPlanes, Companions
from .fits_extension import Extension, walk_extensions
from .fits_file import FitsFile
from .fits_header import FitsHeader
from .flux_units import NANOJANSKY, Flux, flux_unit, of_zero_point
from .pixel_plane import PixelPlane
from .tiled_image import TiledImage

__all__ = ("PlainImageReader", "origin_of")

_BREAK = 0.2931
"""Reference pixels with this fraction fall on one side or the other of a
whole number; it is one that nobody has."""

_MOST_REFERENCE_PIXEL = 1e9


class PlainImageReader(TiledImage):
    """A plain FITS image, open for reading.

    Parameters
    ----------
    path
        File to read (path, URI, or an open source of bytes); its first HDU
        that has two axes on the sky is taken.
    verify_checksums
        Whether to compare the HDU with its DATASUM and CHECKSUM cards.
    companions
        Files with what belongs to the image.

    Raises
    ------
    CorruptInputError
        Raised if one of the files is truncated or contradicts itself.
    UserError
        Raised if there is no such HDU, its projection cannot be used, or a
        companion does not belong to it.
    OSError
        Raised as it comes if a file cannot be read.

    Notes
    -----
    Absolute pixels count from the reference point of the projection (see
    `origin_of`), so that images on one grid of pixels agree about them.
    """

    layout = "plain FITS image"
    """What this reader reads, for messages."""

    skymap: str | None = None
    """Sky map: never said."""

    tract: int | None = None
    """Tract: never said."""

    patch: int | None = None
    """Patch: never said."""

    patch_index: tuple[int, int] | None = None
    """Place of the patch in its tract: never said."""

    band: str | None = None
    """Band: cards differ too much from survey to survey; `ingest` knows it."""

    def __init__(
        self, path: Location, *, verify_checksums: bool = False, companions: Companions | None = None
    ) -> None:
        super().__init__(FitsFile(path))
        self._companions: CompanionPlanes | None = None
        try:
            extension = _find_image(self._file)
            header = extension.header
            plane = PixelPlane(extension, dtype=np.float32)
            y0, x0 = origin_of(header)
            self._set_planes({"image": plane}, x0=x0, y0=y0)
            self.wcs = celestial_wcs(header, self.bbox)
            self._flux = _flux(header)
            self.unit: str = self._flux.unit
            if verify_checksums:
                self._file.verify_checksums(header)
            if companions is not None:
                self._companions = CompanionPlanes(
                    companions, extension.name, self.bbox, self._flux, self.wcs
                )
            self._describe()
        except BaseException:
            self.close()
            raise

    @classmethod
    def can_read(cls, file: FitsFile) -> bool:
        """Whether a file may be a plain image.

        Parameters
        ----------
        file
            File to look at, open.

        Returns
        -------
        can
            `False` for what says that it is something else.
        """
        return "DATAMODL" not in file.primary.values

    def close(self) -> None:
        """Close the files; again does nothing."""
        super().close()
        if self._companions is not None:
            self._companions.close()

    def load_tiles(
        self,
        plane: str,
        tiles: Sequence[tuple[int, int]],
        canvas: np.ndarray,
        within: Box,
        *,
        last_rows: Sequence[int] | None = None,
        threads: int = 1,
    ) -> list[CorruptInputError]:
        """Decode tiles of a plane into an array.

        Parameters
        ----------
        plane
            One of `planes`, but psf.
        tiles, canvas, within, last_rows, threads
            As for `TiledImage.load_tiles`. The mask has ``NO_DATA`` where the
            image is NaN or the weight is not positive, and what the mask file
            has.

        Returns
        -------
        damaged
            An error with its ``box`` for each tile that is damaged.
        """
        if plane not in self.planes or plane == "psf":
            raise ValueError(f"No plane {plane!r} in {self._file.path}; there are {sorted(self.planes)}.")
        damaged: list[CorruptInputError] = []
        pixels = canvas if plane == "image" else np.empty(within.shape, dtype=np.float32)
        if plane != "variance":
            # A variance needs no pixel of the image.
            damaged = super().load_tiles("image", tiles, pixels, within, last_rows=last_rows, threads=threads)
        if plane == "image" and self._flux.factor == 1.0:
            return damaged
        derive = {"image": self._image, "mask": self._mask, "variance": self._variance}[plane]
        lost = {error.box for error in damaged}
        for tile in self._known_tiles(tiles):
            box = self.tile_box(*tile)
            if box in lost or (part := box.intersection(within)) is None:
                continue
            here = part.slices(within)
            try:
                canvas[here] = derive(part, pixels[here])
            except CorruptInputError as error:
                damaged.append(CorruptInputError(str(error), box=box))
        return damaged

    def cell_of(self, y: Any, x: Any) -> np.ndarray:
        """Cells that hold positions.

        Parameters
        ----------
        y, x
            Absolute pixels, shape ``(n,)``.

        Returns
        -------
        cells
            Indices ``(y, x)``, shape ``(n, 2)``; (-1, -1) outside, or where
            there is no PSF.
        """
        if self._companions is not None and self._companions.psf is not None:
            return self._companions.psf.cell_of(y, x)
        return np.full((len(np.atleast_1d(y)), 2), -1, dtype=np.int64)

    def psf_kernels(self, cells: Any) -> np.ndarray:
        """PSF kernels of cells.

        Parameters
        ----------
        cells
            Indices ``(y, x)``, shape ``(n, 2)``.

        Returns
        -------
        kernels
            Float32, shape ``(n, ky, kx)``; NaN outside, or where there is no
            PSF.
        """
        if self._companions is not None and self._companions.psf is not None:
            return self._companions.psf.psf_kernels(cells)
        return np.full((len(cells), *self.psf_shape), np.nan, dtype=np.float32)

    def _describe(self) -> None:
        """Fill in what there is."""
        companions = self._companions
        has_variance = companions is not None and companions.has_variance
        psf = companions.psf if companions is not None else None
        self.has_psf: bool = psf is not None
        self.psf_note: str = "" if psf is not None else "the image is a plain FITS file, which has none"
        self.psf_shape: tuple[int, int] = psf.psf_shape if psf is not None else (1, 1)
        self.cell_shape: tuple[int, int] = psf.cell_shape if psf is not None else self.bbox.shape
        self.n_cells: tuple[int, int] = psf.n_cells if psf is not None else (1, 1)
        self.missing_cells: frozenset[tuple[int, int]] = frozenset()
        self.planes = frozenset(
            ["image", "mask", *(["variance"] if has_variance else []), *(["psf"] if self.has_psf else [])]
        )
        self.mask_tells_nothing = companions is None
        own = companions.mask_planes if companions is not None else ()
        self._no_data = next((1 << plane.bit for plane in own if plane.name == NO_DATA), 0)
        self.mask_planes: tuple[MaskPlane, ...] = own
        if not self._no_data:
            taken = {plane.bit for plane in own}
            bit = next(bit for bit in range(63) if bit not in taken)
            self._no_data = 1 << bit
            self.mask_planes = (*own, MaskPlane(NO_DATA, bit, "No data."))

    def _image(self, box: Box, pixels: np.ndarray) -> np.ndarray:
        return self._flux_of(pixels)

    def _flux_of(self, pixels: np.ndarray) -> np.ndarray:
        if self._flux.factor == 1.0:
            return pixels
        with np.errstate(over="ignore"):
            return (pixels * np.float64(self._flux.factor)).astype(np.float32)

    def _mask(self, box: Box, pixels: np.ndarray) -> np.ndarray:
        empty = ~np.isfinite(pixels)
        mask: np.ndarray = np.zeros(pixels.shape, dtype=np.int64 if self._no_data >> 31 else np.int32)
        if self._companions is not None:
            empty |= self._companions.is_unweighted(box)
            mask |= self._companions.mask(box).astype(mask.dtype)
        mask[empty] |= self._no_data
        return mask

    def _variance(self, box: Box, pixels: np.ndarray) -> np.ndarray:
        assert self._companions is not None
        return self._companions.variance(box)


def origin_of(header: FitsHeader) -> tuple[int, int]:
    """Absolute position of the first pixel of a plain image.

    Parameters
    ----------
    header
        Header of the image.

    Returns
    -------
    origin
        Row and column ``(y0, x0)`` such that absolute pixel (0, 0) is the one
        at the reference point, ``CRPIX``: images whose ``CRPIX`` differ by
        whole numbers have the same absolute pixels.
    """
    reference = [header.number(f"CRPIX{axis}") for axis in (2, 1)]
    for axis, value in zip((2, 1), reference, strict=True):
        if abs(value) > _MOST_REFERENCE_PIXEL:
            raise UserError(
                f"{header.file.path}: CRPIX{axis} of {header.name} is {value:g}: allowed are positions "
                f"within {_MOST_REFERENCE_PIXEL:g} pixels of the image."
            )
    y, x = (1 - math.floor(value + _BREAK) for value in reference)
    return y, x


def _find_image(file: FitsFile) -> Extension:
    """The first HDU with an image on the sky."""
    others = []
    for extension in walk_extensions(file):
        header = extension.header
        prefix = "Z" if header.values.get("ZIMAGE") is True else ""
        if not prefix and header.values.get("XTENSION", "IMAGE") != "IMAGE":
            continue
        if header.values.get(f"{prefix}NAXIS", 0) in (0, 1):
            continue
        if has_celestial_wcs(header):
            return extension
        types = ", ".join(str(header.values.get(f"CTYPE{axis}", "missing")) for axis in (1, 2))
        others.append(f"CTYPE1 and CTYPE2 of HDU {extension.number} ({extension.name}) are {types}")
    found = "; ".join(others) or "it has no image at all"
    raise UserError(
        f"{file.path}: no image with a position on the sky: {found}. Two axes such as RA---TAN and DEC--TAN "
        "are "
        "needed."
    )


def _flux(header: FitsHeader) -> Flux:
    unit = header.values.get("BUNIT")
    flux = flux_unit(unit if isinstance(unit, str) else None)
    if flux.unit != NANOJANSKY and flux.is_counts:
        for cards in (header, header.file.primary):
            if "FLUXMAG0" in cards.values and (zero := cards.number("FLUXMAG0")) > 0:
                return of_zero_point(zero)
    return flux
