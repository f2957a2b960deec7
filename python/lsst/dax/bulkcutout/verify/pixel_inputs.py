# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Input images for `pixel_check`, as astropy reads them.

A part of the second opinion: this module imports nothing else of this package,
and does its own arithmetic.
"""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Mapping
from typing import Any

import astropy.coordinates
import astropy.io.fits
import astropy.wcs
import astropy.wcs.utils
import numpy as np

from .input_hdus import find_planes, flux_of, mask_values, stitch_cells
from .pixel_extras import InputExtras, Wanted

__all__ = ("InputImage", "to_pixels", "to_sky", "wcs_of")


class InputImage:
    """An input image, as astropy reads it.

    Parameters
    ----------
    path
        File of the image.
    companions
        What else belongs to it, by kind: the ``path`` of each, and for the
        mask its ``codes`` by name, if it is one number a pixel.
    wanted
        What else is compared.
    """

    def __init__(
        self,
        path: str,
        companions: Mapping[str, Mapping[str, Any]] | None = None,
        wanted: Wanted = Wanted(),  # noqa: B008 (frozen)
    ) -> None:
        self._stack = contextlib.ExitStack()
        self._companions = companions or {}
        try:
            self._open(path, wanted)
        except BaseException:
            self.close()
            raise

    def _open(self, path: str, wanted: Wanted) -> None:
        hdus = stitch_cells(self._stack.enter_context(astropy.io.fits.open(path)))
        self._extras = InputExtras(hdus, path, wanted)
        self.subtracted = self._extras.subtracted
        """Background that is subtracted, where not the stored one is wanted;
        else `None`."""
        self._masks: list[Any] = []
        self._variance: Any = None
        self._is_plain = _is_plain(hdus)
        if self._is_plain:
            self._image = _find_image(hdus)
        else:
            planes = find_planes(hdus)
            self._image, self._variance = planes["IMAGE"], planes.get("VARIANCE")
            masks = [hdu for hdu in hdus if hdu.name == "MASK"] or [planes.get("MASK")]
            self._masks = [hdu for hdu in masks if hdu is not None and mask_values(hdu.header)]
        header = self._image.header
        self.unit, self._factor = flux_of(hdus, header)
        self.wcs = wcs_of(header)
        self.x0 = self.y0 = 0
        if self._is_plain:
            # The pixel at the reference point is the first.
            self.x0, self.y0 = (1 - math.floor(header[f"CRPIX{axis}"] + 0.2931) for axis in (1, 2))
        elif "CRVAL1A" in header:
            # The alternate WCS "A", or "LTV", tells where the file lies in
            # the tract.
            self.x0 = round(header["CRVAL1A"] - (header["CRPIX1A"] - 1))
            self.y0 = round(header["CRVAL2A"] - (header["CRPIX2A"] - 1))
        elif "LTV1" in header:
            self.x0, self.y0 = -round(header["LTV1"]), -round(header["LTV2"])
        self.ny, self.nx = self._image.shape[-2:]
        self._mask_codes = self._companions.get("mask", {}).get("codes")
        self._weight = None
        for kind, companion in self._companions.items():
            if kind != "psf":
                files = self._stack.enter_context(astropy.io.fits.open(companion["path"]))
                self._take(kind, _companion_image(files, self._image.name))

    def _take(self, kind: str, hdu: Any) -> None:
        if kind == "mask":
            self._masks = [hdu]
        elif kind == "variance":
            self._variance = hdu
        else:
            self._weight = hdu

    @property
    def is_exact(self) -> bool:
        """Whether pixels are delivered as they are, without arithmetic."""
        return self._factor == 1.0 and self._weight is None

    def close(self) -> None:
        """Close the files."""
        self._stack.close()

    def place(self, ra: float, dec: float) -> tuple[float, float]:
        """Pixel ``(x, y)`` of the tract, zero-based.

        Parameters
        ----------
        ra, dec
            ICRS degrees.

        Returns
        -------
        x, y
            The place.
        """
        x, y = to_pixels(self.wcs, np.array([ra]), np.array([dec]))[0]
        return float(x) + self.x0, float(y) + self.y0

    def cut(
        self, first_x: int, first_y: int, size: int
    ) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], np.ndarray]:
        """Cut a box out.

        Parameters
        ----------
        first_x, first_y
            First pixel, tract pixels.
        size
            Side in pixels.

        Returns
        -------
        floats
            Image, variance and what else is wanted by name, padded.
        planes
            Mask planes by name, padded.
        has
            Which pixels the image has.
        """
        here, there = self._overlap(first_x, first_y, size)
        names = ("flux", "variance", *self._extras.names)
        floats = {name: np.full((size, size), np.nan, dtype=np.float32) for name in names}
        planes = {"NO_DATA": np.ones((size, size), dtype=bool)}
        has = np.zeros((size, size), dtype=bool)
        if here is None:
            return floats, planes, has
        has[here] = True
        planes["NO_DATA"][here] = False
        flux = _section(self._image, there)
        floats["flux"][here] = flux * self._factor
        if self._variance is not None:
            floats["variance"][here] = _section(self._variance, there) * self._factor**2
        for hdu in self._masks:
            bits = _section(hdu, there).astype(np.int64)
            for name, wanted in self._mask_planes(hdu, bits).items():
                planes.setdefault(name, np.zeros((size, size), dtype=bool))[here] = wanted
        if not self._masks or self._is_plain:
            planes["NO_DATA"][here] |= ~np.isfinite(flux)
        if self._weight is not None:
            weight = _section(self._weight, there).astype(np.float64)
            with np.errstate(divide="ignore", invalid="ignore"):
                floats["variance"][here] = np.where(weight > 0, self._factor**2 / weight, np.nan)
                planes["NO_DATA"][here] |= ~(weight > 0)
        self._extras.fill(floats, here, there, y0=self.y0, x0=self.x0, factor=self._factor)
        return floats, planes, has

    def _mask_planes(self, hdu: Any, bits: np.ndarray) -> dict[str, np.ndarray]:
        if self._mask_codes is not None:
            found = {name: bits == code for name, code in self._mask_codes.items()}
            named = np.isin(bits, list(self._mask_codes.values()))
            return found | {"OTHER_CODE": (bits != 0) & ~named}
        values = mask_values(hdu.header)
        if not values:
            values = {f"BIT{bit:02}": 1 << bit for bit in range(min(31, hdu.header["BITPIX"]))}
        return {name: (bits & value) != 0 for name, value in values.items()}

    def _overlap(self, first_x: int, first_y: int, size: int) -> tuple[Any, Any]:
        x_low, x_high = max(first_x, self.x0), min(first_x + size, self.x0 + self.nx)
        y_low, y_high = max(first_y, self.y0), min(first_y + size, self.y0 + self.ny)
        if x_low >= x_high or y_low >= y_high:
            return None, None
        here = np.s_[y_low - first_y : y_high - first_y, x_low - first_x : x_high - first_x]
        return here, np.s_[y_low - self.y0 : y_high - self.y0, x_low - self.x0 : x_high - self.x0]


def wcs_of(header: astropy.io.fits.Header) -> astropy.wcs.WCS:
    """The projection of a header, without remarks on its cards.

    Parameters
    ----------
    header
        Header.

    Returns
    -------
    wcs
        Two axes.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", astropy.wcs.FITSFixedWarning)
        return astropy.wcs.WCS(header, naxis=2)


