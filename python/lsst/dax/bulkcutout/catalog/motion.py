# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Proper motions: positions at the epoch of the images."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from .files import Chunk
from .text import numbers_from

__all__ = ("PIXEL_ARCSEC", "Motion", "move")

PIXEL_ARCSEC = 0.2
"""Width of a pixel of Rubin's maps."""

FASTEST_ARCSEC = 15.0
"""No known star moves so far in a year."""

_EPOCHS = (1500.0, 2500.0)
_ARCSEC = np.pi / 180 / 3600


@dataclasses.dataclass
class Motion:
    """Proper motions of a catalog, and from when to when they move it."""

    lon: str
    """Column of the motion in longitude, times the cosine of the latitude."""

    lat: str
    """Column of the motion in latitude."""

    lon_arcsec: float
    """What one of its unit is in arcsec a year."""

    lat_arcsec: float
    """What one of its unit is in arcsec a year."""

    epoch: float | str
    """Julian year of the positions, or the column that has it."""

    epoch_is_assumed: bool
    """Whether nobody has stated that epoch."""

    image_epoch: float
    """Julian year of the images."""

    image_epoch_is_assumed: bool
    """Whether nobody has stated that epoch."""

    moves: bool
    """Whether positions are moved; if not, it is only counted how many would
    move by more than `PIXEL_ARCSEC`."""

    n_rows: int = dataclasses.field(default=0, init=False)
    """Rows with a good position that were seen."""

    n_without: int = dataclasses.field(default=0, init=False)
    """Those without proper motion or epoch."""

    n_far: int = dataclasses.field(default=0, init=False)
    """Those that move by more than `PIXEL_ARCSEC`."""

    n_fast: int = dataclasses.field(default=0, init=False)
    """Those that move by more than `FASTEST_ARCSEC` a year."""

    @property
    def names(self) -> list[str]:
        """The columns that are read for it."""
        return [self.lon, self.lat, *([self.epoch] if isinstance(self.epoch, str) else [])]

    def restart(self) -> None:
        """Forget what was counted."""
        self.n_rows = self.n_without = self.n_far = self.n_fast = 0

    def move(
        self, chunk: Chunk, good: np.ndarray, lon: np.ndarray, lat: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Move positions to the epoch of the images.

        Parameters
        ----------
        chunk
            Rows of the file.
        good
            Indices of those with a good position.
        lon, lat
            Positions of these, in degrees.

        Returns
        -------
        lon, lat
            The same where there is no proper motion, or where none is to be
            applied.
        """

        def column(name: str) -> np.ndarray:
            values: np.ndarray = numbers_from(chunk.columns[name]).to_numpy(zero_copy_only=False)[good]
            return values

        pm_lon, pm_lat = column(self.lon) * self.lon_arcsec, column(self.lat) * self.lat_arcsec
        epoch = column(self.epoch) if isinstance(self.epoch, str) else np.full(len(good), self.epoch)
        with np.errstate(invalid="ignore"):
            is_known = np.isfinite(pm_lon + pm_lat) & (epoch > _EPOCHS[0]) & (epoch < _EPOCHS[1])
        known = np.flatnonzero(is_known)
        years = self.image_epoch - epoch[known]
        pm_lon, pm_lat = pm_lon[known], pm_lat[known]
        speed = np.hypot(pm_lon, pm_lat)
        self.n_rows += len(good)
        self.n_without += len(good) - len(known)
        self.n_far += int(np.count_nonzero(speed * np.abs(years) > PIXEL_ARCSEC))
        self.n_fast += int(np.count_nonzero(speed > FASTEST_ARCSEC))
        if not self.moves:
            return lon, lat
        lon, lat = lon.copy(), lat.copy()
        lon[known], lat[known] = move(lon[known], lat[known], pm_lon, pm_lat, years)
        return lon, lat

    def warnings(self, path: Path) -> list[str]:
        """Tell what was counted.

        Parameters
        ----------
        path
            The catalog.

        Returns
        -------
        warnings
            Sentences.
        """
        since = f"column {self.epoch}" if isinstance(self.epoch, str) else f"J{self.epoch:g}"
        since += " (assumed: the catalog states no epoch)" if self.epoch_is_assumed else ""
        until = f"J{self.image_epoch:g}"
        until += " (assumed: the request has no image_epoch)" if self.image_epoch_is_assumed else ""
        span = f"from {since} to {until}"
        motions = f"by columns {self.lon} and {self.lat}"
        found = []
        if self.moves:
            found.append(
                f"Catalog {path}: positions were moved {span} {motions}, {self.n_far} of {self.n_rows} by "
                f"more than {PIXEL_ARCSEC} arcsec."
            )
            if self.n_without:
                found.append(
                    f"Catalog {path}: {self.n_without} rows have no proper motion or no epoch; they stay "
                    "where they are."
                )
        elif self.n_far:
            found.append(
                f"Catalog {path}: {self.n_far} rows move {motions} by more than {PIXEL_ARCSEC} arcsec, a "
                f"pixel, {span}. They are cut where the catalog has them: catalog.epoch (the epoch of its "
                "positions) and image_epoch in the request move them."
            )
        if self.n_fast and (self.moves or self.n_far):
            found.append(
                f"Catalog {path}: {self.n_fast} rows move by more than {FASTEST_ARCSEC:g} arcsec a year "
                f"{motions}, as no star does. Is the unit right?"
            )
        return found


def move(
    lon: np.ndarray, lat: np.ndarray, pm_lon: np.ndarray, pm_lat: np.ndarray, years: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Move positions on straight lines in space.

    Without distances and radial velocities, which catalogs rarely have, stars
    move perpendicular to the first line of sight.

    Parameters
    ----------
    lon, lat
        Positions in degrees.
    pm_lon, pm_lat
        Motions in arcsec a year, the first times the cosine of ``lat``.
    years
        How long.

    Returns
    -------
    lon, lat
        Positions in degrees, ``lon`` from 0 to 360.
    """
    lon, lat = np.radians(lon), np.radians(lat)
    east, north = pm_lon * years * _ARCSEC, pm_lat * years * _ARCSEC
    # On axes towards longitude 0, 90 deg, and the pole.
    outwards = np.cos(lat) - north * np.sin(lat)
    x = outwards * np.cos(lon) - east * np.sin(lon)
    y = outwards * np.sin(lon) + east * np.cos(lon)
    z = np.sin(lat) + north * np.cos(lat)
    return np.degrees(np.arctan2(y, x)) % 360.0, np.degrees(np.arctan2(z, np.hypot(x, y)))
