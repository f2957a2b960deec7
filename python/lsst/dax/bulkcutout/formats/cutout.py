# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""One cutout of a product, whose arrays are read when they are asked for."""

from __future__ import annotations

import functools
import warnings
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ..errors import CorruptInputError, UserError, did_you_mean
from ..masks import ALIASES
from ..planes import EXTRA_PLANES
from ..psf_shift import pixel_and_rest, shift_kernel
from ..tables import BAND_STATUS, MaskPlane
from ..wcs import TangentWcs

if TYPE_CHECKING:
    import astropy.wcs

    from ..header_wcs import HeaderWcs
    from .hdf5_reader import HDF5Reader

__all__ = ("Cutout",)

_PSF_PLACES = ("cell", "target")
_OTHER_NAMES = ALIASES | {new: old for old, new in ALIASES.items()}


class _Files(Protocol):
    def reader(self, file: int) -> HDF5Reader: ...


class Cutout:
    """The pixels around one target, in all bands, and what is known of them.

    Parameters
    ----------
    files
        Opens the data files.
    file
        Number of the file.
    index
        Row of that file.

    Notes
    -----
    Arrays are indexed ``[y, x]``.  All of them are read from disk anew at
    every call.
    """

    def __init__(self, files: _Files, file: int, index: int) -> None:
        self._files = files
        self._file = file
        self._index = index

    def __repr__(self) -> str:
        return f"<Cutout of {self.object_id}: {self.size} px, bands {','.join(self.bands)}>"

    @property
    def file(self) -> str:
        """Path of the data file."""
        return str(self._reader.path)

    @property
    def index(self) -> int:
        """Zero-based row of the data file."""
        return self._index

    @property
    def row(self) -> int:
        """Zero-based row of the user's catalog."""
        return int(self._value("catalog/row"))

    @property
    def object_id(self) -> int | str:
        """Identifier, as in the catalog."""
        value: int | str = self._value("catalog/object_id").item()
        return value

    @property
    def ra(self) -> float:
        """Right ascension of the target, ICRS degrees."""
        return float(self._value("catalog/ra"))

    @property
    def dec(self) -> float:
        """Declination of the target, ICRS degrees."""
        return float(self._value("catalog/dec"))

    @property
    def tract(self) -> int:
        """Tract of the images."""
        return int(self._value("catalog/tract"))

    @property
    def patch(self) -> int:
        """Patch of the images."""
        return int(self._value("catalog/patch"))

    @property
    def fallback(self) -> bool:
        """Whether the patch stands in for another that has no image."""
        # Version 1 of the files knew no such thing.
        return "catalog/fallback" in self._reader and bool(self._value("catalog/fallback"))

    @property
    def size(self) -> int:
        """Side in pixels."""
        return self._reader.size

    @property
    def bands(self) -> tuple[str, ...]:
        """The bands of the product; see `status` for those with data."""
        return self._reader.bands

    @property
    def status(self) -> dict[str, str]:
        """What became of each band: ok, no_dataset, no_data or read_failed."""
        codes = self._value("images/band_status").tolist()
        return {
            band: BAND_STATUS.get(code, f"unknown ({code})")
            for band, code in zip(self.bands, codes, strict=True)
        }

    @property
    def target_xy(self) -> tuple[float, float]:
        """Place ``(x, y)`` of the target in the cutout, zero-based pixels."""
        return (float(self._value("catalog/x_cutout")), float(self._value("catalog/y_cutout")))

    @functools.cached_property
    def wcs(self) -> astropy.wcs.WCS:
        """Projection, exact; astropy's pixel (0, 0) is element ``[0, 0]``.

        Sky positions are those of the images' own frame, which is ICRS for
        all plain tangent planes.
        """
        # Astropy takes a second to import: only those who ask for it wait.
        import astropy.wcs

        if "wcs/exact" in self._reader and not self._value("wcs/exact"):
            return self._wcs_of_cards()
        wcs = astropy.wcs.WCS(naxis=2)
        wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
        wcs.wcs.cunit = ["deg", "deg"]
        wcs.wcs.radesys = "ICRS"
        wcs.wcs.crval = self._value("wcs/crval")
        wcs.wcs.crpix = self._value("wcs/crpix")
        wcs.wcs.cd = self._value("wcs/cd")
        # The default is 0 for a tangent point at the north pole alone.
        wcs.wcs.lonpole = 180.0
        wcs.wcs.set()
        wcs.pixel_shape = (self.size, self.size)
        return wcs

    def pixel_to_sky(self, x: Any, y: Any) -> tuple[np.ndarray, np.ndarray]:
        """Sky positions of places in the cutout, in ICRS whatever the images.

        Parameters
        ----------
        x, y
            Zero-based pixels of the cutout, of any one shape.

        Returns
        -------
        ra, dec
            ICRS degrees, of the same shape; exact.
        """
        first_x, first_y = self._first_xy
        return self._projection.pixel_to_sky(np.asarray(x) + first_x, np.asarray(y) + first_y)

    def sky_to_pixel(self, ra: Any, dec: Any) -> tuple[np.ndarray, np.ndarray]:
        """Places in the cutout of sky positions.

        Parameters
        ----------
        ra, dec
            ICRS degrees, of any one shape.

        Returns
        -------
        x, y
            Zero-based pixels of the cutout, of the same shape; NaN for what
            the projection does not reach.
        """
        first_x, first_y = self._first_xy
        x, y = self._projection.sky_to_pixel(ra, dec)
        return x - first_x, y - first_y

    @property
    def _first_xy(self) -> tuple[int, int]:
        """First pixel, in those of the tract."""
        first = (self._value(f"catalog/{axis}") - self._value(f"catalog/{axis}_cutout") for axis in "xy")
        x, y = (round(float(value)) for value in first)
        return x, y

    @functools.cached_property
    def _projection(self) -> TangentWcs | HeaderWcs:
        """The projection in pixels of the tract."""
        if "wcs/exact" in self._reader and not self._value("wcs/exact"):
            return self._reader.projection(self.tract, self.patch)
        (ra, dec), (x, y) = self._value("wcs/crval").tolist(), self._value("wcs/crpix").tolist()
        (a, b), (c, d) = self._value("wcs/cd").tolist()
        first_x, first_y = self._first_xy
        return TangentWcs(crval=(ra, dec), crpix=(x - 1.0 + first_x, y - 1.0 + first_y), cd=((a, b), (c, d)))

    def _wcs_of_cards(self) -> astropy.wcs.WCS:
        """The projection of the images by their own header cards."""
        import astropy.io.fits
        import astropy.wcs

        header = astropy.io.fits.Header.fromstring(self._reader.wcs_cards(self.tract, self.patch), sep="\n")
        # From the pixels of the tract to those of the cutout.
        for axis, first in zip((1, 2), self._first_xy, strict=True):
            header[f"CRPIX{axis}"] -= first
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", astropy.wcs.FITSFixedWarning)
            wcs = astropy.wcs.WCS(header)
        wcs.pixel_shape = (self.size, self.size)
        return wcs

    @property
    def carried(self) -> dict[str, Any]:
        """The catalog columns that were carried along; `None` for a null."""
        values = {}
        for name in self._reader.names("carried"):
            null = bool(self._value(f"carried_null/{name}"))
            values[name] = None if null else self._value(f"carried/{name}").item()
        return values

    @property
    def mask_planes(self) -> tuple[MaskPlane, ...]:
        """The planes of the mask, with bits and meaning."""
        return self._reader.mask_planes

    def image(self, band: str) -> np.ndarray:
        """Read the image.

        Parameters
        ----------
        band
            Name of the band.

        Returns
        -------
        pixels
            Shape ``(size, size)``, float32, nJy (but see `unit`); NaN where
            there is no data.
        """
        return self._plane("flux", "image", band)

    def variance(self, band: str) -> np.ndarray:
        """Read the variance.

        Parameters
        ----------
        band
            Name of the band.

        Returns
        -------
        pixels
            Shape ``(size, size)``, float32, nJy squared, without covariance;
            NaN where there is no data.
        """
        return self._plane("variance", "variance", band)

    def mask(self, band: str) -> np.ndarray:
        """Read the mask.

        Parameters
        ----------
        band
            Name of the band.

        Returns
        -------
        pixels
            Shape ``(size, size)``, integers whose bits `mask_planes` explains.
        """
        return self._plane("mask", "mask", band)

    def mask_plane(self, name: str, band: str) -> np.ndarray:
        """Read one plane of the mask.

        Parameters
        ----------
        name
            Name of the plane; old and new names mean the same (``SAT`` and
            ``SATURATED``, ...).
        band
            Name of the band.

        Returns
        -------
        pixels
            Shape ``(size, size)``, bool.

        Raises
        ------
        UserError
            Raised if the product has no such plane or band.
        """
        bits = {plane.name: plane.bit for plane in self.mask_planes}
        known = name if name in bits else _OTHER_NAMES.get(name, name)
        mask = self.mask(band)
        if known not in bits:
            others = [_OTHER_NAMES[plane] for plane in bits if plane in _OTHER_NAMES]
            hint = did_you_mean(name, [*bits, *others])
            raise UserError(f"The masks have no plane {name}{hint}; the planes are {', '.join(bits)}.")
        return np.asarray((mask >> bits[known]) & 1 != 0)

    def background(self, band: str) -> str:
        """Tell which background model is subtracted from the image.

        Parameters
        ----------
        band
            Name of the band.

        Returns
        -------
        name
            Name of the model, ``none`` if none of the image's models is, or
            empty text if the image has no models to tell.
        """
        return self._of_patch("background", band)

    def unit(self, band: str) -> str:
        """Tell the unit of the image.

        Parameters
        ----------
        band
            Name of the band.

        Returns
        -------
        unit
            Such as nJy, or the unit of the input image where no zero point is
            known (``unknown`` where it does not say any); empty text where
            there is no image, but nJy in files of version 1. The variance has
            its square.
        """
        if "provenance/unit" in self._reader:
            return self._of_patch("unit", band)
        # Files of the first version have no other.
        self._band(band)
        return "nJy"

    def _of_patch(self, name: str, band: str) -> str:
        """Read what the provenance says of the patch and a band."""
        number, reader = self._band(band), self._reader
        here = reader.read("provenance/tract") == self.tract
        here &= reader.read("provenance/patch") == self.patch
        texts = reader.read(f"provenance/{name}")[here, number].tolist()
        return str(texts[0]) if texts else ""

    @property
    def mask_fraction_names(self) -> tuple[str, ...]:
        """Names of the mask fractions; none if the product has none."""
        if "meta/mask_fractions" not in self._reader:
            return ()
        return tuple(self._reader.read("meta/mask_fractions").tolist())

    def noise(self, band: str) -> np.ndarray:
        """Read the noise realizations.

        Parameters
        ----------
        band
            Name of the band.

        Returns
        -------
        pixels
            Shape ``(n, size, size)``, float32, nJy; NaN where there is no
            data, and in a realization that the band's image does not have.
        """
        return self._plane("noise", "noise", band)

    def mask_fraction(self, band: str, name: str | None = None) -> np.ndarray:
        """Read what part of the inputs had a mask plane.

        Parameters
        ----------
        band
            Name of the band.
        name
            One of `mask_fraction_names`, in any case; all of them if `None`.

        Returns
        -------
        pixels
            Shape ``(n, size, size)``, or ``(size, size)`` of one name,
            float32, from 0 to 1; NaN where that is not known.

        Raises
        ------
        UserError
            Raised if the product has no such mask fraction or band.
        """
        pixels = self._plane("mask_fraction", "mask_fraction", band)
        if name is None:
            return pixels
        names = [known.casefold() for known in self.mask_fraction_names]
        if name.casefold() not in names:
            known = ", ".join(self.mask_fraction_names)
            hint = did_you_mean(name, self.mask_fraction_names)
            raise UserError(f"There is no mask fraction {name!r}{hint}: there are {known}.")
        return np.asarray(pixels[names.index(name.casefold())])

    def psf(self, band: str, at: str = "cell") -> np.ndarray:
        """Read the PSF of the target's cell.

        Parameters
        ----------
        band
            Name of the band.
        at
            ``cell`` for the kernel as it is stored, of a star in the middle
            of a pixel; ``target`` for that of a star at `target_xy`, shifted
            there by Lanczos-5 (see `~lsst.dax.bulkcutout.psf_shift`).

        Returns
        -------
        kernel
            Shape ``(ky, kx)``, float32; NaN where the cell has none.  Its
            element ``[ky // 2, kx // 2]`` belongs on the pixel that is nearest
            to the target, ``floor(xy + 0.5)``; both have the same sum.

        Raises
        ------
        UserError
            Raised if the product has no PSF or no such band, or ``at`` is
            something else.
        """
        if at not in _PSF_PLACES:
            hint = did_you_mean(at, _PSF_PLACES)
            raise UserError(f"There is no PSF at {at!r}{hint}: at is {' or '.join(_PSF_PLACES)}.")
        kernel = self._plane("psf", "psf", band)
        if at == "cell":
            return kernel
        (_, dx), (_, dy) = (pixel_and_rest(place) for place in self.target_xy)
        return shift_kernel(kernel, dy=dy, dx=dx).astype(np.float32)

    def valid_fraction(self, band: str) -> float:
        """Tell how much of the cutout has data.

        Parameters
        ----------
        band
            Name of the band.

        Returns
        -------
        fraction
            Fraction of the pixels that are finite and not NO_DATA.
        """
        return float(self._value("images/valid_fraction", self._band(band)))

    def n_patches(self, band: str) -> int:
        """Tell how many patches gave pixels.

        Parameters
        ----------
        band
            Name of the band.

        Returns
        -------
        n_patches
            0 where there is no image; above 1 where a cutout that leaves the
            image of its patch was completed from neighbours.
        """
        if "images/n_patches" in self._reader:
            return int(self._value("images/n_patches", self._band(band)))
        # Files of the first version: no cutout was ever completed.
        return int(self.valid_fraction(band) > 0)

    def flux_step(self, band: str) -> float:
        """Tell how image and noise were rounded.

        Parameters
        ----------
        band
            Name of the band.

        Returns
        -------
        step
            Pixels are the nearest multiples of it; 0 where they are exact.
        """
        return self._step("flux", band)

    def variance_step(self, band: str) -> float:
        """Tell how the variance was rounded.

        Parameters
        ----------
        band
            Name of the band.

        Returns
        -------
        step
            Relative: a variance is off by at most half of this part of it; 0
            where it is exact.
        """
        return self._step("variance", band)

    def stitched(self, band: str) -> bool:
        """Tell whether pixels are from images of other patches.

        Parameters
        ----------
        band
            Name of the band.

        Returns
        -------
        stitched
            Whether any pixel is not from the target's own patch.
        """
        number = self._band(band)
        return "images/stitched" in self._reader and bool(self._value("images/stitched", number))

    @property
    def _reader(self) -> HDF5Reader:
        return self._files.reader(self._file)

    def _value(self, path: str, *index: int) -> np.ndarray:
        return self._reader.read(path, (self._index, *index))

    def _step(self, name: str, band: str) -> float:
        path = f"images/{name}_step"
        number = self._band(band)
        return float(self._value(path, number)) if path in self._reader else 0.0

    def _band(self, band: str) -> int:
        if band not in self.bands:
            hint = did_you_mean(band, self.bands)
            raise UserError(f"There is no band {band!r}{hint}: the bands are {', '.join(self.bands)}.")
        return self.bands.index(band)

    def _plane(self, dataset: str, name: str, band: str) -> np.ndarray:
        number = self._band(band)
        path = f"images/{dataset}"
        if path not in self._reader:
            present = self._reader.names("images")
            if not any(plane in present for plane in ("flux", "variance", "mask", "psf")):
                raise CorruptInputError(f"{self._reader.path} is damaged: it has no pixels at all.")
            missing = ", or its images have none" if name in ("psf", *EXTRA_PLANES) else ""
            raise UserError(f"The product has no {name}: its request did not ask for it{missing}.")
        return self._value(path, number)
