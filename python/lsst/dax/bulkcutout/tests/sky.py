# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""A made-up sky: which stars and galaxies there are, the same for ever.

Sources belong to positions, not to tracts or images: whichever image looks
at a piece of sky sees the same ones.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from ..boxes import Box
from .layouts import Tract

__all__ = ("BANDS", "Sky", "Sources", "empty_sky", "point_sources", "star_flux")

BANDS = ("u", "g", "r", "i", "z", "y")
"""Order of the flux columns of `Sources`."""

_CELL_DEG = 0.02
"""Side of the pieces of sky that are populated at a time."""


@dataclasses.dataclass(frozen=True)
class Sources:
    """Stars and galaxies, one entry each in every array."""

    id: np.ndarray
    """Identifiers, int64."""

    ra: np.ndarray
    """Right ascension, ICRS degrees."""

    dec: np.ndarray
    """Declination, ICRS degrees."""

    is_star: np.ndarray
    """Whether the source is a point."""

    flux: np.ndarray
    """Total fluxes, nJy, shape ``(n, 6)`` in the order of `BANDS`."""

    bulge_fraction: np.ndarray
    """Part of the flux that is in the de Vaucouleurs bulge, ``(n, 6)``; the
    rest is an exponential disc."""

    radius_arcsec: np.ndarray
    """Half-light radius of the disc along its major axis; 0 for stars."""

    axis_ratio: np.ndarray
    """Minor over major axis."""

    position_angle_deg: np.ndarray
    """Direction of the major axis, east of north."""

    def __len__(self) -> int:
        return len(self.id)

    def __getitem__(self, index: Any) -> Sources:
        return Sources(*(getattr(self, field.name)[index] for field in dataclasses.fields(self)))

    @staticmethod
    def concatenate(parts: Sequence[Sources]) -> Sources:
        """Join several sets.

        Parameters
        ----------
        parts
            At least one set.

        Returns
        -------
        sources
            In the order of the parts.
        """
        fields = [field.name for field in dataclasses.fields(Sources)]
        return Sources(*(np.concatenate([getattr(part, name) for part in parts]) for name in fields))

    def to_arrow(self) -> pa.Table:
        """The truth as a table, with units.

        Returns
        -------
        table
            A column for each band, ``g_flux``, and the shapes.
        """
        columns: dict[str, tuple[Any, str, str]] = {
            "id": (self.id, "", "Identifier of the source."),
            "ra": (self.ra, "deg", "Right ascension, ICRS."),
            "dec": (self.dec, "deg", "Declination, ICRS."),
            "kind": (np.where(self.is_star, "star", "galaxy"), "", "Star or galaxy."),
            "radius_arcsec": (self.radius_arcsec, "arcsec", "Half-light radius of the disc, major axis."),
            "axis_ratio": (self.axis_ratio, "", "Minor over major axis."),
            "position_angle_deg": (self.position_angle_deg, "deg", "Major axis, east of north."),
        }
        for n, band in enumerate(BANDS):
            columns[f"{band}_flux"] = (self.flux[:, n], "nJy", f"Total flux in {band}.")
        arrays = [pa.array(values) for values, _, _ in columns.values()]
        fields = [
            pa.field(name, array.type, metadata={"unit": unit, "description": text})
            for array, (name, (_, unit, text)) in zip(arrays, columns.items(), strict=True)
        ]
        return pa.Table.from_arrays(arrays, schema=pa.schema(fields))


def point_sources(ra: Any, dec: Any, flux: Any, *, first_id: int = 1) -> Sources:
    """Stars at given places, for a test that wants few and known ones.

    Parameters
    ----------
    ra, dec
        ICRS degrees, shape ``(n,)``.
    flux
        One for all, one each, or ``(n, 6)``; nJy.
    first_id
        Identifier of the first.

    Returns
    -------
    sources
        The stars.
    """
    right_ascension = np.atleast_1d(np.asarray(ra, dtype=float))
    n = len(right_ascension)
    fluxes = np.asarray(flux, dtype=float)
    fluxes = np.broadcast_to(fluxes[:, np.newaxis] if fluxes.ndim == 1 else fluxes, (n, len(BANDS)))
    zeros = np.zeros(n)
    return Sources(
        id=np.arange(first_id, first_id + n, dtype=np.int64),
        ra=right_ascension,
        dec=np.atleast_1d(np.asarray(dec, dtype=float)),
        is_star=np.ones(n, dtype=bool),
        flux=fluxes.copy(),
        bulge_fraction=np.zeros((n, len(BANDS))),
        radius_arcsec=zeros,
        axis_ratio=zeros + 1.0,
        position_angle_deg=zeros,
    )


