# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Frames of positions: their names in requests and files, and the way to
ICRS.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from typing import Any

import astropy.coordinates
import astropy.units
import numpy as np

from ..errors import UserError
from ..frame_names import FRAMES, sky_frame

__all__ = ("ICRS", "Frame", "frame_of_coosys", "frame_of_radesys", "known_frame")

_COOSYS = {
    "icrs": "icrs",
    "eq_fk5": "fk5",
    "fk5": "fk5",
    "eq_fk4": "fk4",
    "fk4": "fk4",
    "galactic": "galactic",
    "supergalactic": "supergalactic",
    "super_galactic": "supergalactic",
    "ecl_fk5": "ecliptic",
    "ecliptic": "ecliptic",
}
"""COOSYS/@system, of VOTable 1.1 to 1.5, in lower case."""

_RADESYS = {"ICRS": "icrs", "FK5": "fk5", "FK4": "fk4", "FK4-NO-E": "fk4-no-e"}


@dataclasses.dataclass(frozen=True)
class Frame:
    """A frame that positions can be given in."""

    name: str
    """One of `FRAMES`."""

    equinox: str = ""
    """Such as ``J2000``; empty for the usual one of the frame."""

    def __str__(self) -> str:
        return f"{self.name} {self.equinox}".strip()

    @property
    def is_equatorial(self) -> bool:
        """Whether longitude is right ascension."""
        return self.name in ("icrs", "fk5", "fk4", "fk4-no-e")

    def to_icrs(self, lon: np.ndarray, lat: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Convert positions.

        Parameters
        ----------
        lon, lat
            Finite positions in this frame, in degrees.

        Returns
        -------
        ra, dec
            The same in ICRS degrees, ``ra`` from 0 to 360.
        """
        if self.name == "icrs":
            return lon, lat
        degrees = astropy.units.deg
        given = astropy.coordinates.UnitSphericalRepresentation(lon * degrees, lat * degrees)
        found = self._astropy.realize_frame(given).transform_to(astropy.coordinates.ICRS())
        return found.ra.deg, found.dec.deg

    @functools.cached_property
    def _astropy(self) -> Any:
        known = astropy.coordinates
        keywords = {"equinox": self.equinox} if self.equinox else {}
        return {
            "fk5": known.FK5,
            "fk4": known.FK4,
            "fk4-no-e": known.FK4NoETerms,
            "galactic": known.Galactic,
            "supergalactic": known.Supergalactic,
            "ecliptic": known.BarycentricMeanEcliptic,
        }[self.name](**keywords)


ICRS = Frame("icrs")


def known_frame(text: str, *, where: str) -> Frame:
    """Find a frame by its name.

    Parameters
    ----------
    text
        Name and perhaps equinox.
    where
        Who says so, for the message.

    Returns
    -------
    frame
        The frame.

    Raises
    ------
    UserError
        Raised for a frame that is not known.
    """
    try:
        name, _, equinox = sky_frame(text).partition(" ")
    except ValueError:
        raise UserError(
            f"{where} states the frame {text!r}, which is not known here. Say in catalog.frame which of "
            f"{', '.join(FRAMES)} its positions are in, or convert them to ICRS."
        ) from None
    return Frame(name, equinox)


def frame_of_radesys(radesys: Any, equinox: Any) -> str:
    """Read the frame that a FITS header states.

    Parameters
    ----------
    radesys, equinox
        Values of the cards RADESYS and EQUINOX, `None` where there are none.

    Returns
    -------
    frame
        Text for `known_frame`; empty if none is stated.
    """
    year = float(equinox) if isinstance(equinox, int | float) and np.isfinite(equinox) else None
    if not isinstance(radesys, str) or not radesys.strip():
        if year is None:
            return ""
        # What the standard says about a file without RADESYS.
        radesys = "FK4" if year < 1984 else "FK5"
    stated = str(radesys).strip()
    name = _RADESYS.get(stated.upper(), stated.lower())
    if year is None or name not in ("fk5", "fk4", "fk4-no-e", "ecliptic"):
        return name
    return f"{name} {'B' if name.startswith('fk4') else 'J'}{year:g}"


def frame_of_coosys(system: str, equinox: str) -> str:
    """Read the frame that a COOSYS element of a VOTable states.

    Parameters
    ----------
    system, equinox
        Its attributes, empty where they are missing.

    Returns
    -------
    frame
        Text for `known_frame`; empty if none is stated.
    """
    name = _COOSYS.get(system.strip().lower(), system.strip().lower())
    if name not in ("fk5", "fk4", "ecliptic") or not (match := re.match(r"\s*([JB]?)(\d+\.?\d*)", equinox)):
        return name
    letter = match[1] or ("B" if name == "fk4" else "J")
    return f"{name} {letter}{float(match[2]):g}"
