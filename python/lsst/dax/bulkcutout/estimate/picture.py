# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""A picture of the sky: where the targets are, and which images cover them.

`sky_view` has the projection, `sky_grid` the lines of the grid.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from .outlines import Outline, darker, draw_outlines, draw_tract_names, mixed
from .sky_grid import draw_grid
from .sky_view import FRAME, HEIGHT, WIDTH, SkyView

__all__ = ("SkyPicture",)

CELL = 3
"""Targets are counted in squares of so many picture pixels."""

_WHITE, _INK, _REFUSED = (255, 255, 255), (40, 40, 40), (214, 39, 40)
_FEWEST, _ALL = (250, 214, 165), (222, 231, 241)
_DENSITY = ((122, 209, 81), (34, 168, 132), (42, 120, 142), (65, 68, 135), (60, 10, 80))
"""Colours from the fewest targets in a cell to the most."""

_POINT = (65, 68, 135)
"""Colour of targets that are so few that each is drawn."""

_TARGETS_IN_CELL = 4.0
"""Cells are made larger until those with targets have so many on average."""

_GROW = (1, 2, 3, 4, 6)


class SkyPicture:
    """Draws targets over the footprint of their images.

    Parameters
    ----------
    outlines
        The image of each patch that has targets, one at least.
    n_bands
        Number of bands that were asked for.
    """

    def __init__(self, outlines: Sequence[Outline], n_bands: int) -> None:
        self._outlines = outlines
        self._n_bands = n_bands
        self._view = SkyView(*np.concatenate([outline.corners for outline in outlines]).T)
        span = FRAME[3] - FRAME[1], FRAME[2] - FRAME[0]
        self._shape = tuple(n // CELL for n in span)
        self._targets = np.zeros(self._shape[0] * self._shape[1], dtype=np.int64)
        self._refused = np.zeros_like(self._targets)
        self._n_refused_outside = 0
        self._cell = CELL

    def add(self, ra: np.ndarray, dec: np.ndarray, *, refused: bool = False) -> None:
        """Count positions.

        Parameters
        ----------
        ra, dec
            ICRS degrees, shape ``(n,)``; those without a number are left out.
        refused
            Whether these are rows that get no cutout.
        """
        good = np.isfinite(ra) & np.isfinite(dec)
        column, row = self._view.pixels(ra[good], dec[good])
        column, row = (
            np.floor((value - start) / CELL) for value, start in ((column, FRAME[0]), (row, FRAME[1]))
        )
        with np.errstate(invalid="ignore"):
            seen = (column >= 0) & (column < self._shape[1]) & (row >= 0) & (row < self._shape[0])
        cells = (row[seen] * self._shape[1] + column[seen]).astype(np.int64)
        counts = self._refused if refused else self._targets
        counts += np.bincount(cells, minlength=len(counts))
        if refused:
            self._n_refused_outside += int(len(seen) - seen.sum())

    def write(self, path: Path, title: str) -> None:
        """Draw the picture.

        Parameters
        ----------
        path
            PNG file to write.
        title
            What to write above it.
        """
        image = Image.new("RGB", (WIDTH, HEIGHT), _WHITE)
        draw = ImageDraw.Draw(image)
        # Where patches overlap, those that lack bands lie on top.
        outlines = sorted(self._outlines, key=lambda each: -each.n_bands)
        colours = [self._coverage_colour(outline.n_bands) for outline in outlines]
        draw_outlines(draw, self._view, outlines, colours)
        used = list(dict.fromkeys(outline.n_bands for outline in outlines))
        most = self._draw_cells(image)
        draw_grid(draw, self._view)
        draw_tract_names(draw, self._view, self._outlines)
        draw.rectangle((0, 0, WIDTH, FRAME[1] - 1), fill=_WHITE)
        draw.rectangle(FRAME, outline=_INK)
        draw.text((FRAME[0], 22), title, fill=_INK, font=ImageFont.load_default(size=19))
        self._draw_legend(draw, used, most)
        image.save(path, "PNG")

    def _coverage_colour(self, n_bands: int) -> tuple[int, int, int]:
        part = 1.0 if self._n_bands < 2 else (n_bands - 1) / (self._n_bands - 1)
        return mixed(_FEWEST, _ALL, min(1.0, part))

    def _draw_cells(self, image: Image.Image) -> int:
        """Draw what was counted; gives the most targets in a cell."""
        counts, grow = self._targets.reshape(self._shape), 1
        for grow in _GROW:
            counts = self._binned(grow)
            if (counts > 0).any() and counts[counts > 0].mean() >= _TARGETS_IN_CELL:
                break
        else:
            # So few that each is a point of its own.
            grow, counts = 1, self._targets.reshape(self._shape)
            counts = np.minimum(counts, 1)
        self._cell = grow * CELL
        most = int(counts.max(initial=0))
        counts = np.repeat(np.repeat(counts, grow, axis=0), grow, axis=1)[: self._shape[0], : self._shape[1]]
        pixels = np.asarray(image).copy()
        view = pixels[
            FRAME[1] : FRAME[1] + CELL * self._shape[0], FRAME[0] : FRAME[0] + CELL * self._shape[1]
        ]
        for which, colours in (
            (self._refused.reshape(self._shape) > 0, np.array(_REFUSED)),
            (counts > 0, _density_colours(counts, most) if most > 1 else np.array(_POINT)),
        ):
            large = np.repeat(np.repeat(which, CELL, axis=0), CELL, axis=1)
            shades = np.broadcast_to(colours, (*self._shape, 3))
            view[large] = np.repeat(np.repeat(shades, CELL, axis=0), CELL, axis=1)[large]
        image.paste(Image.fromarray(pixels))
        return most

    def _binned(self, grow: int) -> np.ndarray:
        """Counts in larger cells, the last of which may be cut off."""
        counts = self._targets.reshape(self._shape)
        padded = np.pad(counts, [(0, -side % grow) for side in counts.shape])
        return padded.reshape(padded.shape[0] // grow, grow, -1, grow).sum(axis=(1, 3))

    def _draw_legend(self, draw: ImageDraw.ImageDraw, used: Sequence[int], most: int) -> None:
        font = ImageFont.load_default(size=14)
        top, left = FRAME[3] + 70, FRAME[0]
        for n, n_bands in enumerate(used[:6]):
            box = (left, top + 22 * n, left + 22, top + 22 * n + 14)
            colour = self._coverage_colour(n_bands)
            draw.rectangle(box, fill=colour, outline=darker(colour))
            what = f"images in {n_bands} of {self._n_bands} band{'s' if self._n_bands > 1 else ''}"
            draw.text((left + 30, box[1] + 7), what, fill=_INK, font=font, anchor="lm")
        left += 330
        if most > 1:
            steps = 160
            for n in range(steps):
                count = np.array([[most ** (n / (steps - 1))]])
                red, green, blue = _density_colours(count, most)[0, 0].tolist()
                draw.rectangle((left + n, top, left + n + 1, top + 14), fill=(red, green, blue))
            area_arcmin2 = (self._cell * math.degrees(self._view.scale) * 60.0) ** 2
            text = f"{_short(1 / area_arcmin2)} to {_short(most / area_arcmin2)} targets per square arcmin"
            draw.text((left + steps + 12, top + 7), text, fill=_INK, font=font, anchor="lm")
        elif most:
            draw.rectangle((left, top, left + 14, top + 14), fill=_POINT)
            draw.text((left + 22, top + 7), "targets", fill=_INK, font=font, anchor="lm")
        if self._refused.any() or self._n_refused_outside:
            draw.rectangle((left, top + 22, left + 14, top + 36), fill=_REFUSED)
            what = "rows without an image"
            if self._n_refused_outside:
                what += f"; {self._n_refused_outside:,} more are outside of this map"
            draw.text((left + 22, top + 29), what, fill=_INK, font=font, anchor="lm")


def _density_colours(counts: np.ndarray, most: int) -> np.ndarray:
    """Colours of counts, in steps of equal ratios, shape ``(..., 3)``."""
    part = np.log(np.maximum(counts, 1)) / math.log(max(most, 2))
    places = np.linspace(0.0, 1.0, len(_DENSITY))
    channels = [np.interp(part, places, [colour[n] for colour in _DENSITY]) for n in range(3)]
    return np.stack(channels, axis=-1).astype(np.uint8)


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.2g}"
