# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""The grid of right ascension and declination on a picture of the sky."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from .sky_view import FRAME, HEIGHT, WIDTH, SkyView

__all__ = ("draw_grid",)

_WHITE, _INK, _GRID = (255, 255, 255), (40, 40, 40), (205, 205, 205)
_STEPS_DEG = tuple(a * 10.0**b for b in range(-4, 2) for a in (1, 2, 5)) + (30.0, 60.0)

NEAR_FRAME = 15
"""Lines of the grid that end so near to the frame are labelled outside."""


def draw_grid(draw: ImageDraw.ImageDraw, view: SkyView) -> None:
    """Draw lines of right ascension and declination, with their numbers.

    Parameters
    ----------
    draw
        The picture.
    view
        Its map.
    """
    font = ImageFont.load_default(size=14)
    dec0 = math.degrees(math.asin(view.middle[2]))
    ra0 = math.degrees(math.atan2(view.middle[1], view.middle[0])) % 360.0
    half = [math.degrees(view.scale) * (FRAME[n + 2] - FRAME[n]) / 2 for n in (0, 1)]
    low, high = (
        (-90.0, 90.0) if view.is_wide else (max(-90.0, dec0 - 1.2 * half[1]), min(90.0, dec0 + 1.2 * half[1]))
    )
    widest = min(180.0, 1.3 * half[0] / max(1e-6, math.cos(math.radians(max(abs(low), abs(high))))))
    if view.is_wide or high >= 90.0 or low <= -90.0:
        widest = 180.0
    ra_step, dec_step = _step(2 * widest / 7), _step((high - low) / 6)
    for ra in _multiples(ra0 - widest, ra0 + widest, ra_step):
        dec = np.linspace(low, high, 400)
        _draw_line(draw, view, np.full(400, ra), dec, _number(ra % 360.0, ra_step), font, axis=1)
    for dec_line in _multiples(low, high, dec_step):
        label = _number(dec_line, dec_step, sign=True)
        ra_values = np.linspace(ra0 - widest, ra0 + widest, 800)
        _draw_line(draw, view, ra_values, np.full(800, dec_line), label, font, axis=0)
    draw.rectangle((0, FRAME[3] + 24, WIDTH, HEIGHT), fill=_WHITE)
    middle = (FRAME[0] + FRAME[2]) / 2
    draw.text((middle, FRAME[3] + 34), "right ascension (deg, ICRS)", fill=_INK, font=font, anchor="mt")
    sideways = Image.new("L", (200, 20), 0)
    ImageDraw.Draw(sideways).text((100, 10), "declination (deg)", fill=255, font=font, anchor="mm")
    turned = sideways.rotate(90, expand=True)
    draw.bitmap((12, (FRAME[1] + FRAME[3]) // 2 - 100), turned, fill=_INK)


def _draw_line(
    draw: ImageDraw.ImageDraw,
    view: SkyView,
    ra: np.ndarray,
    dec: np.ndarray,
    label: str,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    *,
    axis: int,
) -> None:
    """A line of the grid; axis 1 is labelled below, axis 0 at the left."""
    column, row = view.pixels(ra, dec)
    inside = (column >= FRAME[0]) & (column <= FRAME[2]) & (row >= FRAME[1]) & (row <= FRAME[3])
    # Not across the map, from one end of the sky to the other.
    jumps = np.abs(np.diff(column, append=column[-1])) > (FRAME[2] - FRAME[0]) / 5
    for start, stop in _runs(inside & ~jumps):
        points = list(zip(column[start : stop + 1].tolist(), row[start : stop + 1].tolist(), strict=True))
        if len(points) > 1:
            draw.line(points, fill=_GRID)
    if not inside.any():
        return
    places = np.flatnonzero(inside)
    end = places[np.argmax(row[places]) if axis == 1 else np.argmin(column[places])]
    if axis == 1 and FRAME[3] - row[end] < NEAR_FRAME:
        draw.text((column[end], FRAME[3] + 6), label, fill=_INK, font=font, anchor="mt")
    elif axis == 0 and (view.is_wide or column[end] - FRAME[0] < NEAR_FRAME):
        draw.text((FRAME[0] - 6, row[end]), label, fill=_INK, font=font, anchor="rm")
    else:
        # The line does not end at the frame: into the map, where lines of
        # right ascension are far from each other.
        if axis == 1:
            middle = (FRAME[0] + FRAME[2]) / 2, (FRAME[1] + FRAME[3]) / 2
            away = np.hypot(column[places] - middle[0], row[places] - middle[1])
            end = places[np.argmin(np.abs(dec[places])) if view.is_wide else np.argmax(away)]
        draw.text(
            (column[end], row[end]), label, fill=_INK, font=font, anchor="mm", stroke_width=2,
            stroke_fill=_WHITE,
        )  # fmt: skip


def _step(wanted: float) -> float:
    """A round number of degrees, as near as there is."""
    return min(_STEPS_DEG, key=lambda step: abs(math.log(step / wanted)))


def _multiples(low: float, high: float, step: float) -> list[float]:
    # A full circle has its first line only once.
    last = math.floor(high / step + 1e-9) - (high - low >= 360.0 - 1e-9)
    return [n * step for n in range(math.ceil(low / step - 1e-9), last + 1)]


def _number(value: float, step: float, *, sign: bool = False) -> str:
    digits = max(0, math.ceil(-math.log10(step) - 1e-9))
    text = f"{value:+.{digits}f}" if sign else f"{value:.{digits}f}"
    return text if float(text) else text.lstrip("+-")


def _runs(flags: np.ndarray) -> Iterator[tuple[int, int]]:
    """Start and end of each run of true values."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8)))
    yield from zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True)
