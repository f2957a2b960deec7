# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""What belongs to a plain image and lies in files of its own: variance or
weight, mask, PSF.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Mapping

import numpy as np

from ..boxes import Box
from ..errors import UserError
from ..tables import MaskPlane
from ..wcs import Wcs
from .afw_planes import mask_planes_of
from .byte_source import Location
from .celestial import celestial_wcs, has_celestial_wcs
from .fits_extension import Extension, walk_extensions
from .fits_file import FitsFile
from .flux_units import NANOJANSKY, Flux, flux_unit
from .model_cells import ModelCells
from .pixel_plane import PixelPlane
from .psf_file import read_psf_file

__all__ = ("KINDS", "OTHER_CODE", "CompanionPlanes", "Companions", "describe_companions")

KINDS = ("variance", "weight", "mask", "psf")
"""What companions there can be."""

OTHER_CODE = "OTHER_CODE"
"""Plane of the pixels whose code has no name."""

_SAME_PLACE_PIXELS = 0.01


@dataclasses.dataclass(frozen=True)
class Companions:
    """The companions of one image."""

    paths: Mapping[str, Location]
    """Files by kind: variance or weight (the inverse of the variance), mask,
    psf."""

    mask_codes: Mapping[str, int] | None = None
    """Where a pixel of the mask is one code and not a set of bits: the code
    of each plane, by name."""


def describe_companions(
    uuids: Mapping[str, str], mask_codes: Mapping[str, int] | None
) -> dict[str, dict[str, object]]:
    """Describe the companions of an image, for those who read the product.

    Parameters
    ----------
    uuids
        Identifier of the dataset of each kind.
    mask_codes
        As in `Companions`.

    Returns
    -------
    described
        By kind, for JSON: ``uuid``, and ``codes`` of a mask that has them.
    """
    described: dict[str, dict[str, object]] = {kind: {"uuid": uuid} for kind, uuid in sorted(uuids.items())}
    if "mask" in described and mask_codes:
        described["mask"]["codes"] = dict(mask_codes)
    return described


