# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Mask planes by name: tables of planes, and re-encoding between them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from .tables import MaskPlane

__all__ = ("NO_DATA", "is_same_encoding", "mask_dtype", "merge_mask_planes", "reencode_mask")

NO_DATA = "NO_DATA"
"""Name of the plane that marks pixels outside all coverage."""

ALIASES = {
    "SAT": "SATURATED",
    "INTRP": "INTERPOLATED",
    "CR": "COSMIC_RAY",
    "EDGE": "DETECTION_EDGE",
    "UNMASKEDNAN": "UNMASKED_NAN",
}
"""Older names of planes (afw) and the present ones (lsst.images)."""


def merge_mask_planes(plane_tables: Iterable[Sequence[MaskPlane]]) -> tuple[MaskPlane, ...]:
    """Make one table of planes from several.

    Parameters
    ----------
    plane_tables
        Tables of files or cutout datasets, in an order that does not depend
        on circumstance.

    Returns
    -------
    planes
        The first table with its bits as they are, if it says all there is to
        say; otherwise every plane that any table has, the first table's at
        their bits and the others at the lowest free ones in order of name.
        ``NO_DATA`` is among them always.
    """
    merged: dict[str, MaskPlane] = {}
    later: dict[str, MaskPlane] = {}
    for number, planes in enumerate(plane_tables):
        for plane in planes:
            if number == 0:
                merged[plane.name] = plane
            elif plane.name not in merged:
                later.setdefault(plane.name, plane)
    if NO_DATA not in merged:
        later.setdefault(NO_DATA, MaskPlane(name=NO_DATA, bit=0, description="No data."))
    taken = {plane.bit for plane in merged.values()}
    for name in sorted(later):
        bit = next(bit for bit in range(64) if bit not in taken)
        taken.add(bit)
        merged[name] = MaskPlane(name=name, bit=bit, description=later[name].description)
    return tuple(sorted(merged.values(), key=lambda plane: plane.bit))


def mask_dtype(planes: Sequence[MaskPlane]) -> np.dtype:
    """Integer type that holds all planes.

    Parameters
    ----------
    planes
        Table of planes.

    Returns
    -------
    dtype
        The type: int32, or int64 where a bit is above 30.
    """
    return np.dtype(np.int64 if max(plane.bit for plane in planes) > 30 else np.int32)


def is_same_encoding(old: Sequence[MaskPlane], new: Sequence[MaskPlane]) -> bool:
    """Tell whether a mask can stay as it is.

    Parameters
    ----------
    old
        Table of the mask.
    new
        Table that holds every plane of ``old`` by name.

    Returns
    -------
    same
        Whether no bit moves, and the integers are of the same type.
    """
    bits = {plane.name: plane.bit for plane in new}
    return mask_dtype(old) == mask_dtype(new) and all(bits[plane.name] == plane.bit for plane in old)


def reencode_mask(mask: np.ndarray, old: Sequence[MaskPlane], new: Sequence[MaskPlane]) -> np.ndarray:
    """Move the bits of a mask to the places that another table gives them.

    Parameters
    ----------
    mask
        Bits as ``old`` has them, any shape.
    old
        Table of ``mask``.
    new
        Table that holds every plane of ``old`` by name.

    Returns
    -------
    mask
        The same planes with the bits of ``new``; the same array where no
        bit moves.
    """
    from .kernels.gather import move_bits

    bits = {plane.name: plane.bit for plane in new}
    dtype = mask_dtype(new)
    if all(bits[plane.name] == plane.bit for plane in old):
        return mask.astype(dtype, copy=False)
    places = np.zeros(64, dtype=np.uint64)
    for plane in old:
        places[plane.bit] = 1 << bits[plane.name]
    result = np.empty(mask.shape, dtype=dtype)
    move_bits(mask.reshape(-1), places, result.reshape(-1))
    return result
