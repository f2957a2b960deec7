# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""A picture of the sky: where the targets are, and which images cover them.

North is up and right ascension runs to the left, as on the sky.  The
projection is of equal areas: Lambert's around the middle of the images, or
Hammer's where they are spread over more than a quarter of the sky.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

__all__ = ("Outline", "SkyPicture")

WIDTH, HEIGHT = 1100, 880
FRAME = (90, 60, 1070, 720)
"""Left, top, right and bottom of the map, picture pixels."""

CELL = 3
"""Targets are counted in squares of so many picture pixels."""

WIDE_DEG = 55.0
"""From this radius on, the map is one of the whole sky."""

_STEPS_DEG = tuple(a * 10.0**b for b in range(-4, 2) for a in (1, 2, 5)) + (30.0, 60.0)
_WHITE, _INK, _GRID, _REFUSED = (255, 255, 255), (40, 40, 40), (205, 205, 205), (214, 39, 40)
_FEWEST, _ALL = (250, 214, 165), (222, 231, 241)
_DENSITY = ((122, 209, 81), (34, 168, 132), (42, 120, 142), (65, 68, 135), (60, 10, 80))
"""Colours from the fewest targets in a cell to the most."""

_POINT = (65, 68, 135)
"""Colour of targets that are so few that each is drawn."""

_TARGETS_IN_CELL = 4.0
"""Cells are made larger until those with targets have so many on average."""

_GROW = (1, 2, 3, 4, 6)
MOST_TRACTS_NAMED = 40

NEAR_FRAME = 15
"""Lines of the grid that end so near to the frame are labelled outside."""

POINTS = 6
"""Points along each edge of an outline."""


