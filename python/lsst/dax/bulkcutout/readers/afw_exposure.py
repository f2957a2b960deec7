# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""afw Exposures: Rubin DP1, DC2, HSC, and what services cut out of them."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from ..errors import UserError
from .afw_archive import AfwArchive
from .afw_planes import AfwPlanes, find_planes, first_pixel_of, mask_planes_of
from .afw_psf_component import read_psf
from .byte_source import Location
from .celestial import celestial_wcs
from .fits_extension import Extension, walk_extensions
from .fits_file import FitsFile
from .fits_header import FitsHeader
from .flux_units import NANOJANSKY, Flux, flux_unit, of_zero_point
from .images_archive import schema_of
from .model_cells import ModelCells
from .pixel_plane import PixelPlane
from .tiled_image import TiledImage

__all__ = ("AfwExposureReader",)

_CONSTANT_FLAG = 0x80
_BUTLER = "LSST BUTLER DATAID "
_BAND = re.compile(
    r"(?P<plain>[ugrizy])2?"
    r"|HSC-(?P<hsc>[GRIZY])2?"
    r"|(?P<numbered>[ugrizy])_\d+"
    r"|(?P<dark>[ugrizY]) DECam .*"
)


class AfwExposureReader(TiledImage):
    """An afw Exposure, open for reading.

    Image, mask and variance are found by their names, else by their types,
    else by their order; an image alone will do.

    Parameters
    ----------
    path
        File to read (path, URI, or an open source of bytes).
    verify_checksums
        Whether to compare the planes with their DATASUM and CHECKSUM cards,
        if they have any. It reads all of their bytes.

    Raises
    ------
    CorruptInputError
        Raised if the file is truncated or contradicts itself.
    UserError
        Raised if it is a file that this reader does not take.
    OSError
        Raised as it comes if the file cannot be read.
    """

    layout = "afw Exposure (FITS)"
    """What this reader reads, for messages."""

    patch_index: tuple[int, int] | None = None
    """The place of the patch in its tract: never said."""

    missing_cells: frozenset[tuple[int, int]] = frozenset()
    """No cell is missing."""

    def __init__(self, path: Location, *, verify_checksums: bool = False) -> None:
        super().__init__(FitsFile(path))
        try:
            extensions = list(walk_extensions(self._file))
            found = find_planes(extensions)
            if found is None:
                raise UserError(f"{path}: it has no HDU that is an image.")
            self._archive = AfwArchive(extensions)
            self._read_identity()
            self._read_planes(found)
            self._read_psf()
            if verify_checksums:
                for one in found.all:
                    self._file.verify_checksums(one.header)
        except BaseException:
            self.close()
            raise

    @classmethod
    def can_read(cls, file: FitsFile) -> bool:
        """Whether a file looks like an afw Exposure.

        Parameters
        ----------
        file
            File to look at, open.

        Returns
        -------
        can
            `False` for any other FITS file.
        """
        found = find_planes(list(walk_extensions(file)))
        return found is not None and found.is_afw

    def cell_of(self, y: Any, x: Any) -> np.ndarray:
        """Cells that hold positions.

        Parameters
        ----------
        y, x
            Absolute pixels, shape ``(n,)``.

        Returns
        -------
        cells
            Indices ``(y, x)``, int64, shape ``(n, 2)``; (-1, -1) outside.
        """
        return self._cells.cell_of(y, x)

    def psf_kernels(self, cells: Any) -> np.ndarray:
        """PSF kernels of cells.

        Parameters
        ----------
        cells
            Indices ``(y, x)`` as `cell_of` gives them, shape ``(n, 2)``.

        Returns
        -------
        kernels
            Float32, shape ``(n, ky, kx)``, centred at ``[ky // 2, kx // 2]``;
            NaN outside the image and where there is no PSF.
        """
        return self._cells.psf_kernels(cells)

    def _read_identity(self) -> None:
        header = self._file.primary
        self.skymap: str | None = _word(header, _BUTLER + "SKYMAP")
        self.tract: int | None = _whole(header, _BUTLER + "TRACT")
        self.patch: int | None = _whole(header, _BUTLER + "PATCH")
        self.band: str | None = _word(header, _BUTLER + "BAND") or self._band_of_filter()

    def _band_of_filter(self) -> str | None:
        """The band, where the name of a filter leaves no doubt."""
        names: list[str | None] = [_word(self._file.primary, "FILTER")]
        if self._archive.name("FILTER") == "FilterLabel":
            row = self._archive.tables("FILTER")[0][0]
            fields = row.dtype.names or ()
            names[:0] = [_decoded(row[name]) for name in ("band", "physical") if name in fields]
        for name in names:
            if name and (match := _BAND.fullmatch(name)):
                return next(group for group in match.groups() if group).lower()
        return None

    def _read_planes(self, found: AfwPlanes) -> None:
        image = found.image
        flux = self._flux(image, found.variance)
        self.unit: str = flux.unit
        planes = {"image": PixelPlane(image, dtype=np.float32, factor=flux.factor)}
        shape = planes["image"].shape
        self.mask_planes = mask_planes_of(found.mask, self._file.primary) if found.mask else ()
        if found.mask is not None and self.mask_planes:
            # Without names the bits mean nothing.
            planes["mask"] = PixelPlane(found.mask, dtype=np.int32, shape=shape)
        if found.variance is not None:
            planes["variance"] = PixelPlane(
                found.variance, dtype=np.float32, shape=shape, factor=flux.factor**2
            )
        origins = {first for one in found.all if (first := first_pixel_of(one.header)) is not None}
        if len(origins) > 1:
            raise self._file.corrupt(f"its planes begin at {sorted(origins)} (y, x)")
        y0, x0 = next(iter(origins), (0, 0))
        self._set_planes(planes, y0=y0, x0=x0)
        self.wcs = celestial_wcs(image.header, self.bbox)

    def _flux(self, image: Extension, variance: Extension | None) -> Flux:
        """The unit, and the factor to it, from what the file says."""
        stated = _word(image.header, "BUNIT")
        flux = flux_unit(stated)
        if variance is not None and stated and (squared := _word(variance.header, "BUNIT")):
            plain = squared.translate({ord(sign): None for sign in " *^()"})
            allowed = stated.translate({ord(sign): None for sign in " *^()"})
            if plain != f"{allowed}2":
                raise UserError(
                    f"{self._file.path}: the unit of its variance is {squared!r}, that of the image "
                    f"{stated!r}; allowed is the square of it."
                )
        if not flux.is_counts:
            return flux
        for header in (image.header, self._file.primary):
            if "FLUXMAG0" in header.values:
                zero = header.number("FLUXMAG0")
                if zero <= 0:
                    raise self._file.corrupt(f"FLUXMAG0 is {zero}, it must be above 0")
                return of_zero_point(zero)
        return self._photo_calib() or flux

    def _photo_calib(self) -> Flux | None:
        """What afw's calibration says, if it is one number for the image."""
        if self._archive.name("PHOTOCALIB") != "PhotoCalib":
            return None
        (row,) = self._archive.tables("PHOTOCALIB")[0][:1]
        fields = row.dtype.names or ()
        if not {"flags", "calibrationMean", "version"} <= set(fields) or int(row["version"]) < 1:
            return None
        mean = float(row["calibrationMean"])
        is_constant = bool(int(np.ravel(row["flags"])[0]) & _CONSTANT_FLAG)
        return Flux(NANOJANSKY, mean) if is_constant and np.isfinite(mean) and mean > 0 else None

    def _read_psf(self) -> None:
        schema = schema_of(self._file.primary)
        middle = ((self.bbox.x0 + self.bbox.x1) / 2, (self.bbox.y0 + self.bbox.y1) / 2)
        model, self.psf_note = read_psf(self._archive, self._file.path, middle, is_images=schema is not None)
        self._cells = ModelCells(model, self.bbox)
        self.has_psf: bool = model is not None
        self.psf_shape: tuple[int, int] = self._cells.psf_shape
        self.cell_shape: tuple[int, int] = self._cells.cell_shape
        self.n_cells: tuple[int, int] = self._cells.n_cells
        self.planes = frozenset(self._planes) | ({"psf"} if self.has_psf else set())


def _word(header: FitsHeader, key: str) -> str | None:
    value = header.values.get(key)
    return value.strip() or None if isinstance(value, str) else None


def _whole(header: FitsHeader, key: str) -> int | None:
    value = header.values.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _decoded(value: Any) -> str:
    return bytes(value).rstrip(b" \0").decode("ascii", errors="replace")