class CompanionPlanes:
    """The companions of an image, open for reading.

    Parameters
    ----------
    companions
        The files.
    image_name
        Name of the image's HDU: that of the same name is taken of each file,
        or else its first image.
    bbox
        Absolute pixels of the image.
    flux
        Unit of the image.
    wcs
        Projection of the image.

    Raises
    ------
    UserError
        Raised if a file does not belong to the image: another shape, another
        place, a unit that contradicts.
    CorruptInputError
        Raised if a file is damaged.
    """

    def __init__(self, companions: Companions, image_name: str, bbox: Box, flux: Flux, wcs: Wcs) -> None:
        self._bbox = bbox
        self._codes = companions.mask_codes
        self._planes: dict[str, PixelPlane] = {}
        self.mask_planes: tuple[MaskPlane, ...] = ()
        """Names of the mask's bits; none without a mask."""
        self.psf: ModelCells | None = None
        """PSF kernels by cell, like those of an image; `None` if there are
        none."""
        self._stack = contextlib.ExitStack()
        try:
            for kind, path in companions.paths.items():
                if kind == "psf":
                    self.psf = read_psf_file(path, bbox)
                    continue
                file = self._stack.enter_context(FitsFile(path))
                extension = _find(file, image_name)
                plane = PixelPlane(extension, dtype=np.int32 if kind == "mask" else np.float32)
                self._check_place(kind, extension, plane, wcs)
                self._planes[kind] = plane
                if kind == "mask":
                    self.mask_planes = self._mask_planes(extension, plane)
                else:
                    self._variance_factor = _variance_factor(kind, extension, flux)
        except BaseException:
            self.close()
            raise

    @property
    def has_variance(self) -> bool:
        """Whether variances or weights are there."""
        return "variance" in self._planes or "weight" in self._planes

    def close(self) -> None:
        """Close the files; again does nothing."""
        self._stack.close()

    def variance(self, box: Box) -> np.ndarray:
        """Variance of some pixels, in the square of the image's unit.

        Parameters
        ----------
        box
            Absolute pixels within the image.

        Returns
        -------
        variance
            Float32; NaN where a weight is not positive.
        """
        factor = self._variance_factor
        if "variance" in self._planes:
            pixels = self._read("variance", box)
            return pixels if factor == 1.0 else (pixels * np.float64(factor)).astype(np.float32)
        weight = self._read("weight", box).astype(np.float64)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            return np.where(weight > 0, factor / weight, np.nan).astype(np.float32)

    def is_unweighted(self, box: Box) -> np.ndarray:
        """Pixels whose weight says that there is no data.

        Parameters
        ----------
        box
            Absolute pixels within the image.

        Returns
        -------
        unweighted
            Bool; true where there is a weight, and it is not positive.
        """
        if "weight" not in self._planes:
            return np.zeros(box.shape, dtype=bool)
        with np.errstate(invalid="ignore"):
            return np.asarray(~(self._read("weight", box) > 0))

    def mask(self, box: Box) -> np.ndarray:
        """Mask bits of some pixels.

        Parameters
        ----------
        box
            Absolute pixels within the image.

        Returns
        -------
        mask
            Integers with the bits of `mask_planes`; zero without a mask.
        """
        if "mask" not in self._planes:
            return np.zeros(box.shape, dtype=np.int32)
        pixels = self._read("mask", box)
        if self._codes is None:
            known = sum(1 << plane.bit for plane in self.mask_planes)
            # Bits of an integer's sign, and those that no card names.
            return pixels.astype(np.int64) & known
        out = np.where(pixels != 0, np.int64(1 << len(self._codes)), np.int64(0))
        for bit, code in enumerate(self._codes.values()):
            out[pixels == code] = 1 << bit
        return out

    def _read(self, kind: str, box: Box) -> np.ndarray:
        return self._planes[kind].read(*box.slices(within=self._bbox))

    def _check_place(self, kind: str, extension: Extension, plane: PixelPlane, wcs: Wcs) -> None:
        where = f"{extension.header.file.path}: HDU {extension.number} ({extension.name})"
        if plane.shape != self._bbox.shape:
            raise UserError(
                f"{where} has {plane.shape[0]} x {plane.shape[1]} pixels (rows x columns), but the image "
                "whose "
                f"{kind} it is has {self._bbox.shape[0]} x {self._bbox.shape[1]}."
            )
        if not has_celestial_wcs(extension.header):
            return
        box = self._bbox
        x, y = np.array([box.x0, box.x1 - 1.0]), np.array([box.y0, box.y1 - 1.0])
        sky = celestial_wcs(extension.header, box).pixel_to_sky(x, y)
        there = wcs.sky_to_pixel(*sky)
        off = float(np.hypot(there[0] - x, there[1] - y).max())
        if not off <= _SAME_PLACE_PIXELS:
            raise UserError(
                f"{where} lies elsewhere than the image whose {kind} it is: by its projection {off:.3g} "
                "pixels."
            )

    def _mask_planes(self, extension: Extension, plane: PixelPlane) -> tuple[MaskPlane, ...]:
        if self._codes is not None:
            named = [
                MaskPlane(name, bit, f"The mask is {code}.")
                for bit, (name, code) in enumerate(self._codes.items())
            ]
            return (*named, MaskPlane(OTHER_CODE, len(named), "The mask is another number."))
        if found := mask_planes_of(extension, extension.header.file.primary):
            return found
        prefix = "Z" if extension.header.values.get("ZIMAGE") is True else ""
        n_bits = min(31, extension.header.integer(f"{prefix}BITPIX"))
        return tuple(MaskPlane(f"BIT{bit:02}", bit, f"Bit {bit} of the mask.") for bit in range(n_bits))


def _find(file: FitsFile, name: str) -> Extension:
    """The image of this name, or else the first."""
    first: Extension | None = None
    for extension in walk_extensions(file):
        header = extension.header
        prefix = "Z" if header.values.get("ZIMAGE") is True else ""
        if not prefix and header.values.get("XTENSION", "IMAGE") != "IMAGE":
            continue
        if header.values.get(f"{prefix}NAXIS", 0) in (0, 1):
            continue
        if extension.name == name:
            return extension
        first = first or extension
    if first is None:
        raise UserError(f"{file.path}: there is no image in it.")
    return first


def _variance_factor(kind: str, extension: Extension, flux: Flux) -> float:
    """What a variance is multiplied with."""
    stated = str(extension.header.values.get("BUNIT") or "").strip()
    if kind == "weight" or not stated:
        return flux.factor**2
    root = next(
        (stated.removesuffix(power) for power in ("**2", "^2", "2") if stated.endswith(power)), stated
    )
    own = flux_unit(root.strip("() "))
    if (own.unit == NANOJANSKY) != (flux.unit == NANOJANSKY):
        raise UserError(
            f"{extension.header.file.path}: BUNIT of {extension.name} is {stated!r}, and the unit of the "
            "image "
            f"is {'a flux' if flux.unit == NANOJANSKY else repr(flux.unit)}: the variance must be in its "
            "square."
        )
    return own.factor**2 if own.unit == NANOJANSKY else 1.0
