# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Names of the frames that positions of a catalog may be in."""

from __future__ import annotations

import re
from typing import Any

from .errors import did_you_mean

__all__ = ("FRAMES", "WITH_EQUINOX", "sky_frame")

FRAMES = ("icrs", "fk5", "fk4", "fk4-no-e", "galactic", "supergalactic", "ecliptic")
"""What is known."""

WITH_EQUINOX = ("fk5", "fk4", "fk4-no-e", "ecliptic")
"""The frames that need an equinox; it is J2000, and B1950 for both fk4."""


def sky_frame(value: Any) -> str:
    """Check the name of a frame.

    Parameters
    ----------
    value
        What the user wrote: a name, perhaps with an equinox as in ``fk5
        J1975``.

    Returns
    -------
    checked
        The name in lower case, with one space before an equinox, if any.

    Raises
    ------
    ValueError
        Raised for a frame that is not known.
    """
    allowed = f"must be one of {', '.join(FRAMES)}"
    allowed += f"; {', '.join(WITH_EQUINOX)} may have an equinox, as in 'fk5 J1975'"
    name, *rest = value.split() if isinstance(value, str) and value.strip() else [""]
    if (name := name.lower()) not in FRAMES:
        hint = did_you_mean(name, FRAMES) if name else ""
        raise ValueError(f"{allowed}{hint}")
    if not rest:
        return name
    equinox = rest[0].upper()
    if len(rest) > 1 or name not in WITH_EQUINOX or not re.fullmatch(r"[JB]\d{4}(\.\d{1,6})?", equinox):
        raise ValueError(allowed)
    return f"{name} {equinox}"
