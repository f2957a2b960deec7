# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""From the decoded rows of an image into cutouts, and what their pixels tell.

A box is a row ``(y0, y1, x0, x1)`` of absolute pixels, half open: those that
a cutout is to have of the image. Everything else in it is fill.
"""

from __future__ import annotations

import numpy as np

from .compiled import compiled

__all__ = ("gather", "mark_no_data", "move_bits", "tally", "touch_tiles")

_EXPONENT = np.uint32(0x7F800000)
"""All ones in a float that is infinite or no number."""


@compiled
def touch_tiles(boxes: np.ndarray, rows: np.ndarray, columns: np.ndarray, stops: np.ndarray) -> None:
    """Find the tiles that boxes touch.

    Parameters
    ----------
    boxes
        Shape ``(n, 4)``; empty ones touch nothing.
    rows, columns
        Where tiles begin in y and x, and where the last ones end, ascending;
        shapes ``(ny + 1,)`` and ``(nx + 1,)``.
    stops
        For each tile ``(iy, ix)`` the absolute row after the last that any
        box wants; it is raised in place.
    """
    ny, nx = min(stops.shape[0], len(rows) - 1), min(stops.shape[1], len(columns) - 1)
    for k in range(boxes.shape[0]):
        a0, a1, b0, b1 = boxes[k, 0], boxes[k, 1], boxes[k, 2], boxes[k, 3]
        if a0 >= a1 or b0 >= b1:
            continue
        iy0, iy1 = np.searchsorted(rows, a0, side="right") - 1, np.searchsorted(rows, a1)
        ix0, ix1 = np.searchsorted(columns, b0, side="right") - 1, np.searchsorted(columns, b1)
        for iy in range(max(0, iy0), min(ny, iy1)):
            stop = min(a1, rows[iy + 1])
            for ix in range(max(0, ix0), min(nx, ix1)):
                stops[iy, ix] = max(stops[iy, ix], stop)


@compiled
def gather(
    canvas: np.ndarray,
    y0: int,
    x0: int,
    boxes: np.ndarray,
    first_y: np.ndarray,
    first_x: np.ndarray,
    fill: np.ndarray,
    out: np.ndarray,
) -> None:
    """Copy pixels of an image into cutouts.

    Parameters
    ----------
    canvas
        Pixels of the image, shape ``(rows, columns)``, contiguous.
    y0, x0
        Absolute position of its first pixel.
    boxes
        Pixels that each cutout is to have, shape ``(n, 4)``; what of them the
        canvas does not have is fill.
    first_y, first_x
        First pixel of each cutout, shape ``(n,)``.
    fill
        Value of all other pixels, shape ``(1,)``.
    out
        Cutouts, shape ``(n, rows, columns)``, contiguous; every pixel is
        written.
    """
    ny, nx = canvas.shape
    n, my, mx = out.shape
    source, target, value = canvas.reshape(ny * nx), out.reshape(n * my * mx), fill[0]
    for k in range(n):
        j, i = first_y[k], first_x[k]
        # In pixels of the cutout.
        a0, a1 = max(boxes[k, 0], j, y0) - j, min(boxes[k, 1], j + my, y0 + ny) - j
        b0, b1 = max(boxes[k, 2], i, x0) - i, min(boxes[k, 3], i + mx, x0 + nx) - i
        if a0 > 0 or b0 > 0 or a1 < my or b1 < mx:
            out[k] = value
        if b0 >= b1:
            continue
        # Unsigned, because numba looks whether a signed index counts from the
        # end, and then no vector instructions are left.
        width = np.uintp(b1 - b0)
        for y in range(a0, a1):
            start = np.uintp((j + y - y0) * nx + i + b0 - x0)
            place = np.uintp((k * my + y) * mx + b0)
            for x in range(width):
                target[place + np.uintp(x)] = source[start + np.uintp(x)]


@compiled
def move_bits(mask: np.ndarray, places: np.ndarray, out: np.ndarray) -> None:
    """Move the bits of masks to other places.

    Parameters
    ----------
    mask
        Integers, shape ``(n,)``.
    places
        What each of 64 bits becomes, uint64; 0 for nothing.
    out
        Integers, shape ``(n,)``; it may be ``mask``.
    """
    for k in range(min(mask.size, out.size)):
        left, moved, bit = np.uint64(mask[k]), np.uint64(0), 0
        while left:
            if left & np.uint64(1):
                moved |= places[bit]
            left >>= np.uint64(1)
            bit += 1
        out[k] = moved


@compiled
def mark_no_data(image: np.ndarray, no_data: int, mask: np.ndarray) -> None:
    """Make the mask of an image that has none.

    Parameters
    ----------
    image
        Bits of float32 as uint32, shape ``(n,)``.
    no_data
        Value where the image is no finite number; 0 elsewhere.
    mask
        Integers, shape ``(n,)``, written.
    """
    for k in range(min(image.size, mask.size)):
        mask[k] = no_data if image[k] & _EXPONENT == _EXPONENT else 0


@compiled
def tally(
    image: np.ndarray,
    mask: np.ndarray,
    no_data: int,
    inexact: int,
    own_pixel: np.ndarray,
    n_valid: np.ndarray,
    n_inexact: np.ndarray,
    own_valid: np.ndarray,
) -> None:
    """Count in one pass what the pixels of cutouts tell.

    Parameters
    ----------
    image
        Bits of float32 as uint32, shape ``(n, pixels)``.
    mask
        Integers of the same shape.
    no_data, inexact
        Bits of the mask that count.
    own_pixel
        One pixel of each cutout, shape ``(n,)``.
    n_valid, n_inexact
        How many pixels are finite and have not ``no_data``, and how many have
        ``inexact``; shape ``(n,)``, written.
    own_valid
        Whether that one pixel is valid, shape ``(n,)``, written.
    """
    n, n_pixels = image.shape
    for k in range(n):
        floats, bits = image[k], mask[k]
        valid = other = 0
        for x in range(n_pixels):
            if (floats[x] & _EXPONENT != _EXPONENT) & (bits[x] & no_data == 0):
                valid += 1
            if bits[x] & inexact != 0:
                other += 1
        n_valid[k], n_inexact[k] = valid, other
        own = own_pixel[k]
        own_valid[k] = (
            0 <= own < n_pixels and floats[own] & _EXPONENT != _EXPONENT and bits[own] & no_data == 0
        )
