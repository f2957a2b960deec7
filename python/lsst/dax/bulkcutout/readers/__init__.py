# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Pixels in: one module for each layout of image files.

A new layout is a class that looks like `ImageReader`, and a line in
`READERS`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np

from ..boxes import Box
from ..errors import CorruptInputError, UserError
from ..tables import MaskPlane
from ..wcs import Wcs
from .afw_exposure import AfwExposureReader
from .background import BackgroundField
from .byte_source import LocalBytes, Location, RemoteBytes, open_bytes
from .cell_coadd import CellCoaddReader
from .companions import Companions
from .fits_file import FitsFile
from .multiple_cell_coadd import MultipleCellCoaddReader
from .plain_image import PlainImageReader

__all__ = ("READERS", "BackgroundField", "Companions", "ImageReader", "open_image")


class ImageReader(Protocol):
    """One image file, open; a context manager.

    Pixels are absolute (tract pixels), pairs are (y, x). The unit of reading
    is the tile, so that nobody pays for pixels that no target wants.
    """

    @property
    def bbox(self) -> Box:
        """Absolute pixels that the file covers."""

    @property
    def wcs(self) -> Wcs:
        """Projection, in absolute pixels."""

    @property
    def planes(self) -> frozenset[str]:
        """Which of image, variance, mask and psf there are."""

    @property
    def extra_planes(self) -> tuple[str, ...]:
        """Planes ``noise/0``, ``noise/1``, ... and ``mask_fraction/NAME``."""

    @property
    def mask_tells_nothing(self) -> bool:
        """Whether the mask only says where the image has no finite number."""

    @property
    def mask_planes(self) -> tuple[MaskPlane, ...]:
        """Names of the mask bits."""

    @property
    def skymap(self) -> str | None:
        """Name of the sky map, if the file says it."""

    @property
    def tract(self) -> int | None:
        """Tract, if the file says it."""

    @property
    def patch(self) -> int | None:
        """Sequential number of the patch, if the file says it."""

    @property
    def patch_index(self) -> tuple[int, int] | None:
        """Place ``(y, x)`` of the patch in its tract, if the file says it."""

    @property
    def band(self) -> str | None:
        """Band, if the file says it."""

    @property
    def unit(self) -> str:
        """Unit of the image plane; the variance has its square."""

    @property
    def background(self) -> str | None:
        """Name of the background model that is subtracted, if any."""

    @property
    def backgrounds(self) -> Mapping[str, BackgroundField]:
        """Background models by name, read when they are asked for."""

    @property
    def tile_shape(self) -> tuple[int, int]:
        """Rows and columns of a tile."""

    @property
    def tile_edges(self) -> tuple[np.ndarray, np.ndarray]:
        """Where tiles, not all of one size, begin in y and x, and the end."""

    @property
    def n_tiles(self) -> tuple[int, int]:
        """Number of tiles in y and x."""

    @property
    def has_psf(self) -> bool:
        """Whether there are PSF kernels."""

    @property
    def psf_note(self) -> str:
        """Why there are no kernels ("absent, because"), or empty."""

    @property
    def psf_shape(self) -> tuple[int, int]:
        """Rows and columns of a kernel."""

    @property
    def cell_shape(self) -> tuple[int, int]:
        """Rows and columns of a cell, within which the PSF is the same."""

    @property
    def n_cells(self) -> tuple[int, int]:
        """Number of cells of the patch in y and x."""

    @property
    def missing_cells(self) -> frozenset[tuple[int, int]]:
        """Indices ``(y, x)`` of the cells that hold nothing."""

    def tile_box(self, iy: int, ix: int) -> Box:
        """Absolute pixels of a tile.

        Parameters
        ----------
        iy, ix
            Zero-based index of the tile.

        Returns
        -------
        box
            Its pixels.
        """

    def tiles_touching(self, box: Box) -> list[tuple[int, int]]:
        """Tiles that hold pixels of a box.

        Parameters
        ----------
        box
            Absolute pixels; it may leave the image, or miss it.

        Returns
        -------
        tiles
            Indices ``(iy, ix)``, row by row.
        """

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
        """Decode tiles into an array.

        Parameters
        ----------
        plane
            ``image``, ``variance``, ``mask``, or one of `extra_planes`.
        tiles
            Tile indices ``(iy, ix)``, row by row, each once.
        canvas
            Where the pixels go, rows contiguous: float32 with NaN where there
            are none, or integers that hold all bits of the mask.
        within
            Absolute pixels of ``canvas``; those outside are left out.
        last_rows
            For each tile the absolute row after the last that is wanted;
            what the canvas has after it is undefined.
        threads
            How many threads may decode.

        Returns
        -------
        damaged
            An error with its ``box`` for each tile that is damaged; what the
            canvas has there is undefined. Damage of the whole plane is
            raised, and an `OSError` too: the call can then be repeated.
        """

    def cell_of(self, y: Any, x: Any) -> np.ndarray:
        """Cells that hold positions.

        Parameters
        ----------
        y, x
            Absolute pixels, shape ``(n,)``.

        Returns
        -------
        cells
            Indices ``(y, x)``, shape ``(n, 2)``; (-1, -1) outside.
        """

    def psf_kernels(self, cells: Any) -> np.ndarray:
        """PSF kernels of cells.

        Parameters
        ----------
        cells
            Indices ``(y, x)``, shape ``(n, 2)``.

        Returns
        -------
        kernels
            Float32, shape ``(n, ky, kx)``; NaN for missing cells.
        """

    def close(self) -> None:
        """Close the file; again does nothing."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


READERS = (CellCoaddReader, MultipleCellCoaddReader, AfwExposureReader, PlainImageReader)
"""The layouts that are known, in the order in which they are tried."""


def open_image(
    path: Location, *, verify_checksums: bool = False, companions: Companions | None = None
) -> ImageReader:
    """Open an image file, whatever its layout.

    Parameters
    ----------
    path
        File on this machine, or a URI of lsst.resources: what is in an object
        store is read in ranges, as it is needed.
    verify_checksums
        Whether to compare the file with the checksums in it, which costs a
        reading of all of it.
    companions
        Files with variance, mask and PSF of a plain FITS image.

    Returns
    -------
    reader
        The open image; close it, or use it in a ``with`` statement.

    Raises
    ------
    CorruptInputError
        Raised if the file is proven bad.
    UserError
        Raised if it is in order, but nothing that can be read here.
    OSError
        Raised as it comes if the file cannot be read: try again.
    """
    source = open_bytes(path)
    try:
        return _open(source, verify_checksums, companions)
    except BaseException:
        source.close()
        raise


def _open(
    source: LocalBytes | RemoteBytes, verify_checksums: bool, companions: Companions | None
) -> ImageReader:
    file = FitsFile(source)
    for reader in READERS:
        if not reader.can_read(file):
            continue
        if reader is PlainImageReader:
            return PlainImageReader(source, verify_checksums=verify_checksums, companions=companions)
        if companions is not None and companions.paths:
            raise UserError(
                f"{file.path}: its layout, {reader.layout}, has planes of its own: companions "
                f"({', '.join(companions.paths)}) are for plain FITS images."
            )
        return reader(source, verify_checksums=verify_checksums)
    model = file.primary.values.get("DATAMODL")
    raise UserError(
        f"{file.path}: the layout of this image is not known (its header has "
        f"{f'DATAMODL = {model!r}' if model else 'no DATAMODL card'}). "
        f"Known: {', '.join(reader.layout for reader in READERS)}."
    )
