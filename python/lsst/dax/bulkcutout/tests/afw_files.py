# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Files like those that afw writes, made with astropy."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import astropy.io.fits
import numpy as np

__all__ = ("DP1_BITS", "HSC_BITS", "AfwFile")

DP1_BITS = {
    name: bit
    for bit, name in enumerate(
        "BAD SAT INTRP CR EDGE DETECTED DETECTED_NEGATIVE SUSPECT NO_DATA VIGNETTED STREAK CLIPPED "
        "CROSSTALK INEXACT_PSF".split()
    )
}
"""Mask planes of Rubin's DP1."""

HSC_BITS = {
    name: bit
    for bit, name in enumerate(
        "BAD SAT INTRP CR EDGE DETECTED DETECTED_NEGATIVE SUSPECT NO_DATA BRIGHT_OBJECT CROSSTALK "
        "NOT_DEBLENDED UNMASKEDNAN REJECTED CLIPPED SENSOR_EDGE INEXACT_PSF".split()
    )
}
"""Mask planes of an HSC coadd."""

_CD = ((-0.168 / 3600, 0.01 / 3600), (0.012 / 3600, 0.17 / 3600))


@dataclasses.dataclass
class AfwFile:
    """The planes of an Exposure, and how they are written."""

    image: np.ndarray
    """Pixels, float32, shape ``(ny, nx)``."""

    variance: np.ndarray
    """Variance, float32."""

    flags: dict[str, np.ndarray]
    """Mask planes by name, bool."""

    bits: dict[str, int]
    """Bit of each mask plane."""

    x0: int
    """Absolute column of the first pixel."""

    y0: int
    """Absolute row of the first pixel."""

    crval: tuple[float, float] = (129.4, -2.2)
    """Tangent point, degrees."""

    crpix: tuple[float, float] = (17999.0, 17999.0)
    """Tangent point, zero-based absolute pixels ``(x, y)``."""

    cd: tuple[tuple[float, float], tuple[float, float]] = _CD
    """Degrees per pixel."""

    image_unit: str | None = "nJy"
    """BUNIT of the image."""

    variance_unit: str | None = None
    """BUNIT of the variance; the image's with ``**2`` if not given."""

    @classmethod
    def coded(
        cls,
        shape: tuple[int, int],
        *,
        x0: int,
        y0: int,
        code: int = 0,
        bits: Mapping[str, int] = DP1_BITS,
        **others: Any,
    ) -> AfwFile:
        """Make an Exposure whose pixels tell where they are.

        Parameters
        ----------
        shape
            Rows and columns.
        x0, y0
            Absolute position of the first pixel.
        code
            A number below 100 that is in all pixels, for patch or band.
        bits
            Mask planes and their bits.
        **others
            Other fields.

        Returns
        -------
        file
            Image ``code * 10_000 + y * 100 + x`` within the file, modulo 100
            in y and x, with a hole that is NaN; the mask planes differ.
        """
        y, x = np.mgrid[: shape[0], : shape[1]]
        image = (code * 10_000 + (y % 100) * 100 + x % 100 + 0.25).astype(np.float32)
        variance = (code + 1 + y * 0.5 + x * 0.125).astype(np.float32)
        hole = (slice(5, 8), slice(9, 14))
        image[hole] = variance[hole] = np.nan
        rng = np.random.default_rng(code)
        flags = {name: rng.random(shape) < 0.1 for name in sorted(bits)}
        if "NO_DATA" in flags:
            flags["NO_DATA"] = np.isnan(image)
        return cls(image, variance, flags, dict(bits), x0, y0, **others)

    def write(
        self,
        path: Path,
        *,
        names: str = "EXTNAME",
        order: Sequence[str] = ("IMAGE", "MASK", "VARIANCE"),
        origin: Sequence[str] = ("LTV", "A"),
        mask_type: str = "i4",
        codec: str | None = None,
        tile: tuple[int, int] | None = None,
        primary: Mapping[str, Any] | None = None,
        tables: Sequence[Any] = (),
        checksum: bool = False,
    ) -> Path:
        """Write the file.

        Parameters
        ----------
        path
            File to write.
        names
            What names the HDUs: EXTNAME (and EXTTYPE), EXTTYPE alone, or
            their order.
        order
            The planes that are written.
        origin
            What states the first pixel: LTV, A, or both.
        mask_type
            Integers of the mask.
        codec
            Lossless compression; `None` for none.
        tile
            Rows and columns of a tile; rows of the image if not given.
        primary
            Cards of the primary header.
        tables
            HDUs of the archive; the first is its index.
        checksum
            Whether to write checksums.

        Returns
        -------
        path
            The file.
        """
        hdus: list[Any] = [astropy.io.fits.PrimaryHDU()]
        for key, value in (primary or {}).items():
            hdus[0].header[key] = value
        if tables:
            hdus[0].header["AR_HDU"] = len(order) + 2
        for name in order:
            hdus.append(self._hdu(name, names, origin, mask_type, codec, tile))
        astropy.io.fits.HDUList([*hdus, *tables]).writeto(path, overwrite=True, checksum=checksum)
        return path

    def _hdu(
        self,
        name: str,
        names: str,
        origin: Sequence[str],
        mask_type: str,
        codec: str | None,
        tile: tuple[int, int] | None,
    ) -> Any:
        pixels = {"IMAGE": self.image, "VARIANCE": self.variance}.get(name)
        if pixels is None:
            pixels = np.zeros(self.image.shape, dtype=mask_type)
            for plane, bit in self.bits.items():
                pixels |= np.where(
                    self.flags[plane], np.array(1 << bit).astype(mask_type), pixels.dtype.type(0)
                )
        if codec is None or (codec == "RICE_1" and name != "MASK"):
            hdu: Any = astropy.io.fits.ImageHDU(pixels)
        else:
            hdu = astropy.io.fits.CompImageHDU(
                pixels, compression_type=codec, tile_shape=tile or (1, pixels.shape[1]), quantize_level=0.0
            )
        header = hdu.header
        for card, value in self._wcs_cards().items():
            header[card] = value
        if "LTV" in origin:
            header["LTV1"], header["LTV2"] = float(-self.x0), float(-self.y0)
        if "A" in origin:
            for axis, first in ((1, self.x0), (2, self.y0)):
                header[f"CTYPE{axis}A"], header[f"CUNIT{axis}A"] = "LINEAR", "PIXEL"
                header[f"CRPIX{axis}A"], header[f"CRVAL{axis}A"] = 1.0, float(first)
        header["INHERIT"] = True
        if names == "EXTNAME":
            header["EXTNAME"] = name
        if names != "order":
            header["EXTTYPE"] = name
        if name == "MASK":
            for plane, bit in self.bits.items():
                key = f"MP_{plane}"
                header[key if len(key) <= 8 else f"HIERARCH {key}"] = bit
        elif self.image_unit is not None:
            squared = self.variance_unit or f"{self.image_unit}**2"
            header["BUNIT"] = self.image_unit if name == "IMAGE" else squared
        return hdu

    def _wcs_cards(self) -> dict[str, Any]:
        cards: dict[str, Any] = {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "RADESYS": "ICRS"}
        for axis, first in ((1, self.x0), (2, self.y0)):
            cards[f"CRVAL{axis}"] = self.crval[axis - 1]
            cards[f"CRPIX{axis}"] = self.crpix[axis - 1] + 1.0 - first
            for other in (1, 2):
                # As afw does, which leaves out what is zero.
                if self.cd[axis - 1][other - 1]:
                    cards[f"CD{axis}_{other}"] = self.cd[axis - 1][other - 1]
        return cards
