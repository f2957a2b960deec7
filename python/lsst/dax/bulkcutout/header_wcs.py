# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Projections beyond the plain tangent plane, as header cards describe them:
any projection of the FITS standard, distortions (SIP, TPV), other frames.

The arithmetic is that of astropy and wcslib.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import math
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np

from .sphere import unit_vectors
from .wcs import TangentTerms

__all__ = ("HeaderWcs",)

_TOLERANCE_PIXELS = 1e-8
"""How far the iteration that undoes distortions goes."""

_BACK_TOLERANCE = 1e-3
"""Part of a pixel by which a position may differ from itself, there and back:
a polynomial that is followed far beyond the image has several inverses, or
none."""

_STEP_PIXELS = 2.0
"""Half the distance over which the linear terms are measured."""


@dataclasses.dataclass(frozen=True)
class HeaderWcs:
    """A projection that header cards describe.

    Two are equal if their cards are.

    Notes
    -----
    The celestial frame of the cards may be any that astropy knows, or
    ecliptic; positions that come in and go out are ICRS.
    """

    cards: str
    """The cards, a line each, in absolute pixels: ``CRPIX - 1`` is the
    zero-based absolute pixel of the reference point."""

    @functools.cached_property
    def pixel_scale_arcsec(self) -> float:
        """Side of the square that has the area of the reference pixel,
        arcsec.
        """
        x, y = (np.array([self._wcs.wcs.crpix[axis] - 1.0]) for axis in (0, 1))
        terms = self._terms_at(*self.pixel_to_sky(x, y), x, y)
        return math.sqrt(abs(float(np.linalg.det(terms.cd[0])))) * 3600.0

    def sky_to_pixel(self, ra: Any, dec: Any) -> tuple[np.ndarray, np.ndarray]:
        """Pixel positions of points on the sky.

        Parameters
        ----------
        ra, dec
            ICRS degrees, of any one shape.

        Returns
        -------
        x, y
            Zero-based pixels, float64, of the same shape; NaN for points that
            the projection does not reach, or for which the inverse of a
            distortion is not found.
        """
        ra, dec = np.broadcast_arrays(np.asarray(ra, dtype=np.float64), np.asarray(dec, dtype=np.float64))
        pixels = np.full((ra.size, 2), np.nan)
        good = np.isfinite(ra.ravel()) & (np.abs(dec.ravel()) <= 90.0)
        if good.any():
            sky = np.stack([ra.ravel()[good], dec.ravel()[good]], axis=1)
            pixels[good] = self._invert(self._from_icrs(sky))
        return pixels[:, 0].reshape(ra.shape), pixels[:, 1].reshape(ra.shape)

    def pixel_to_sky(self, x: Any, y: Any) -> tuple[np.ndarray, np.ndarray]:
        """Points on the sky of pixel positions.

        Parameters
        ----------
        x, y
            Zero-based pixels, of any one shape.

        Returns
        -------
        ra, dec
            ICRS degrees, float64, of the same shape; ``0 <= ra < 360``; NaN
            for pixels that are not on the sky.
        """
        x, y = np.broadcast_arrays(np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64))
        sky = self._to_icrs(self._project(np.stack([x.ravel(), y.ravel()], axis=1)))
        return sky[:, 0].reshape(x.shape) % 360.0, sky[:, 1].reshape(x.shape)

    def tangent_terms(self, ra: np.ndarray, dec: np.ndarray) -> TangentTerms:
        """The linear terms of the projection at targets.

        Parameters
        ----------
        ra, dec
            The targets, ICRS degrees, shape ``(n,)``.

        Returns
        -------
        terms
            For each target the plane that touches the sky there; NaN where
            the projection does not reach it.
        """
        x, y = self.sky_to_pixel(ra, dec)
        return self._terms_at(np.asarray(ra, dtype=np.float64), np.asarray(dec, dtype=np.float64), x, y)

    def _terms_at(self, ra: np.ndarray, dec: np.ndarray, x: np.ndarray, y: np.ndarray) -> TangentTerms:
        cd = np.empty((len(x), 2, 2))
        for axis, (dx, dy) in enumerate(((_STEP_PIXELS, 0.0), (0.0, _STEP_PIXELS))):
            ahead = _gnomonic(*self.pixel_to_sky(x + dx, y + dy), ra, dec)
            behind = _gnomonic(*self.pixel_to_sky(x - dx, y - dy), ra, dec)
            cd[:, :, axis] = (ahead - behind) / (2 * _STEP_PIXELS)
        return TangentTerms(np.stack([ra, dec], axis=1), np.stack([x, y], axis=1), cd)

    @functools.cached_property
    def _wcs(self) -> Any:
        # Imported here because it takes a second, and most images are plain
        # tangent planes.
        import astropy.io.fits
        import astropy.wcs

        with _quiet():
            header = astropy.io.fits.Header.fromstring(self.cards, sep="\n")
            wcs = astropy.wcs.WCS(header)
            wcs.wcs.set()
        return wcs

    @functools.cached_property
    def _frame(self) -> Any:
        import astropy.coordinates
        import astropy.wcs.utils

        wcs = self._wcs.wcs
        if wcs.lngtyp == "ELON":
            # Without a distance the barycentric ecliptic is a rotation.
            equinox = f"J{2000.0 if math.isnan(wcs.equinox) else wcs.equinox}"
            return astropy.coordinates.BarycentricMeanEcliptic(equinox=equinox)
        frame = astropy.wcs.utils.wcs_to_celestial_frame(self._wcs)
        if isinstance(frame, astropy.coordinates.ITRS):
            raise ValueError("terrestrial coordinates have no place on the sky")
        return frame

    def _to_icrs(self, world: np.ndarray) -> np.ndarray:
        return self._convert(world, into_icrs=True)

    def _from_icrs(self, sky: np.ndarray) -> np.ndarray:
        return self._convert(sky, into_icrs=False)

    def _convert(self, positions: np.ndarray, *, into_icrs: bool) -> np.ndarray:
        import astropy.coordinates

        icrs = astropy.coordinates.ICRS()
        if self._frame.name == icrs.name:
            return positions
        origin, goal = (self._frame, icrs) if into_icrs else (icrs, self._frame)
        out = np.full_like(positions, np.nan)
        good = np.isfinite(positions).all(axis=1)
        found = astropy.coordinates.SkyCoord(*positions[good].T, unit="deg", frame=origin).transform_to(goal)
        out[good] = np.stack([found.spherical.lon.deg, found.spherical.lat.deg], axis=1)
        return out

    def _project(self, pixels: np.ndarray) -> np.ndarray:
        """Longitude and latitude in the cards' own frame, shape (n, 2)."""
        world = np.full_like(pixels, np.nan)
        good = np.isfinite(pixels).all(axis=1)
        with _quiet():
            world[good] = self._wcs.all_pix2world(pixels[good], 0)
        return world[:, [self._wcs.wcs.lng, self._wcs.wcs.lat]]

    def _invert(self, own: np.ndarray) -> np.ndarray:
        """Pixels of positions in the cards' own frame, shape (n, 2)."""
        import astropy.wcs

        world = np.empty_like(own)
        world[:, [self._wcs.wcs.lng, self._wcs.wcs.lat]] = own
        with _quiet():
            pixels = np.asarray(self._wcs.wcs_world2pix(world, 0))
            if self._wcs.has_distortion:
                reached = np.isfinite(pixels).all(axis=1)
                try:
                    pixels[reached] = self._wcs.all_world2pix(
                        world[reached], 0, tolerance=_TOLERANCE_PIXELS, maxiter=100, adaptive=True
                    )
                except astropy.wcs.NoConvergence as error:
                    # What did not converge is found out below.
                    pixels[reached] = error.best_solution
            back = self._project(pixels)
            apart = np.degrees(np.linalg.norm(unit_vectors(*back.T) - unit_vectors(*own.T), axis=1))
        pixels[~(apart <= _BACK_TOLERANCE * self._step_deg)] = np.nan
        return pixels

    @functools.cached_property
    def _step_deg(self) -> float:
        """Side of a pixel by the linear terms of the cards, degrees."""
        return math.sqrt(abs(float(np.linalg.det(self._wcs.pixel_scale_matrix))))


def _gnomonic(ra: np.ndarray, dec: np.ndarray, ra0: np.ndarray, dec0: np.ndarray) -> np.ndarray:
    """Offsets on the plane that touches the sky at ``(ra0, dec0)``, degrees,
    shape ``(n, 2)``.
    """
    d_ra, dec, dec0 = np.radians(ra - ra0), np.radians(dec), np.radians(dec0)
    depth = np.sin(dec0) * np.sin(dec) + np.cos(dec0) * np.cos(dec) * np.cos(d_ra)
    xi = np.cos(dec) * np.sin(d_ra) / depth
    # The same as cos(dec0) sin(dec) - ..., without the loss of digits.
    eta = (np.sin(dec - dec0) + 2 * np.sin(dec0) * np.cos(dec) * np.sin(d_ra / 2) ** 2) / depth
    return np.asarray(np.degrees(np.stack([xi, eta], axis=1)))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Astropy tells of every card that it mends, image by image."""
    import astropy

    disabled = astropy.log.disabled
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        astropy.log.disabled = True
        try:
            yield
        finally:
            astropy.log.disabled = disabled
