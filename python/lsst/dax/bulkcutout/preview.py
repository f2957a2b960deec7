# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""A contact sheet of a product, to see at a glance what is in it."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from astropy.stats import sigma_clip
from astropy.visualization import make_lupton_rgb
from PIL import Image, ImageDraw, ImageFont

from .errors import UserError
from .formats.cutout import Cutout
from .formats.cutouts import open_cutouts
from .notable import NotableRows

__all__ = ("PREVIEW_NAME", "rgb_bands", "write_preview")

PREVIEW_NAME = "preview.png"

_PANEL = 144
"""Largest side of a picture on the sheet."""
_COLUMNS = 8
_GAP = 12
_COMPASS = 28
_HEADER = 54
_CAPTION = 60

type _Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

_SPECIAL = (160, 60, 20)
_PAPER, _INK, _FAINT = (250, 250, 248), (30, 30, 36), (110, 110, 120)
_HATCH_GROUND, _HATCH_LINE = (226, 226, 222), (168, 168, 164)


def write_preview(product: str | os.PathLike[str], path: Path | None = None, *, most: int = 48) -> Path:
    """Draw a contact sheet.

    Parameters
    ----------
    product
        Directory of a product, or one of its files.
    path
        Picture to write, a PNG; ``preview.png`` in the product by default.
    most
        Largest number of cutouts to show.  First come some of those that are
        special (at edges, without a band, in a missing cell, saturated,
        completed from several patches), as many as half; the others are
        spread evenly over the product.  The same product gives the same
        picture.

    Returns
    -------
    path
        The picture.

    Raises
    ------
    UserError
        Raised if the product has no cutouts, or no images in them.
    """
    directory = Path(product)
    path = path or (directory if directory.is_dir() else directory.parent) / PREVIEW_NAME
    with open_cutouts(product) as cutouts:
        n_all = len(cutouts)
        if not n_all:
            raise UserError(f"{product} has no cutouts to show: see its status.parquet for the reasons.")
        n_shown = max(1, min(most, n_all))
        colours = rgb_bands(cutouts.bands)
        notable = NotableRows(cutouts, each=2 if n_shown >= 24 else 1)
        panels = [
            _read_panel(cutouts[number], colours, notable.describe(number))
            for number in _choose(n_all, n_shown, notable.numbers)
        ]
        reader = cutouts.reader(0)
        unit = reader.attributes("images/flux").get("unit", "nJy")
        name = f"{reader.meta('request_id')}   {reader.meta('dataset_type')}"
    stretch = _find_stretch(panels)
    title = f"{name}   {n_shown} of {n_all} cutouts"
    sheet = _draw_sheet(panels, stretch, title=title, colours=colours, unit=unit)
    part = path.with_name(f".{path.name}.part")
    sheet.save(part, format="PNG")
    os.replace(part, path)
    return path


