# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""The rule that places a cutout, against astropy's."""

from __future__ import annotations

import numpy as np
from astropy.nddata.utils import overlap_slices
from hypothesis import given
from hypothesis import strategies as st

from lsst.dax.bulkcutout.boxes import Box, first_pixel


@given(position=st.floats(-500, 40000), size=st.integers(1, 300))
def test_first_pixel_is_that_of_overlap_slices(position: float, size: int) -> None:
    """The expected value is astropy's, for a position that is already
    rounded and an array that the box touches.
    """
    position = round(position, 6)
    shape, shift = 42_000, 1_000
    (large,), (small,) = overlap_slices((shape,), (size,), (position + shift,), mode="partial")
    # Rounding to 1e-6 px after the shift may differ in the last digits.
    expected = large.start - small.start - shift
    assert first_pixel(position, size) == expected


def test_ties_do_not_flip_with_rounding_noise() -> None:
    """A target on a pixel border, as two machines may compute it."""
    noise = np.array([-4e-7, -1e-12, 0.0, 1e-12, 4e-7])
    assert len(set(first_pixel(100.5 + noise, 11).tolist())) == 1
    assert len(set(first_pixel(100.0 + noise, 10).tolist())) == 1


def test_target_lies_in_the_middle_of_its_box() -> None:
    for size in (1, 2, 9, 64):
        x = np.linspace(10, 12, 41)
        offset = x - first_pixel(x, size)
        assert (offset > size / 2 - 1 - 1e-6).all() and (offset <= size / 2 + 1e-6).all()


def test_intersection_and_slices() -> None:
    a = Box(y0=5, y1=15, x0=100, x1=130)
    b = Box(y0=12, y1=40, x0=90, x1=104)
    both = a.intersection(b)
    assert both == Box(y0=12, y1=15, x0=100, x1=104)
    assert both.shape == (3, 4)
    pixels = np.arange(10 * 30).reshape(a.shape)
    assert pixels[both.slices(a)][0, 0] == 7 * 30
    assert a.intersection(Box(y0=15, y1=20, x0=100, x1=101)) is None
