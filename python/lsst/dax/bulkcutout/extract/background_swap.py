# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Another background model than the stored one, subtracted from cutouts."""

from __future__ import annotations

import numpy as np

from ..boxes import Box
from ..errors import CorruptInputError, UserError, did_you_mean
from ..planes import BACKGROUND_NONE, BACKGROUND_STORED
from ..readers import BackgroundField, ImageReader

__all__ = ("BackgroundSwap",)


class BackgroundSwap:
    """Takes one background model back and subtracts another one.

    Parameters
    ----------
    image
        The image.
    choice
        What is to be subtracted: ``stored``, ``none``, or the name of a
        model, in any case if that is clear.

    Raises
    ------
    UserError
        Raised if the image has no such model, or one that cannot be
        evaluated here.
    CorruptInputError
        Raised if a model is damaged.
    OSError
        Raised as it comes if a model cannot be read.
    """

    def __init__(self, image: ImageReader, choice: str) -> None:
        self._bbox = image.bbox
        self._add: BackgroundField | None = None
        self._subtract: BackgroundField | None = None
        stored = image.background
        wanted = stored if choice == BACKGROUND_STORED else _find(image, choice)
        self.subtracted = wanted or (BACKGROUND_NONE if image.backgrounds else "")
        """What is subtracted afterwards: the name of a model, ``none``, or
        empty text where the image has no models to tell."""
        if wanted == stored:
            return
        if stored is not None:
            if stored not in image.backgrounds:
                raise CorruptInputError(
                    f"The image says that {stored!r} is subtracted, and has no such model."
                )
            self._add = image.backgrounds[stored]
        if wanted is not None:
            self._subtract = image.backgrounds[wanted]

    def apply(self, pixels: np.ndarray, first_y: np.ndarray, first_x: np.ndarray) -> None:
        """Change cutouts in place.

        Parameters
        ----------
        pixels
            Cutouts of the image plane, nJy, shape ``(n, size, size)``.
        first_y, first_x
            First pixel of each, absolute pixels, shape ``(n,)``.
        """
        if self._add is None and self._subtract is None:
            return
        size = pixels.shape[1]
        for cutout, y, x in zip(pixels, first_y.tolist(), first_x.tolist(), strict=True):
            box = Box(y0=y, y1=y + size, x0=x, x1=x + size)
            if (part := box.intersection(self._bbox)) is not None:
                cutout[part.slices(within=box)] += self._change(part)

    def _change(self, box: Box) -> np.ndarray:
        # In one sum, with the roundings of lsst.images.
        if self._subtract is None:
            assert self._add is not None
            return self._add.render(box)
        below = self._subtract.render(box)
        return -below if self._add is None else self._add.render(box) - below


def _find(image: ImageReader, choice: str) -> str | None:
    """Name of the model that is meant; `None` for none."""
    names = list(image.backgrounds)
    if not names:
        raise UserError(
            f"Request field 'background': {choice!r} is asked for, but the image has no background models; "
            f"{BACKGROUND_STORED!r} gives the pixels as they are."
        )
    if choice == BACKGROUND_NONE:
        return None
    alike = [choice] if choice in names else [name for name in names if name.casefold() == choice.casefold()]
    if len(alike) != 1:
        raise UserError(
            f"Request field 'background': the image has no background model {choice!r}"
            f"{did_you_mean(choice, names)}; it has {', '.join(names)}."
        )
    return alike[0]