@dataclasses.dataclass(frozen=True)
class Outline:
    """The image of a patch on the sky."""

    tract: int
    """Tract identifier."""

    corners: np.ndarray
    """Right ascension and declination, degrees, shape ``(k, 2)``."""

    n_bands: int
    """Number of bands in which there is an image."""


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
        corners = _vectors(*np.concatenate([outline.corners for outline in outlines]).T)
        middle = corners.mean(axis=0)
        length = np.linalg.norm(middle)
        self._middle = middle / length if length > 1e-6 else np.array([1.0, 0.0, 0.0])
        radius = math.degrees(math.acos(float(np.clip((corners @ self._middle).min(), -1.0, 1.0))))
        self._is_wide = radius > WIDE_DEG
        if self._is_wide:
            self._middle = _vectors(np.degrees(np.arctan2(self._middle[1], self._middle[0])), 0.0)
        self._basis = _basis(self._middle)
        x, y = self._project(corners)
        if self._is_wide:
            low, high = (
                np.array([-2 * math.sqrt(2), -math.sqrt(2)]),
                np.array([2 * math.sqrt(2), math.sqrt(2)]),
            )
        else:
            low, high = np.array([x.min(), y.min()]), np.array([x.max(), y.max()])
        span = np.array([FRAME[2] - FRAME[0], FRAME[3] - FRAME[1]])
        # Radians of the sky in a picture pixel, with some room around.
        self._scale = float((1.06 * (high - low) / span).max())
        self._origin = (low + high) / 2
        self._shape = tuple(int(n) // CELL for n in span[::-1])
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
        column, row = self._pixels(ra[good], dec[good])
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
        used = self._draw_outlines(draw)
        most = self._draw_cells(image)
        self._draw_grid(draw)
        self._draw_tracts(draw)
        draw.rectangle((0, 0, WIDTH, FRAME[1] - 1), fill=_WHITE)
        draw.rectangle(FRAME, outline=_INK)
        draw.text((FRAME[0], 22), title, fill=_INK, font=ImageFont.load_default(size=19))
        self._draw_legend(draw, used, most)
        image.save(path, "PNG")

    def _project(self, vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Map plane, radians: x to the west, y to the north."""
        east, north, towards = (vectors @ self._basis.T).T
        if self._is_wide:
            lon, lat = np.arctan2(east, towards), np.arcsin(np.clip(north, -1.0, 1.0))
            factor = np.sqrt(2.0 / (1.0 + np.cos(lat) * np.cos(lon / 2)))
            return -2.0 * factor * np.cos(lat) * np.sin(lon / 2), factor * np.sin(lat)
        with np.errstate(invalid="ignore", divide="ignore"):
            factor = np.sqrt(2.0 / (1.0 + towards))
        return -factor * east, factor * north

    def _pixels(self, ra: np.ndarray, dec: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Column and row in the picture."""
        x, y = self._project(_vectors(ra, dec))
        column = (FRAME[0] + FRAME[2]) / 2 + (x - self._origin[0]) / self._scale
        row = (FRAME[1] + FRAME[3]) / 2 - (y - self._origin[1]) / self._scale
        return column, row

    def _draw_outlines(self, draw: ImageDraw.ImageDraw) -> list[int]:
        # Where patches overlap, those that lack bands lie on top.
        outlines = sorted(self._outlines, key=lambda each: -each.n_bands)
        columns, rows = self._pixels(*np.concatenate([_along(outline.corners) for outline in outlines]).T)
        ends = np.cumsum([POINTS * len(outline.corners) for outline in outlines])[:-1]
        for outline, column, row in zip(outlines, np.split(columns, ends), np.split(rows, ends), strict=True):
            # What goes around the back of the sky has no shape here.
            most = (FRAME[2] - FRAME[0]) * (0.1 if self._is_wide else 10.0)
            if np.isfinite(column).all() and np.ptp(column) < most:
                points = list(zip(column.tolist(), row.tolist(), strict=True))
                colour = self._coverage_colour(outline.n_bands)
                draw.polygon(points, fill=colour, outline=_darker(colour))
        return sorted({outline.n_bands for outline in self._outlines}, reverse=True)

    def _draw_tracts(self, draw: ImageDraw.ImageDraw) -> None:
        """Write the number of each tract into its middle."""
        corners: dict[int, list[np.ndarray]] = {}
        for outline in self._outlines:
            corners.setdefault(outline.tract, []).append(_vectors(*outline.corners.T))
        if len(corners) > MOST_TRACTS_NAMED:
            return
        for tract, vectors in corners.items():
            x, y, z = np.concatenate(vectors).mean(axis=0)
            column, row = self._pixels(
                np.degrees(np.arctan2(y, x)), np.degrees(np.arctan2(z, np.hypot(x, y)))
            )
            font = ImageFont.load_default(size=15)
            draw.text(
                (float(column), float(row)), str(tract), fill=_INK, font=font, anchor="mm", stroke_width=3,
                stroke_fill=_WHITE,
            )  # fmt: skip

    def _coverage_colour(self, n_bands: int) -> tuple[int, int, int]:
        part = 1.0 if self._n_bands < 2 else (n_bands - 1) / (self._n_bands - 1)
        return _mixed(_FEWEST, _ALL, min(1.0, part))

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

    def _draw_grid(self, draw: ImageDraw.ImageDraw) -> None:
        font = ImageFont.load_default(size=14)
        dec0 = math.degrees(math.asin(self._middle[2]))
        ra0 = math.degrees(math.atan2(self._middle[1], self._middle[0])) % 360.0
        half = [math.degrees(self._scale) * (FRAME[n + 2] - FRAME[n]) / 2 for n in (0, 1)]
        low, high = (
            (-90.0, 90.0)
            if self._is_wide
            else (max(-90.0, dec0 - 1.2 * half[1]), min(90.0, dec0 + 1.2 * half[1]))
        )
        widest = min(180.0, 1.3 * half[0] / max(1e-6, math.cos(math.radians(max(abs(low), abs(high))))))
        if self._is_wide or high >= 90.0 or low <= -90.0:
            widest = 180.0
        ra_step, dec_step = _step(2 * widest / 7), _step((high - low) / 6)
        for ra in _multiples(ra0 - widest, ra0 + widest, ra_step):
            dec = np.linspace(low, high, 400)
            self._draw_line(draw, np.full(400, ra), dec, _number(ra % 360.0, ra_step), font, axis=1)
        for dec_line in _multiples(low, high, dec_step):
            ra_values = np.linspace(ra0 - widest, ra0 + widest, 800)
            self._draw_line(
                draw, ra_values, np.full(800, dec_line), _number(dec_line, dec_step, sign=True), font, axis=0
            )
        draw.rectangle((0, FRAME[3] + 24, WIDTH, HEIGHT), fill=_WHITE)
        middle = (FRAME[0] + FRAME[2]) / 2
        draw.text((middle, FRAME[3] + 34), "right ascension (deg, ICRS)", fill=_INK, font=font, anchor="mt")
        sideways = Image.new("L", (200, 20), 0)
        ImageDraw.Draw(sideways).text((100, 10), "declination (deg)", fill=255, font=font, anchor="mm")
        turned = sideways.rotate(90, expand=True)
        draw.bitmap((12, (FRAME[1] + FRAME[3]) // 2 - 100), turned, fill=_INK)

    def _draw_line(
        self,
        draw: ImageDraw.ImageDraw,
        ra: np.ndarray,
        dec: np.ndarray,
        label: str,
        font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
        *,
        axis: int,
    ) -> None:
        """A line of the grid; axis 1 is labelled below, axis 0 at the left."""
        column, row = self._pixels(ra, dec)
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
        elif axis == 0 and (self._is_wide or column[end] - FRAME[0] < NEAR_FRAME):
            draw.text((FRAME[0] - 6, row[end]), label, fill=_INK, font=font, anchor="rm")
        else:
            # The line does not end at the frame: into the map, where lines of
            # right ascension are far from each other.
            if axis == 1:
                middle = (FRAME[0] + FRAME[2]) / 2, (FRAME[1] + FRAME[3]) / 2
                away = np.hypot(column[places] - middle[0], row[places] - middle[1])
                end = places[np.argmin(np.abs(dec[places])) if self._is_wide else np.argmax(away)]
            draw.text(
                (column[end], row[end]), label, fill=_INK, font=font, anchor="mm", stroke_width=2,
                stroke_fill=_WHITE,
            )  # fmt: skip

    def _draw_legend(self, draw: ImageDraw.ImageDraw, used: Sequence[int], most: int) -> None:
        font = ImageFont.load_default(size=14)
        top, left = FRAME[3] + 70, FRAME[0]
        for n, n_bands in enumerate(used[:6]):
            box = (left, top + 22 * n, left + 22, top + 22 * n + 14)
            colour = self._coverage_colour(n_bands)
            draw.rectangle(box, fill=colour, outline=_darker(colour))
            what = f"images in {n_bands} of {self._n_bands} band{'s' if self._n_bands > 1 else ''}"
            draw.text((left + 30, box[1] + 7), what, fill=_INK, font=font, anchor="lm")
        left += 330
        if most > 1:
            steps = 160
            for n in range(steps):
                count = np.array([[most ** (n / (steps - 1))]])
                red, green, blue = _density_colours(count, most)[0, 0].tolist()
                draw.rectangle((left + n, top, left + n + 1, top + 14), fill=(red, green, blue))
            area_arcmin2 = (self._cell * math.degrees(self._scale) * 60.0) ** 2
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


def _vectors(ra: np.ndarray | float, dec: np.ndarray | float) -> np.ndarray:
    lon, lat = np.radians(ra), np.radians(dec)
    return np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], axis=-1)


def _basis(middle: np.ndarray) -> np.ndarray:
    """Unit vectors to the east, to the north and towards a point."""
    pole = (
        np.array([0.0, 0.0, 1.0])
        if abs(middle[2]) < 1 - 1e-9
        else np.array([-math.copysign(1, middle[2]), 0.0, 0.0])
    )
    east = np.cross(pole, middle)
    east /= np.linalg.norm(east)
    return np.stack([east, np.cross(middle, east), middle])


def _along(corners: np.ndarray) -> np.ndarray:
    """Points on the edges of a polygon, which are great circles."""
    vectors = _vectors(*corners.T)
    parts = np.arange(POINTS)[:, np.newaxis] / POINTS
    points = vectors[:, np.newaxis] + parts * (np.roll(vectors, -1, axis=0) - vectors)[:, np.newaxis]
    x, y, z = points.reshape(-1, 3).T
    return np.degrees(np.stack([np.arctan2(y, x), np.arctan2(z, np.hypot(x, y))], axis=-1))


def _mixed(first: Sequence[int], second: Sequence[int], part: float) -> tuple[int, int, int]:
    red, green, blue = (round(a + part * (b - a)) for a, b in zip(first, second, strict=True))
    return red, green, blue


def _darker(colour: Sequence[int]) -> tuple[int, int, int]:
    return _mixed(colour, (0, 0, 0), 0.15)


def _density_colours(counts: np.ndarray, most: int) -> np.ndarray:
    """Colours of counts, in steps of equal ratios, shape ``(..., 3)``."""
    part = np.log(np.maximum(counts, 1)) / math.log(max(most, 2))
    places = np.linspace(0.0, 1.0, len(_DENSITY))
    channels = [np.interp(part, places, [colour[n] for colour in _DENSITY]) for n in range(3)]
    return np.stack(channels, axis=-1).astype(np.uint8)


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


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.2g}"


def _runs(flags: np.ndarray) -> Iterator[tuple[int, int]]:
    """Start and end of each run of true values."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8)))
    yield from zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True)