def _choose(n_all: int, n_shown: int, notable: Sequence[int]) -> list[int]:
    """Numbers of the cutouts to show: special ones, then a fair sample."""
    first = list(notable[: max(1, n_shown // 2)])
    others = [number for number in range(n_all) if number not in set(first)] if n_all < 10_000 else None
    n_others = n_shown - len(first)
    n_left = len(others) if others is not None else n_all
    spread = [(2 * k + 1) * n_left // (2 * n_others) for k in range(n_others)]
    return first + [others[k] if others is not None else k for k in spread]


def rgb_bands(bands: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """Choose bands for the colours.

    Parameters
    ----------
    bands
        Bands of the product, blue to red.

    Returns
    -------
    colours
        Bands whose mean is red, green and blue: i, r, g where the product has
        them, else neighbours from its middle; for grey only one.
    """
    if {"i", "r", "g"} <= set(bands):
        return (("i",), ("r",), ("g",))
    if len(bands) == 1:
        return ((bands[0],),)
    if len(bands) == 2:
        return ((bands[1],), (bands[0], bands[1]), (bands[0],))
    first = (len(bands) - 3) // 2
    blue, green, red = bands[first : first + 3]
    return ((red,), (green,), (blue,))


class _Stretch(NamedTuple):
    """What all panels have in common."""

    sky: np.ndarray
    """Median of each colour, unit of the images, shape ``(colours, 1, 1)``."""

    sigma: float
    """Scatter of the sky in the mean of the colours, in the same unit."""

    softening: float
    """Lupton's Q: the larger, the brighter the light that is not yet white."""


@dataclasses.dataclass(frozen=True)
class _Panel:
    """One cutout, reduced to what the sheet needs."""

    label: str
    words: tuple[str, ...]
    """What is special about it."""

    pixels: np.ndarray
    """Colours, ``(colours, y, x)``; NaN where there is none."""

    magnification: int
    """Sheet pixels a pixel of ``pixels``."""

    arcsec_per_pixel: float
    """Of the sheet."""

    north: tuple[float, float]
    """Unit vector on the cutout, ``(x, y)``."""

    east: tuple[float, float]
    """Unit vector on the cutout, ``(x, y)``."""

    @property
    def side(self) -> int:
        """Side on the sheet in pixels."""
        return int(self.pixels.shape[1]) * self.magnification


def _read_panel(cutout: Cutout, colours: Sequence[Sequence[str]], words: Sequence[str] = ()) -> _Panel:
    reduction = -(-cutout.size // _PANEL)
    used = dict.fromkeys(band for bands in colours for band in bands)
    images = {band: _reduce(cutout.image(band), reduction) for band in used}
    pixels = np.stack([np.mean([images[band] for band in bands], axis=0) for bands in colours])
    magnification = max(1, _PANEL // pixels.shape[1])
    scale = math.sqrt(abs(np.linalg.det(cutout.wcs.pixel_scale_matrix))) * 3600.0
    x, y = cutout.target_xy
    step = scale / 3600.0
    # At a pole a step in right ascension is no length: hence the cosine.
    cos_dec = max(1e-6, math.cos(math.radians(cutout.dec)))
    toward = cutout.sky_to_pixel(
        [cutout.ra, cutout.ra + step / cos_dec], [min(90.0, cutout.dec + step), cutout.dec]
    )
    north, east = (_unit(float(toward[0][i]) - x, float(toward[1][i]) - y) for i in (0, 1))
    return _Panel(
        label=str(cutout.object_id),
        words=tuple(words),
        pixels=pixels,
        magnification=magnification,
        arcsec_per_pixel=scale * reduction / magnification,
        north=north,
        east=east,
    )


def _reduce(image: np.ndarray, factor: int) -> np.ndarray:
    """Average blocks of pixels; a block is NaN if all of it is."""
    if factor == 1:
        return image
    n = -(-image.shape[0] // factor)
    padded = np.full((n * factor, n * factor), np.nan, dtype=image.dtype)
    padded[: image.shape[0], : image.shape[1]] = image
    blocks = padded.reshape(n, factor, n, factor)
    there = np.isfinite(blocks)
    count = there.sum(axis=(1, 3))
    total = np.where(there, blocks, 0).sum(axis=(1, 3))
    return np.where(count > 0, total / np.maximum(count, 1), np.nan).astype(np.float32)


def _unit(x: float, y: float) -> tuple[float, float]:
    length = math.hypot(x, y)
    return (x / length, y / length) if length else (0.0, 1.0)


def _find_stretch(panels: Sequence[_Panel]) -> _Stretch:
    samples = np.concatenate([panel.pixels.reshape(len(panel.pixels), -1) for panel in panels], axis=1)
    sky = np.array([_sky(values[np.isfinite(values)])[0] for values in samples], dtype=np.float32)
    intensity = (samples - sky[:, None]).mean(axis=0)
    intensity = intensity[np.isfinite(intensity)]
    sigma = _sky(intensity)[1] or 1.0
    bright = float(np.percentile(intensity, 99.9)) if len(intensity) else 0.0
    # The light that comes out white, with ten sigma as the linear part.
    white = {q: 10 * sigma * math.sinh(10 * math.asinh(q / 10)) / q for q in range(4, 25)}
    return _Stretch(sky[:, None, None], sigma, next((q for q in white if white[q] >= bright), 24))


def _sky(values: np.ndarray) -> tuple[float, float]:
    """Level and scatter of what is left without the sources."""
    if not len(values):
        return 0.0, 0.0
    clipped = sigma_clip(values, sigma_lower=6, sigma_upper=2, maxiters=20, masked=False)
    level = float(np.median(clipped))
    # The lower half only: sources make the upper one wider.
    return level, level - float(np.percentile(clipped, 15.87))


def _draw_sheet(
    panels: Sequence[_Panel], stretch: _Stretch, *, title: str, colours: Sequence[Sequence[str]], unit: str
) -> Image.Image:
    side = max(panel.side for panel in panels)
    columns = min(_COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    # A few panels must not make the sheet too narrow for its title.
    width = max(_GAP + columns * (side + _GAP), 560)
    height = _HEADER + rows * (side + _CAPTION + _GAP)
    sheet = Image.new("RGB", (width, height), _PAPER)
    draw = ImageDraw.Draw(sheet)
    large, small = ImageFont.load_default(size=16), ImageFont.load_default(size=11)
    draw.text((_GAP, 8), _fit(draw, title, large, width - 2 * _GAP), fill=_INK, font=large)
    names = ("red", "green", "blue") if len(colours) == 3 else ("grey",)
    key = "  ".join(f"{name} {'+'.join(bands)}" for name, bands in zip(names, colours, strict=True))
    legend = f"{key}    one asinh stretch, sky noise {stretch.sigma:.3g} {unit}    hatched: no data"
    draw.text((_GAP, 31), _fit(draw, legend, small, width - 2 * _GAP), fill=_FAINT, font=small)
    for number, panel in enumerate(panels):
        left = _GAP + (number % columns) * (side + _GAP)
        top = _HEADER + (number // columns) * (side + _CAPTION + _GAP)
        # Smaller panels stand on the line of the caption.
        sheet.paste(Image.fromarray(_colour(panel, stretch)), (left, top + side - panel.side))
        _draw_caption(draw, panel, left, top + side + 4, side, small)
    return sheet


def _colour(panel: _Panel, stretch: _Stretch) -> np.ndarray:
    """Picture of a panel, ``(y, x, 3)`` uint8, first row on top."""
    above_sky = panel.pixels - stretch.sky
    there = np.isfinite(above_sky)
    # A pixel that lacks a colour becomes grey: its colour is not known.
    count = there.sum(axis=0)
    mean = np.where(there, above_sky, 0).sum(axis=0) / np.maximum(count, 1)
    pixels = np.where(there.all(axis=0), above_sky, mean).astype(np.float64)
    red, green, blue = pixels if len(pixels) == 3 else (pixels[0],) * 3
    # The sky comes out dark grey at one sigma above black.
    with np.errstate(divide="ignore", invalid="ignore"):
        rgb = make_lupton_rgb(
            red, green, blue, minimum=-stretch.sigma, stretch=10 * stretch.sigma, Q=stretch.softening
        )
    magnify = (panel.magnification, panel.magnification)
    picture = np.kron(rgb, np.ones((*magnify, 1), dtype=np.uint8))[::-1].copy()
    missing = np.kron(count == 0, np.ones(magnify, dtype=bool))[::-1]
    rows, columns = np.indices(missing.shape)
    picture[missing] = _HATCH_GROUND
    picture[missing & ((rows + columns) % 8 < 2)] = _HATCH_LINE
    return picture


def _draw_caption(
    draw: ImageDraw.ImageDraw, panel: _Panel, left: int, top: int, width: int, font: _Font
) -> None:
    draw.text((left, top), _fit(draw, panel.label, font, width), fill=_INK, font=font)
    draw.text((left, top + 14), _fit_words(draw, panel.words, font, width), fill=_SPECIAL, font=font)
    arcsec, length = _scale_bar(panel)
    line = top + 41
    draw.line([(left, line), (left + length, line)], fill=_INK, width=2)
    for end in (left, left + length):
        draw.line([(end, line - 3), (end, line + 3)], fill=_INK)
    draw.text((left + length + 6, line - 7), f'{arcsec:g}"', fill=_FAINT, font=font)
    _draw_compass(draw, panel, left + width - _COMPASS // 2, line, font)


def _draw_compass(draw: ImageDraw.ImageDraw, panel: _Panel, x: int, y: int, font: _Font) -> None:
    for letter, (dx, dy) in (("N", panel.north), ("E", panel.east)):
        # The sheet's rows go down, the sky's y goes up; the corner of the two
        # arrows is moved so that both keep inside the caption.
        start = (x - 5 * (panel.north[0] + panel.east[0]), y + 5 * (panel.north[1] + panel.east[1]))
        end = (start[0] + 11 * dx, start[1] - 11 * dy)
        draw.line([start, end], fill=_INK)
        for turn in (2.6, -2.6):
            cos, sin = math.cos(turn), math.sin(turn)
            wing = (end[0] + 4 * (dx * cos - dy * sin), end[1] - 4 * (dx * sin + dy * cos))
            draw.line([end, wing], fill=_INK)
        draw.text((end[0] + 6 * dx, end[1] - 6 * dy), letter, fill=_FAINT, font=font, anchor="mm")


def _scale_bar(panel: _Panel) -> tuple[float, int]:
    """Choose a round length of at most two fifths of the panel."""
    most = 0.4 * panel.side * panel.arcsec_per_pixel
    power = 10.0 ** math.floor(math.log10(most))
    arcsec = max(step * power for step in (1, 2, 5) if step * power <= most)
    return arcsec, round(arcsec / panel.arcsec_per_pixel)


def _fit_words(draw: ImageDraw.ImageDraw, words: Sequence[str], font: _Font, width: int) -> str:
    """As many of the words as there is room for, the first ones."""
    for kept in range(len(words), 1, -1):
        if draw.textlength("; ".join(words[:kept]), font=font) <= width:
            return "; ".join(words[:kept])
    return _fit(draw, words[0], font, width) if words else ""


def _fit(draw: ImageDraw.ImageDraw, text: str, font: _Font, width: int) -> str:
    """Leave the middle out of a text that is too wide."""
    shown = text
    for kept in range(len(text) - 1, -1, -1):
        if draw.textlength(shown, font=font) <= width:
            break
        head = kept - kept // 2
        shown = f"{text[:head]}...{text[len(text) - kept // 2 :]}"
    return shown
