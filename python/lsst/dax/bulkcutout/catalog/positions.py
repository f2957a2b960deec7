# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Positions of rows: as the catalog has them, and as ICRS at the epoch of the
images.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pyarrow as pa

from .angles import Angle, AngleColumn
from .files import Chunk
from .frames import ICRS, Frame
from .motion import Motion

__all__ = ("Places", "Positions")


@dataclasses.dataclass
class Positions:
    """Where the positions of a catalog are, and how they become ICRS."""

    path: Path
    """The catalog, for messages."""

    lon: AngleColumn
    """Right ascension, or the longitude of another frame."""

    lat: AngleColumn
    """Declination, or the latitude of another frame."""

    frame: Frame
    """The frame of both."""

    motion: Motion | None
    """What moves them, or tells how far they would move; `None` without
    proper motions."""

    n_sexagesimal: int = dataclasses.field(default=0, init=False)
    """How many angles of this reading were sexagesimal."""

    @property
    def names(self) -> list[str]:
        """The columns that are read for it."""
        return [self.lon.name, self.lat.name, *(self.motion.names if self.motion else ())]

    def restart(self) -> None:
        """Forget what was counted: the catalog is read from the start."""
        self.n_sexagesimal = 0
        if self.motion is not None:
            self.motion.restart()

    def read(self, chunk: Chunk) -> Places:
        """Work out the positions of some rows.

        Parameters
        ----------
        chunk
            Rows of the file.

        Returns
        -------
        places
            Their positions.
        """
        lon, lat = self.lon.read(chunk.columns[self.lon.name]), self.lat.read(chunk.columns[self.lat.name])
        self.n_sexagesimal += lon.n_sexagesimal + lat.n_sexagesimal
        good = np.flatnonzero(~(lon.is_bad | lat.is_bad))
        at = lon.degrees[good], lat.degrees[good]
        if self.motion is not None:
            at = self.motion.move(chunk, good, *at)
        ra, dec = self.frame.to_icrs(*at)
        ra = np.where(ra < 0, ra + 360.0, ra)
        # Also what was so little below 0 that the sum is 360.
        ra = np.where(ra >= 360.0, ra - 360.0, ra)
        nowhere = np.full(chunk.n_rows, np.nan)
        # A bad position is shown as it is, unless it is one of another frame.
        all_ra, all_dec = (
            (lon.degrees.copy(), lat.degrees.copy()) if self.frame == ICRS else (nowhere, nowhere.copy())
        )
        all_ra[good], all_dec[good] = ra, dec
        return Places(
            lon,
            lat,
            pa.array(all_ra, mask=~np.isfinite(all_ra)),
            pa.array(all_dec, mask=~np.isfinite(all_dec)),
        )

    def warnings(self) -> list[str]:
        """Tell what the user should know of this reading.

        Returns
        -------
        warnings
            Sentences.
        """
        found = [] if self.motion is None else self.motion.warnings(self.path)
        if self.n_sexagesimal:
            is_hours = self.lon.unit.sexagesimal == "h"
            found.append(
                f"Catalog {self.path}: {self.n_sexagesimal} angles in columns {self.lon.name} and "
                f"{self.lat.name} are sexagesimal; {self.lon.name} is taken for "
                f"{'hours' if is_hours else 'degrees'}, minutes and seconds, and {self.lat.name} for degrees."
            )
        return found


@dataclasses.dataclass(frozen=True)
class Places:
    """Positions of some rows."""

    lon: Angle
    """Longitude as the catalog has it."""

    lat: Angle
    """Latitude as the catalog has it."""

    ra: pa.Array
    """ICRS right ascension in degrees, 0 to 360 where it is good; null where
    there is no number."""

    dec: pa.Array
    """ICRS declination in degrees; null where there is no number."""

    @property
    def is_bad(self) -> np.ndarray:
        """Which rows have no good position."""
        is_bad: np.ndarray = self.lon.is_bad | self.lat.is_bad
        return is_bad

    def problems(self, indices: np.ndarray, *, start: int) -> list[str]:
        """Say what is wrong with some rows.

        Parameters
        ----------
        indices
            Which rows.
        start
            Number of the first row of the chunk.

        Returns
        -------
        sentences
            As many.
        """
        both = zip(
            self.lon.problems(indices, start=start), self.lat.problems(indices, start=start), strict=True
        )
        return [" ".join(filter(None, sentences)) for sentences in both]