def star_flux(mag_i: np.ndarray, redness: np.ndarray) -> np.ndarray:
    """Fluxes of stars along the stellar locus.

    Parameters
    ----------
    mag_i
        Magnitudes in i, shape ``(n,)``.
    redness
        From 0 for the bluest to 1 for the reddest stars.

    Returns
    -------
    flux
        In nJy, shape ``(n, 6)`` in the order of `BANDS`.
    """
    t = redness
    return _flux(
        mag_i, 0.9 + 1.4 * t, 0.2 + 1.25 * t, 0.05 + 1.4 * t**3, 0.02 + 0.7 * t**3, 0.02 + 0.25 * t**3
    )


@dataclasses.dataclass(frozen=True)
class Sky:
    """What a test repository's images show."""

    seed: int = 1
    """Another seed, another sky."""

    stars_per_arcmin2: float = 8.0
    """Density of stars, i = 15 to 25.5."""

    galaxies_per_arcmin2: float = 60.0
    """Density of galaxies, i = 17.5 to 26."""

    extra: Sources | None = None
    """Further sources at places of the caller's choice."""

    noise_njy: tuple[float, ...] = (5.0, 4.0, 4.5, 6.0, 9.0, 18.0)
    """Noise of an empty pixel in each of `BANDS`; 0 for none."""

    seeing_arcsec: tuple[float, ...] = (0.95, 0.85, 0.76, 0.72, 0.69, 0.71)
    """Mean full width at half maximum of the PSF in each of `BANDS`."""

    seeing_scatter: float = 0.06
    """Relative scatter of the PSF's width from cell to cell."""

    source_noise_njy: float = 0.15
    """Variance per flux of the sources' own noise, nJy**2 / nJy."""

    saturation_njy: float = 20_000.0
    """Pixel value at which stars saturate."""

    offset_step_njy: float = 0.25
    """Images differ by multiples of this constant, so that overlapping
    patches can be told apart; see `SkyRepository.offset`."""

    missing_cell_fraction: float = 0.0
    """Chance that a cell of an image has no data."""

    blemishes: bool = True
    """Whether there are cosmic rays, satellite trails and input edges."""

    def sources(self, tract: Tract, box: Box, *, margin: int = 120) -> Sources:
        """Sources in and around a rectangle.

        Parameters
        ----------
        tract
            Tract that the pixels belong to.
        box
            Tract pixels.
        margin
            Distance in pixels up to which sources outside are wanted; further
            ones may be among them.

        Returns
        -------
        sources
            In an order that depends on the sky alone.
        """
        # Points closer together than a cell touch every cell but slivers.
        n = [
            2 + math.ceil(4 * (side + 2 * margin) * tract.pixel_scale_arcsec / 3600 / _CELL_DEG)
            for side in box.shape
        ]
        y, x = np.meshgrid(
            np.linspace(box.y0 - margin, box.y1 + margin, n[0]),
            np.linspace(box.x0 - margin, box.x1 + margin, n[1]),
            indexing="ij",
        )
        ra, dec = tract.pixel_to_sky(x, y)
        rows = np.clip(np.floor((dec + 90.0) / _CELL_DEG), 0, round(180 / _CELL_DEG) - 1).astype(int)
        columns = np.floor((ra % 360.0) / 360.0 * _cells_in_row(rows)).astype(int)
        cells = sorted(set(zip(rows.ravel().tolist(), columns.ravel().tolist(), strict=True)))
        parts = [part for cell in cells for part in self._populate(*cell)]
        if self.extra is not None:
            parts.append(self.extra)
        found = Sources.concatenate(parts) if parts else point_sources([], [], 0.0)
        x_pixel, y_pixel = tract.sky_to_pixel(found.ra, found.dec)
        near = (x_pixel > box.x0 - margin) & (x_pixel < box.x1 + margin)
        near &= (y_pixel > box.y0 - margin) & (y_pixel < box.y1 + margin)
        return found[near]

    def _populate(self, row: int, column: int) -> Iterator[Sources]:
        rng = np.random.default_rng([self.seed, row, column])
        n_columns = int(_cells_in_row(np.array(row)))
        width = 360.0 / n_columns
        low = math.sin(math.radians(row * _CELL_DEG - 90.0))
        high = math.sin(math.radians((row + 1) * _CELL_DEG - 90.0))
        area_arcmin2 = width * math.degrees(high - low) * 3600.0
        first_id = (row * 20_000 + column) * 1000
        for density, make in ((self.stars_per_arcmin2, _stars), (self.galaxies_per_arcmin2, _galaxies)):
            n = int(rng.poisson(density * area_arcmin2))
            if n:
                ra = (column + rng.random(n)) * width
                dec = np.degrees(np.arcsin(low + (high - low) * rng.random(n)))
                yield make(rng, np.arange(first_id, first_id + n), ra, dec)
            first_id += n