def to_pixels(wcs: astropy.wcs.WCS, ra: np.ndarray, dec: np.ndarray) -> np.ndarray:
    """Zero-based pixels of ICRS positions.

    Parameters
    ----------
    wcs
        Projection, in any celestial frame.
    ra, dec
        Degrees, shape ``(n,)``.

    Returns
    -------
    pixels
        ``(x, y)``, shape ``(n, 2)``.
    """
    sky = astropy.coordinates.SkyCoord(ra, dec, unit="deg").transform_to(_frame(wcs)).spherical
    world = np.empty((len(ra), 2))
    world[:, wcs.wcs.lng], world[:, wcs.wcs.lat] = sky.lon.deg, sky.lat.deg
    # Without distortions the tolerance has no meaning.
    return np.asarray(wcs.all_world2pix(world, 0, tolerance=1e-9, maxiter=100))


def to_sky(wcs: astropy.wcs.WCS, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """ICRS positions of zero-based pixels.

    Parameters
    ----------
    wcs
        Projection, in any celestial frame.
    pixels
        ``(x, y)``, shape ``(n, 2)``.

    Returns
    -------
    ra, dec
        Degrees, shape ``(n,)``.
    """
    world = wcs.all_pix2world(pixels, 0)
    lon, lat = world[:, wcs.wcs.lng], world[:, wcs.wcs.lat]
    sky = astropy.coordinates.SkyCoord(lon, lat, unit="deg", frame=_frame(wcs)).icrs
    return sky.ra.deg, sky.dec.deg


def _frame(wcs: astropy.wcs.WCS) -> Any:
    """Celestial frame of a projection."""
    if wcs.wcs.lngtyp == "ELON":
        equinox = 2000.0 if math.isnan(wcs.wcs.equinox) else wcs.wcs.equinox
        return astropy.coordinates.BarycentricMeanEcliptic(equinox=f"J{equinox}")
    return astropy.wcs.utils.wcs_to_celestial_frame(wcs)


def _is_plain(hdus: astropy.io.fits.HDUList) -> bool:
    """Whether nothing says that afw or lsst.images wrote a file."""
    if {"AR_HDU", "DATAMODL"} & set(hdus[0].header):
        return False
    return not any(
        "EXTTYPE" in hdu.header
        or str(hdu.header.get("CUNIT1A", "")).strip() == "PIXEL"
        or (hdu.is_image and mask_values(hdu.header))
        for hdu in hdus
    )


def _find_image(hdus: astropy.io.fits.HDUList) -> Any:
    for hdu in hdus:
        if hdu.is_image and hdu.header["NAXIS"] >= 2 and wcs_of(hdu.header).has_celestial:
            return hdu
    raise ValueError("it has no image on the sky")


def _companion_image(hdus: astropy.io.fits.HDUList, name: str) -> Any:
    images = [hdu for hdu in hdus if hdu.is_image and hdu.header["NAXIS"] >= 2]
    return next((hdu for hdu in images if name and hdu.name == name), images[0])


def _section(hdu: Any, there: Any) -> np.ndarray:
    # Only what comes from a file has sections.
    source = hdu.data if hdu.fileinfo() is None else hdu.section
    pixels: np.ndarray = np.asarray(source[(*([0] * (hdu.header["NAXIS"] - 2)), *there)])
    # As the product has them; arithmetic is on float64.
    return pixels if pixels.dtype.kind in "iu" else pixels.astype(np.float32).astype(np.float64)
