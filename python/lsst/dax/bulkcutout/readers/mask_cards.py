# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""The cards that name the bits of a mask (MSKNnnnn, MSKMnnnn, MSKDnnnn)."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import UserError
from ..tables import MaskPlane
from .fits_extension import Extension

__all__ = ("BITS_PER_MASK_HDU", "read_mask_planes")

BITS_PER_MASK_HDU = 31
"""lsst.images fills the integers of a mask HDU up to here and then begins
another HDU; the sign bit stays free."""


def read_mask_planes(extensions: Sequence[Extension]) -> tuple[MaskPlane, ...]:
    """Planes of a mask.

    Parameters
    ----------
    extensions
        The HDUs of the mask. Bits of the second are counted from
        `BITS_PER_MASK_HDU`.

    Returns
    -------
    planes
        In the order of the headers.
    """
    file = extensions[0].header.file
    if len(extensions) * BITS_PER_MASK_HDU > 63:
        raise UserError(f"{file.path}: it has more mask planes than the 62 that can be read.")
    planes = [
        plane
        for number, extension in enumerate(extensions)
        for plane in _planes(extension, first_bit=number * BITS_PER_MASK_HDU)
    ]
    names = [plane.name for plane in planes]
    if len(set(names)) != len(names) or len({plane.bit for plane in planes}) != len(names):
        raise file.corrupt(f"its mask planes {names} share a name or a bit")
    return tuple(planes)


def _planes(extension: Extension, *, first_bit: int) -> list[MaskPlane]:
    header, planes = extension.header, []
    for key in header.values:
        if not (key.startswith("MSKN") and key[4:].isdecimal()):
            continue
        value = header.integer(f"MSKM{key[4:]}", minimum=1)
        bit = value.bit_length() - 1
        if value != 1 << bit or bit >= BITS_PER_MASK_HDU:
            raise header.file.corrupt(f"the mask plane {key} of {extension.name} has the value {value}")
        description = header.text(f"MSKD{key[4:]}", "")
        planes.append(MaskPlane(name=header.text(key), bit=first_bit + bit, description=description))
    return planes
