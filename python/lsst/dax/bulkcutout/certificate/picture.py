# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""The picture of a certificate: for each band the single stars' flux ratios,
offsets and pulls, with the limits that their medians and width must keep.
"""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from .star_statistics import BRIGHT, FAINTEST, LEAST_STARS, TOO_BRIGHT, describe

if TYPE_CHECKING:
    from .certify import Certificate
    from .star_statistics import BandResult

__all__ = ("draw_certificate",)

_PAPER, _INK, _FAINT, _GRID = (250, 250, 248), (30, 30, 36), (110, 110, 120), (214, 214, 210)
_STAR, _FAINT_STAR = (38, 84, 150), (166, 184, 210)
_LIMIT, _GOOD, _BAD = (228, 240, 228), (32, 120, 60), (180, 30, 40)
_WIDTH, _HEADER, _ROW = 1180, 84, 268
_PLOT_TOP, _PLOT_SIDE = 30, 180
_PLOTS = ((64, 330), (462, 180), (714, 200))
"""Left edge and width of the three plots."""
_TEXT_LEFT = 934

type _Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def draw_certificate(certificate: Certificate, path: Path) -> None:
    """Draw the picture.

    Parameters
    ----------
    certificate
        What to draw.
    path
        PNG file to write.
    """
    height = _HEADER + _ROW * max(len(certificate.bands), 1)
    sheet = Image.new("RGB", (_WIDTH, height), _PAPER)
    draw = ImageDraw.Draw(sheet)
    large, small = ImageFont.load_default(size=20), ImageFont.load_default(size=12)
    verdict, colour = ("passed", _GOOD) if certificate.passed else ("FAILED", _BAD)
    title = f"Photometry of stars on the cutouts of {certificate.request_id}: "
    draw.text((24, 14), title, fill=_INK, font=large)
    draw.text((24 + draw.textlength(title, font=large), 14), verdict, fill=colour, font=large)
    how = f"fluxes of {certificate.settings['flux_column']}"
    if certificate.settings["conditions"]:
        how += f"; stars with {', '.join(certificate.settings['conditions'])}"
    without = f"; not checked: {', '.join(certificate.without)}" if certificate.without else ""
    draw.text((24, 44), how + without, fill=_FAINT, font=small)
    about = f"product with SHA256SUMS {certificate.checksums[:16]}...; green: limits of medians and width"
    draw.text((24, 60), about, fill=_FAINT, font=small)
    for number, band in enumerate(certificate.bands):
        _draw_band(draw, band, _HEADER + number * _ROW, small, large)
    part = path.with_name(f".{path.name}.part")
    sheet.quantize(64).save(part, format="PNG", optimize=True)
    os.replace(part, path)


def _draw_band(draw: ImageDraw.ImageDraw, band: BandResult, top: int, small: _Font, large: _Font) -> None:
    draw.text((24, top), band.band, fill=_INK, font=large)
    stars = band.measured
    signal = stars["truth"] / stars["sigma"]
    _draw_ratios(draw, band, signal, top + _PLOT_TOP, small)
    _draw_offsets(draw, band, signal, top + _PLOT_TOP, small)
    _draw_pulls(draw, band, signal, top + _PLOT_TOP, small)
    colour = _GOOD if band.passed else _BAD
    draw.text((_TEXT_LEFT, top + 12), "passed" if band.passed else "FAILED", fill=colour, font=large)
    few = "" if band.stars >= LEAST_STARS else f": {LEAST_STARS} are needed"
    draw.text((_TEXT_LEFT, top + 40), f"{band.stars} stars{few}", fill=_BAD if few else _INK, font=small)
    line = top + 60
    for (name, value), quantity in zip(describe(band), band.quantities.values(), strict=True):
        ink = _INK if quantity.passed else _BAD
        draw.text((_TEXT_LEFT, line), name, fill=ink, font=small)
        draw.text((_TEXT_LEFT + 96, line), value.split(" (")[0], fill=ink, font=small)
        line += 18


class _Axes:
    """A plot: where values are on the sheet."""

    def __init__(
        self,
        draw: ImageDraw.ImageDraw,
        box: tuple[int, int, int, int],
        x: tuple[float, float],
        y: tuple[float, float],
    ) -> None:
        self.draw, self.box, self.x, self.y = draw, box, x, y

    def at(self, x: float, y: float) -> tuple[float, float]:
        left, top, width, height = self.box
        # What lies outside is drawn on the frame.
        part_x = min(max((x - self.x[0]) / (self.x[1] - self.x[0]), 0.0), 1.0)
        part_y = min(max((y - self.y[0]) / (self.y[1] - self.y[0]), 0.0), 1.0)
        return left + part_x * width, top + height - part_y * height

    def frame(self) -> None:
        left, top, width, height = self.box
        self.draw.rectangle([left, top, left + width, top + height], outline=_FAINT)

    def rectangle(self, x: tuple[float, float], y: tuple[float, float], fill: tuple[int, int, int]) -> None:
        (left, bottom), (right, top) = self.at(x[0], y[0]), self.at(x[1], y[1])
        self.draw.rectangle([left, top, right, bottom], fill=fill)

    def dots(self, x: np.ndarray, y: np.ndarray, fill: tuple[int, int, int]) -> None:
        there = np.isfinite(x) & np.isfinite(y)
        for px, py in zip(x[there].tolist(), y[there].tolist(), strict=True):
            column, row = self.at(px, py)
            self.draw.ellipse([column - 1.5, row - 1.5, column + 1.5, row + 1.5], fill=fill)

    def x_ticks(self, ticks: list[tuple[float, str]], font: _Font) -> None:
        bottom = self.box[1] + self.box[3]
        end = -math.inf
        for value, text in ticks:
            column = self.at(value, self.y[0])[0]
            self.draw.line([(column, bottom), (column, bottom + 4)], fill=_FAINT)
            half = self.draw.textlength(text, font=font) / 2
            # A number that would run into the one before is left out.
            if column - half > end + 4:
                self.draw.text((column, bottom + 6), text, fill=_FAINT, font=font, anchor="ma")
                end = column + half

    def y_ticks(self, ticks: list[tuple[float, str]], font: _Font) -> None:
        left = self.box[0]
        for value, text in ticks:
            row = self.at(self.x[0], value)[1]
            self.draw.line([(left - 4, row), (left, row)], fill=_FAINT)
            self.draw.text((left - 7, row), text, fill=_FAINT, font=font, anchor="rm")

    def caption(self, text: str, font: _Font) -> None:
        middle = self.box[0] + self.box[2] / 2
        self.draw.text((middle, self.box[1] - 6), text, fill=_INK, font=font, anchor="ms")

    def label(self, text: str, font: _Font) -> None:
        middle, bottom = self.box[0] + self.box[2] / 2, self.box[1] + self.box[3]
        self.draw.text((middle, bottom + 22), text, fill=_FAINT, font=font, anchor="ma")


def _draw_ratios(
    draw: ImageDraw.ImageDraw, band: BandResult, signal: np.ndarray, top: int, font: _Font
) -> None:
    quantity, stars = band.quantities["flux_ratio"], band.measured
    truth, ratio = stars["truth"], stars["flux"] / stars["truth"]
    low, high = (math.log10(value) for value in _range(truth))
    reach = _reach(quantity.value - 1.0, 0.1)
    left, width = _PLOTS[0]
    axes = _Axes(draw, (left, top, width, _PLOT_SIDE), (low, high), (1 - reach, 1 + reach))
    axes.rectangle((low, high), (1 - quantity.limit, 1 + quantity.limit), _LIMIT)
    axes.rectangle((low, high), (1.0, 1.0), _GRID)
    bright = signal >= BRIGHT
    axes.dots(np.log10(truth[~bright]), ratio[~bright], _FAINT_STAR)
    axes.dots(np.log10(truth[bright]), ratio[bright], _STAR)
    if math.isfinite(quantity.value):
        axes.rectangle((low, high), (quantity.value, quantity.value), _GOOD if quantity.passed else _BAD)
    axes.frame()
    ticks = [
        (math.log10(step) + power, f"{step * 10**power:,}")
        for power in range(math.floor(low), math.ceil(high) + 1)
        for step in (1, 3)
        if low <= math.log10(step) + power <= high and power >= 0
    ]
    axes.x_ticks(ticks, font)
    axes.y_ticks([(1 + part * reach, f"{1 + part * reach:.2f}") for part in (-1, -0.5, 0, 0.5, 1)], font)
    axes.caption("measured / catalog flux", font)
    axes.label(f"catalog flux, nJy; pale: signal to noise below {BRIGHT:g}", font)


def _draw_offsets(
    draw: ImageDraw.ImageDraw, band: BandResult, signal: np.ndarray, top: int, font: _Font
) -> None:
    stars = band.measured
    middle = [band.quantities[name] for name in ("offset_x_px", "offset_y_px")]
    reach = max(_reach(quantity.value, 0.2) for quantity in middle)
    left, width = _PLOTS[1]
    axes = _Axes(draw, (left, top, width, _PLOT_SIDE), (-reach, reach), (-reach, reach))
    limits = [(-quantity.limit, quantity.limit) for quantity in middle]
    axes.rectangle(limits[0], limits[1], _LIMIT)
    axes.rectangle((-reach, reach), (0, 0), _GRID)
    axes.rectangle((0, 0), (-reach, reach), _GRID)
    bright = signal >= BRIGHT
    axes.dots(stars["dx"][bright], stars["dy"][bright], _STAR)
    if all(math.isfinite(quantity.value) for quantity in middle):
        column, row = axes.at(middle[0].value, middle[1].value)
        colour = _GOOD if all(quantity.passed for quantity in middle) else _BAD
        draw.line([(column - 7, row), (column + 7, row)], fill=colour, width=3)
        draw.line([(column, row - 7), (column, row + 7)], fill=colour, width=3)
    axes.frame()
    ticks = [(part * reach, f"{part * reach:g}") for part in (-1, -0.5, 0, 0.5, 1)]
    axes.x_ticks(ticks, font)
    axes.y_ticks(ticks, font)
    axes.caption("offset from the target", font)
    axes.label("x, px (y upwards)", font)


def _draw_pulls(
    draw: ImageDraw.ImageDraw, band: BandResult, signal: np.ndarray, top: int, font: _Font
) -> None:
    stars = band.measured
    fair = (signal >= FAINTEST) & (signal <= TOO_BRIGHT)
    pulls = np.clip(((stars["flux"] - stars["truth"]) / stars["sigma"])[fair], -3.99, 3.99)
    counts, edges = np.histogram(pulls, bins=16, range=(-4, 4))
    expected = len(pulls) * 0.5 / math.sqrt(2 * math.pi)
    most = 1.15 * max(counts.max(initial=0), expected, 1.0)
    left, width = _PLOTS[2]
    axes = _Axes(draw, (left, top, width, _PLOT_SIDE), (-4, 4), (0, most))
    for count, first, last in zip(counts.tolist(), edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        if count:
            axes.rectangle((first + 0.04, last - 0.04), (0, count), _FAINT_STAR)
    curve = [axes.at(t, expected * math.exp(-0.5 * t * t)) for t in np.linspace(-4, 4, 81).tolist()]
    draw.line(curve, fill=_STAR, width=2)
    axes.frame()
    axes.x_ticks([(value, f"{value:g}") for value in (-4, -2, 0, 2, 4)], font)
    axes.caption("(measured - catalog) / sigma", font)
    axes.label(f"{len(pulls)} stars; curve: width 1", font)


def _range(values: np.ndarray) -> tuple[float, float]:
    if not len(values):
        return 1.0, 10.0
    low, high = float(values.min()), float(values.max())
    return low / 1.2, high * 1.2


def _reach(value: float, least: float) -> float:
    """Half the height of a plot that shows a value and its surroundings."""
    if not math.isfinite(value):
        return least
    return next((least * step for step in (1, 2, 5, 10, 20) if abs(value) <= 0.8 * least * step), 50 * least)