def empty_sky(extra: Sources | None = None) -> Sky:
    """A sky without noise or blemishes that has nothing but given sources.

    Parameters
    ----------
    extra
        The sources.

    Returns
    -------
    sky
        The sky.
    """
    return Sky(
        stars_per_arcmin2=0.0,
        galaxies_per_arcmin2=0.0,
        extra=extra,
        noise_njy=(0.0,) * len(BANDS),
        source_noise_njy=0.0,
        blemishes=False,
    )


def _cells_in_row(row: np.ndarray) -> np.ndarray:
    middle = np.radians((row + 0.5) * _CELL_DEG - 90.0)
    return np.ceil(360.0 * np.cos(middle) / _CELL_DEG)


def _magnitudes(rng: np.random.Generator, n: int, bright: float, faint: float, slope: float) -> np.ndarray:
    """Magnitudes whose counts rise as ``10 ** (slope * mag)``."""
    steepness = 10 ** (slope * (faint - bright)) - 1.0
    return bright + np.log10(1.0 + rng.random(n) * steepness) / slope


def _flux(mag_i: np.ndarray, u_g: Any, g_r: Any, r_i: Any, i_z: Any, z_y: Any) -> np.ndarray:
    r = mag_i + r_i
    g = r + g_r
    z = mag_i - i_z
    magnitudes = np.stack([g + u_g, g, r, mag_i, z, z - z_y], axis=1)
    return 10 ** ((31.4 - magnitudes) / 2.5)


def _stars(rng: np.random.Generator, number: np.ndarray, ra: np.ndarray, dec: np.ndarray) -> Sources:
    n = len(number)
    mag = _magnitudes(rng, n, 15.0, 25.5, 0.18)
    # From blue to red along the stellar locus; faint stars are mostly dwarfs.
    t = rng.random(n) ** np.where(mag > 20, 0.6, 1.3)
    flux = star_flux(mag, t)
    return dataclasses.replace(point_sources(ra, dec, flux), id=number.astype(np.int64))


def _galaxies(rng: np.random.Generator, number: np.ndarray, ra: np.ndarray, dec: np.ndarray) -> Sources:
    n = len(number)
    mag = _magnitudes(rng, n, 17.5, 26.0, 0.29)
    early = rng.random(n) < np.where(mag < 22, 0.35, 0.12)
    t = rng.random(n)
    g_r = np.where(early, 0.85 + 0.6 * t, 0.05 + 0.65 * t)
    r_i = np.where(early, 0.38 + 0.35 * t, -0.05 + 0.35 * t)
    flux = _flux(mag, 0.5 + g_r, g_r, r_i, 0.6 * r_i, 0.3 * r_i)
    # Bulges are red: their part of the light grows with wavelength.
    bulge = np.where(early, 0.75, 0.25 * rng.random(n) ** 2)
    growth = np.array([0.35, 0.55, 0.8, 1.0, 1.1, 1.15])
    radius = 0.55 * 10 ** (-0.12 * (mag - 22.0) + 0.13 * rng.standard_normal(n))
    return Sources(
        id=number.astype(np.int64),
        ra=ra,
        dec=dec,
        is_star=np.zeros(n, dtype=bool),
        flux=flux,
        bulge_fraction=np.minimum(np.where(early[:, None], 1.0, growth) * bulge[:, None], 0.9),
        radius_arcsec=radius,
        axis_ratio=np.where(early, 0.6 + 0.4 * rng.random(n), 0.15 + 0.85 * rng.random(n)),
        position_angle_deg=180.0 * rng.random(n),
    )
