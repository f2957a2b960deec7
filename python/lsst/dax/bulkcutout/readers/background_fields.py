# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""The arithmetic of background models: functions of y and x, box by box.

It follows that of lsst.images step by step, also in its roundings to float32,
so that pixels come out the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from ..boxes import Box

__all__ = ("Chebyshev", "Field", "Product", "Spline", "Sum")


class Field(Protocol):
    """A function of the place."""

    def render(self, box: Box) -> np.ndarray:
        """Evaluate the function.

        Parameters
        ----------
        box
            Absolute pixels within the image.

        Returns
        -------
        values
            At the centres of the pixels, in the unit of the field, float32,
            of the box's shape.
        """


class Chebyshev:
    """A Chebyshev polynomial in y and x.

    Parameters
    ----------
    coefficients
        Element ``[p, q]`` belongs to ``T_p(y) T_q(x)``.
    bounds
        Pixels of which the arguments reach from -1 to 1, from the first
        pixel's outer edge to the last one's.

    Raises
    ------
    ValueError
        Raised if the coefficients are no matrix, or there are no pixels.
    """

    def __init__(self, coefficients: np.ndarray, bounds: Box) -> None:
        ny, nx = bounds.shape
        if ny <= 0 or nx <= 0:
            raise ValueError(f"the bounds {bounds} hold no pixel")
        if coefficients.ndim != 2 or not coefficients.size:
            raise ValueError(f"Chebyshev coefficients have the shape {coefficients.shape}")
        if not np.isfinite(coefficients).all():
            raise ValueError("a Chebyshev coefficient is not finite")
        self._coefficients = coefficients
        self._scale = (2.0 / ny, 2.0 / nx)
        self._middle = (bounds.y0 + 0.5 * ny - 0.5, bounds.x0 + 0.5 * nx - 0.5)

    def render(self, box: Box) -> np.ndarray:
        """Evaluate the polynomial.

        Parameters
        ----------
        box
            Absolute pixels.

        Returns
        -------
        values
            Float32, of the box's shape.
        """
        y = (np.arange(box.y0, box.y1, dtype=np.float64) - self._middle[0]) * self._scale[0]
        x = (np.arange(box.x0, box.x1, dtype=np.float64) - self._middle[1]) * self._scale[1]
        return np.asarray(np.polynomial.chebyshev.chebgrid2d(y, x, self._coefficients), dtype=np.float32)


class Spline:
    """Akima splines down the columns of a grid, then along the rows.

    Parameters
    ----------
    values
        Shape ``(len(y), len(x))``; NaN where there is no value.
    y, x
        Places of the grid, ascending.
    image
        Pixels of the image: no other row is asked for.

    Raises
    ------
    ValueError
        Raised if the grid is none, or leads to pixels that are not finite.
    """

    def __init__(self, values: np.ndarray, y: np.ndarray, x: np.ndarray, image: Box) -> None:
        if y.ndim != 1 or x.ndim != 1 or values.shape != y.shape + x.shape:
            raise ValueError(f"a grid of {values.shape} lies at {y.shape} and {x.shape} places")
        if not all(np.isfinite(places).all() and (np.diff(places) > 0).all() for places in (y, x)):
            raise ValueError("the places of a grid do not ascend")
        columns = np.flatnonzero(np.isfinite(values).any(axis=0))
        if not len(columns):
            raise ValueError("a grid has no value")
        self._image = image
        rows = np.arange(image.y0, image.y1)
        with np.errstate(over="ignore", invalid="ignore"):
            down = np.stack([_down(values[:, column], y, rows) for column in columns])
        if not np.isfinite(down).all():
            raise ValueError("a grid lies too far from the image")
        self._constant = down[0] if len(columns) == 1 else None
        """Values by row, where the grid has one column."""
        if self._constant is None:
            spline = _akima(x[columns], down)
            self._breaks, self._coefficients = np.asarray(spline.x), np.asarray(spline.c)

    def render(self, box: Box) -> np.ndarray:
        """Evaluate the splines.

        Parameters
        ----------
        box
            Absolute pixels within the image.

        Returns
        -------
        values
            Float32, of the box's shape.
        """
        rows, _ = box.slices(within=self._image)
        if self._constant is not None:
            return np.repeat(self._constant[rows, np.newaxis], box.shape[1], axis=1)
        x = np.arange(box.x0, box.x1)
        # The outermost intervals reach to infinity.
        interval = np.searchsorted(self._breaks, x, side="right") - 1
        interval = np.clip(interval, 0, len(self._breaks) - 2)
        step = (x - self._breaks[interval])[:, np.newaxis]
        third, second, first, constant = self._coefficients[:, interval, rows]
        # The lowest power first, as scipy does.
        square = step * step
        values = constant + first * step + second * square + third * (square * step)
        return np.ascontiguousarray(values.T, dtype=np.float32)


def _down(values: np.ndarray, places: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """A spline through one column of a grid, at the rows of the image."""
    good = np.isfinite(values)
    if good.sum() == 1:
        return np.full(len(rows), values[good][0], dtype=np.float32)
    spline = _akima(places[good], values[good])
    return np.asarray(spline(rows), dtype=np.float32)


def _akima(places: np.ndarray, values: np.ndarray) -> Any:
    # Imported here: few campaigns evaluate a background.
    from scipy.interpolate import Akima1DInterpolator  # type: ignore[import-untyped]

    return Akima1DInterpolator(places, values, extrapolate=True)


class Sum:
    """A sum of fields.

    Parameters
    ----------
    terms
        The fields.
    factors
        What takes each of them to the unit of the first one.
    """

    def __init__(self, terms: Sequence[Field], factors: Sequence[float]) -> None:
        self._terms = tuple(zip(terms, factors, strict=True))

    def render(self, box: Box) -> np.ndarray:
        """Evaluate the sum.

        Parameters
        ----------
        box
            Absolute pixels within the image.

        Returns
        -------
        values
            Float32, of the box's shape.
        """
        total = np.zeros(box.shape, dtype=np.float32)
        for term, factor in self._terms:
            total += term.render(box) if factor == 1.0 else term.render(box) * np.float32(factor)
        return total


class Product:
    """A product of fields.

    Parameters
    ----------
    terms
        The fields.
    """

    def __init__(self, terms: Sequence[Field]) -> None:
        self._terms = tuple(terms)

    def render(self, box: Box) -> np.ndarray:
        """Evaluate the product.

        Parameters
        ----------
        box
            Absolute pixels within the image.

        Returns
        -------
        values
            Float32, of the box's shape.
        """
        product = np.ones(box.shape, dtype=np.float32)
        for term in self._terms:
            product *= term.render(box)
        return product
