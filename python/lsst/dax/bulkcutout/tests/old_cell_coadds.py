# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Files in the older layout of cell coadds, made with astropy."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import astropy.io.fits
import numpy as np

from ..boxes import Box

__all__ = ("OldCellCoadd",)


@dataclasses.dataclass
class OldCellCoadd:
    """What is in a file: overlapping cells that agree."""

    image: np.ndarray
    """Pixels of the whole patch with its border, NaN in missing cells."""

    variance: np.ndarray
    """Variance."""

    mask: np.ndarray
    """Mask bits, NO_DATA in missing cells."""

    noise: np.ndarray
    """A noise realization."""

    fraction: np.ndarray
    """Mask fractions."""

    psf: np.ndarray
    """Kernels, shape ``(n cells y, n cells x, ky, kx)``."""

    bits: dict[str, int]
    """Bits of the mask planes."""

    bbox: Box
    """Absolute pixels of the patch with its border."""

    cell: tuple[int, int]
    """Rows and columns of a cell."""

    border: int
    """Pixels around each cell."""

    missing: tuple[tuple[int, int], ...]
    """Cells ``(y, x)`` without a row."""

    @classmethod
    def coded(
        cls,
        *,
        origin: tuple[int, int],
        cell: tuple[int, int] = (12, 15),
        n_cells: tuple[int, int] = (4, 3),
        border: int = 5,
        missing: tuple[tuple[int, int], ...] = ((0, 1), (2, 2)),
        kernel: tuple[int, int] = (7, 9),
        code: int = 0,
    ) -> OldCellCoadd:
        """Make a coadd whose pixels tell where they are.

        Parameters
        ----------
        origin
            First pixel ``(y, x)`` of the first cell without its border.
        cell, n_cells, border, missing, kernel
            Cells and kernels, pairs are (y, x).
        code
            A number that is in all pixels.

        Returns
        -------
        coadd
            Image ``code * 10_000 + y * 100 + x`` in the file, modulo 100.
        """
        ny, nx = (n * size + 2 * border for n, size in zip(n_cells, cell, strict=True))
        box = Box(
            y0=origin[0] - border,
            y1=origin[0] - border + ny,
            x0=origin[1] - border,
            x1=origin[1] - border + nx,
        )
        y, x = np.mgrid[:ny, :nx]
        rng = np.random.default_rng(code)
        bits = {"NO_DATA": 4, "DETECTED": 0, "INEXACT_PSF": 9}
        image = (code * 10_000 + (y % 100) * 100 + x % 100 + 0.5).astype(np.float32)
        coadd = cls(
            image=image,
            variance=(code + 1 + 0.25 * y + 0.125 * x).astype(np.float32),
            mask=((rng.random((ny, nx)) < 0.2) | ((rng.random((ny, nx)) < 0.2) * 512)).astype(np.int32),
            noise=rng.normal(size=(ny, nx)).astype(np.float32),
            fraction=rng.random((ny, nx)).astype(np.float32),
            psf=rng.random((*n_cells, *kernel)),
            bits=bits,
            bbox=box,
            cell=cell,
            border=border,
            missing=missing,
        )
        for iy, ix in missing:
            there = coadd.used(iy, ix)
            for plane in (coadd.image, coadd.variance, coadd.noise, coadd.fraction):
                plane[there] = np.nan
            coadd.mask[there] = 1 << bits["NO_DATA"]
            coadd.psf[iy, ix] = np.nan
        return coadd

    def used(self, iy: int, ix: int) -> tuple[slice, slice]:
        """Pixels that are a cell's own.

        Parameters
        ----------
        iy, ix
            The cell.

        Returns
        -------
        index
            Of arrays of the whole patch.
        """
        slices = []
        for axis, index in enumerate((iy, ix)):
            size, last = self.cell[axis], self.psf.shape[axis] - 1
            start = self.border + index * size
            low = 0 if index == 0 else start
            high = self.image.shape[axis] if index == last else start + size
            slices.append(slice(low, high))
        return slices[0], slices[1]

    def write(self, path: Path, wcs: dict[str, Any], **cards: Any) -> Path:
        """Write the file.

        Parameters
        ----------
        path
            File to write.
        wcs
            Cards of the projection, in absolute pixels.
        **cards
            Cards of the table, to add or to replace.

        Returns
        -------
        path
            The file.
        """
        n_cells, (ny, nx), b = self.psf.shape[:2], self.cell, self.border
        # What lies under missing cells, others may still have in their border.
        planes = {"image": self.image, "mask": self.mask, "variance": self.variance}
        planes |= {"maskfrac": self.fraction, "noise_00": self.noise}
        present = [cell for cell in np.ndindex(*n_cells) if cell not in self.missing]
        outer = (ny + 2 * b, nx + 2 * b)
        columns = [astropy.io.fits.Column("cell_id", "2I", array=np.array([(x, y) for y, x in present]))]
        for name, code in (("image", "E"), ("mask", "J"), ("variance", "E"), ("psf", "D")) + (
            ("maskfrac", "E"),
            ("noise_00", "E"),
        ):
            shape = self.psf.shape[2:] if name == "psf" else outer
            cells = [
                self.psf[y, x]
                if name == "psf"
                else planes[name][y * ny : y * ny + outer[0], x * nx : x * nx + outer[1]]
                for y, x in present
            ]
            form, dim = f"{shape[0] * shape[1]}{code}", f"({shape[1]}, {shape[0]})"
            columns.append(astropy.io.fits.Column(name, form, dim=dim, array=np.array(cells)))
        table = astropy.io.fits.BinTableHDU.from_columns(columns)
        pairs = {
            "GRCELL": (nx, ny),
            "GRSHAPE": n_cells[::-1],
            "GRMIN": (self.bbox.x0 + b, self.bbox.y0 + b),
            "OCELL": outer[::-1],
            "PSFSIZE": self.psf.shape[:1:-1],
        }
        for card, pair in pairs.items():
            table.header[f"{card}1"], table.header[f"{card}2"] = pair
        said = {"VERSION": "0.8", "TUNIT2": "nJy", "TUNIT4": "nJy**2", "FILTER": "r", "NNOISE": 1}
        said |= {"SKYMAP": "lsst_cells_v1", "TRACT": 10463, "PATCH_X": 3, "PATCH_Y": 7, **cards}
        for card, value in said.items():
            if value is not None:
                table.header[card] = value
        # As cell_coadds writes it, as unsigned numbers.
        names = np.array(list(self.bits), dtype="U16")
        values = np.array(list(self.bits.values()), dtype=np.uint32)
        definition = astropy.io.fits.BinTableHDU(
            np.rec.fromarrays([names, values], names=["MASK_NAME", "BIT_VALUE"]), name="MASKDEF"
        )
        primary = astropy.io.fits.PrimaryHDU()
        primary.header.update(wcs)
        astropy.io.fits.HDUList([primary, table, definition]).writeto(path, checksum=True, overwrite=True)
        return path
