# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Noise, mask fractions and backgrounds of input images for `pixel_check`.

A part of the second opinion: planes are read by astropy, background models by
lsst.images, and nothing else of this package is imported.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import astropy.io.fits
import numpy as np

__all__ = ("STORED_FLUX", "InputExtras", "Wanted")

STORED_FLUX = "(stored)"
"""Name of the image as it is in the file, where another background is
wanted."""

_HDUS = {"noise": "NOISE_REALIZATIONS", "mask_fraction": "MASK_FRACTIONS"}


@dataclasses.dataclass(frozen=True)
class Wanted:
    """What a product has beside image, variance and mask."""

    background: str = "stored"
    """Background that was asked for."""

    planes: tuple[str, ...] = ()
    """Planes such as ``noise/0`` and ``mask_fraction/rejected``."""


class InputExtras:
    """What else there is in an input image.

    Parameters
    ----------
    hdus
        The image's file.
    path
        Where it is.
    wanted
        What is compared.
    """

    def __init__(self, hdus: astropy.io.fits.HDUList, path: str, wanted: Wanted) -> None:
        by_name = {hdu.name.upper(): hdu for hdu in hdus}
        self._hdus: dict[str, Any] = {}
        for plane in wanted.planes:
            kind, _, name = plane.partition("/")
            self._hdus[plane] = by_name.get(f"{_HDUS[kind]}/{name}".upper())
        self._add: Any = None
        self._subtract: Any = None
        self._is_changed = wanted.background != "stored"
        self.subtracted: str | None = None
        """Background that is subtracted after the change; `None` if none is
        wanted, or if the image has no such model."""
        if self._is_changed:
            self._find_models(path, wanted.background)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all planes that `fill` fills."""
        return (*self._hdus, *([STORED_FLUX] if self._is_changed else []))

    def fill(
        self,
        floats: dict[str, np.ndarray],
        here: Any,
        there: Any,
        *,
        y0: int,
        x0: int,
        factor: float = 1.0,
    ) -> None:
        """Fill in the planes, and change the background of the image.

        Parameters
        ----------
        floats
            Padded planes by name, among them the image as ``flux``; changed
            in place.
        here
            Index in them of the pixels that the image has.
        there
            Index of these pixels in the image.
        y0, x0
            First pixel of the image, tract pixels.
        factor
            What takes the values of the file to nJy.
        """
        for plane, hdu in self._hdus.items():
            if hdu is not None:
                is_flux = plane.startswith("noise/") and factor != 1.0
                floats[plane][here] = hdu.section[there] * (factor if is_flux else 1)
        if not self._is_changed:
            return
        floats[STORED_FLUX][here] = floats["flux"][here]
        rows, columns = (
            slice(part.start + first, part.stop + first) for part, first in zip(there, (y0, x0), strict=True)
        )
        change = [
            sign * _render(field, rows, columns)
            for sign, field in ((1, self._add), (-1, self._subtract))
            if field is not None
        ]
        if change:
            floats["flux"][here] += sum(change[1:], change[0])
        elif self.subtracted is None:
            # Nothing can be delivered of such an image.
            floats["flux"][here] = np.nan

    def _find_models(self, path: str, choice: str) -> None:
        # Slow to import, and few products need it.
        from lsst.images.serialization import open_archive

        with open_archive(path) as archive:
            backgrounds = archive.get_component("backgrounds")
        stored = backgrounds.subtracted.name if backgrounds.subtracted is not None else None
        wanted = None
        if choice != "none":
            alike = [choice] if choice in backgrounds else []
            alike = alike or [name for name in backgrounds if name.lower() == choice.lower()]
            if len(alike) != 1:
                return
            wanted = alike[0]
        elif not backgrounds:
            return
        self.subtracted = wanted or "none"
        if wanted != stored:
            self._add = backgrounds[stored].field if stored else None
            self._subtract = backgrounds[wanted].field if wanted else None


def _render(field: Any, rows: slice, columns: slice) -> np.ndarray:
    from lsst.images import Box

    image = field.render(Box.factory[rows, columns], dtype=np.float32)
    return np.asarray(image.quantity.to_value("nJy"), dtype=np.float32)
