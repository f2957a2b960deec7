# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""The image, mask and variance HDUs of an afw Exposure."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from ..tables import MaskPlane
from .fits_extension import Extension
from .fits_header import FitsHeader
from .images_archive import schema_of
from .mask_cards import read_mask_planes

__all__ = ("AfwPlanes", "find_planes", "first_pixel_of", "mask_planes_of")

_NAMES = ("IMAGE", "MASK", "VARIANCE")
_MASK_CARD = "MP_"
_MOST_BITS = 31


@dataclasses.dataclass(frozen=True)
class AfwPlanes:
    """Where the planes of an Exposure are."""

    image: Extension
    """Pixels."""

    mask: Extension | None
    """Mask, if there is one."""

    variance: Extension | None
    """Variance, if there is one."""

    is_afw: bool
    """Whether something says that afw wrote these, or one who writes like
    it: services that cut, and lsst.images."""

    @property
    def all(self) -> tuple[Extension, ...]:
        """Those that there are."""
        return tuple(one for one in (self.image, self.mask, self.variance) if one is not None)


def find_planes(extensions: Sequence[Extension]) -> AfwPlanes | None:
    """Find the planes of an Exposure.

    Parameters
    ----------
    extensions
        All HDUs of a file.

    Returns
    -------
    planes
        By their names (EXTNAME), else by their types (EXTTYPE), else by their
        order; `None` if no HDU holds an image.
    """
    images = [one for one in extensions if _is_image(one.header)]
    for found in (_by_card(images, "EXTNAME"), _by_card(images, "EXTTYPE"), _by_order(images)):
        if "IMAGE" in found:
            break
    else:
        return None
    mask = found.get("MASK")
    archive = "AR_HDU" in extensions[0].header.values
    typed = bool(_by_card(images, "EXTTYPE"))
    named_bits = mask is not None and any(key.startswith(_MASK_CARD) for key in mask.header.values)
    origin = found["IMAGE"].header.values.get("CUNIT1A") == "PIXEL"
    of_images = schema_of(extensions[0].header) is not None and bool(_by_card(images, "EXTNAME"))
    is_afw = archive or typed or named_bits or origin or of_images
    return AfwPlanes(found["IMAGE"], mask, found.get("VARIANCE"), is_afw)


def first_pixel_of(header: FitsHeader) -> tuple[int, int] | None:
    """Absolute position of the first pixel, as afw states it.

    Parameters
    ----------
    header
        Header of a plane.

    Returns
    -------
    first
        Row and column ``(y0, x0)``: from the LTV cards, else from the WCS
        named "A"; `None` where neither is there.
    """
    if "LTV1" in header.values and "LTV2" in header.values:
        return (-round(header.number("LTV2")), -round(header.number("LTV1")))
    if str(header.values.get("CTYPE1A")).strip() != "LINEAR":
        return None
    y, x = (header.number(f"CRVAL{axis}A") - (header.number(f"CRPIX{axis}A", 1.0) - 1.0) for axis in (2, 1))
    return (round(y), round(x))


def mask_planes_of(mask: Extension, primary: FitsHeader) -> tuple[MaskPlane, ...]:
    """Names of the mask's bits, which differ from file to file.

    Parameters
    ----------
    mask
        HDU of the mask.
    primary
        Primary header, where they are in some old files.

    Returns
    -------
    planes
        In the order of the bits; none if the file does not name them.
    """
    file = mask.header.file
    if any(key.startswith("MSKN") for key in mask.header.values):
        return read_mask_planes([mask])
    planes: list[MaskPlane] = []
    for header in (mask.header, primary):
        for key in header.values:
            if key.startswith(_MASK_CARD) and len(key) > len(_MASK_CARD):
                bit = header.integer(key, minimum=0)
                if bit >= _MOST_BITS:
                    raise file.corrupt(f"the mask plane {key} has bit {bit}, allowed are 0 to 30")
                planes.append(MaskPlane(name=key.removeprefix(_MASK_CARD), bit=bit, description=""))
        if planes:
            break
    if len({plane.bit for plane in planes}) != len(planes):
        raise file.corrupt(f"its mask planes {[plane.name for plane in planes]} share a bit")
    return tuple(sorted(planes, key=lambda plane: plane.bit))


def _is_image(header: FitsHeader) -> bool:
    prefix = "Z" if header.values.get("ZIMAGE") is True else ""
    if not prefix and header.values.get("XTENSION", "IMAGE") not in ("IMAGE", "IMAGE   "):
        return False
    n_axes = header.values.get(f"{prefix}NAXIS")
    return isinstance(n_axes, int) and n_axes >= 2 and header.values.get(f"{prefix}NAXIS1") != 0


def _by_card(images: Sequence[Extension], key: str) -> Mapping[str, Extension]:
    found: dict[str, Extension] = {}
    for one in images:
        name = str(one.header.values.get(key, "")).strip().upper()
        if name in _NAMES and one.header.values.get("EXTVER", 1) == 1:
            found.setdefault(name, one)
    return found


def _by_order(images: Sequence[Extension]) -> Mapping[str, Extension]:
    """Image, mask, variance; the mask is the one of integers."""
    found: dict[str, Extension] = {}
    for one in images[:3]:
        prefix = "Z" if one.header.values.get("ZIMAGE") is True else ""
        bitpix = one.header.values.get(f"{prefix}BITPIX")
        name = "IMAGE" if not found else "MASK" if isinstance(bitpix, int) and bitpix > 0 else "VARIANCE"
        found.setdefault(name, one)
    return found
