# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Kernels of cutouts, against NumPy; also where they are told nonsense."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from lsst.dax.bulkcutout.kernels.gather import gather, mark_no_data, move_bits, tally, touch_tiles

far = st.one_of(st.integers(-9, 12), st.sampled_from([-(2**40), 2**40]))


@settings(deadline=None)
@given(
    boxes=st.lists(st.tuples(far, far, far, far), min_size=1, max_size=6),
    firsts=st.lists(st.tuples(st.integers(-12, 12), st.integers(-12, 12)), min_size=6, max_size=6),
    canvas=st.tuples(st.integers(0, 9), st.integers(0, 9)),
    cutout=st.tuples(st.integers(1, 8), st.integers(1, 8)),
    origin=st.tuples(st.integers(-5, 5), st.integers(-5, 5)),
    kind=st.sampled_from(["u4", "u8"]),
)
def test_cutouts_get_what_the_canvas_has_of_their_boxes(
    boxes: list[tuple[int, ...]],
    firsts: list[tuple[int, int]],
    canvas: tuple[int, int],
    cutout: tuple[int, int],
    origin: tuple[int, int],
    kind: str,
) -> None:
    """Boxes may be empty, upside down, or beyond the canvas and the cutout."""
    pixels = np.arange(1, 1 + np.prod(canvas), dtype=kind).reshape(canvas)
    y, x = np.array(firsts[: len(boxes)]).T
    out = np.zeros((len(boxes), *cutout), dtype=kind)
    fill = np.array([99], dtype=kind)
    gather(pixels, *origin, np.array(boxes), np.ascontiguousarray(y), np.ascontiguousarray(x), fill, out)
    for k, (y0, y1, x0, x1) in enumerate(boxes):
        for j, i in np.ndindex(*cutout):
            at = (int(y[k]) + j, int(x[k]) + i)
            there = (at[0] - origin[0], at[1] - origin[1])
            wanted = y0 <= at[0] < y1 and x0 <= at[1] < x1
            has = 0 <= there[0] < canvas[0] and 0 <= there[1] < canvas[1]
            assert out[k, j, i] == (pixels[there] if wanted and has else 99)


@settings(deadline=None)
@given(
    boxes=st.lists(st.tuples(*[st.integers(-9, 40)] * 4), max_size=6),
    sides=st.tuples(*[st.lists(st.integers(1, 9), min_size=1, max_size=5)] * 2),
)
def test_tiles_are_touched_where_boxes_have_their_pixels(
    boxes: list[tuple[int, ...]], sides: tuple[list[int], list[int]]
) -> None:
    edges = [np.cumsum([first, *of_axis]) for first, of_axis in zip((-3, 4), sides, strict=True)]
    before = -(10**6)
    stops = np.full((len(sides[0]), len(sides[1])), before)
    touch_tiles(np.array(boxes, dtype=np.int64).reshape(-1, 4), *edges, stops)
    for iy, ix in np.ndindex(stops.shape):
        rows, columns = range(*edges[0][iy : iy + 2]), range(*edges[1][ix : ix + 2])
        last = [
            y for y0, y1, x0, x1 in boxes for y in rows if y0 <= y < y1 and any(x0 <= x < x1 for x in columns)
        ]
        assert stops[iy, ix] == (max(last) + 1 if last else before)


@settings(deadline=None)
@given(seed=st.integers(0, 2**32), n=st.integers(0, 4), kind=st.sampled_from(["i4", "i8"]))
def test_pixels_are_counted_as_numpy_counts_them(seed: int, n: int, kind: str) -> None:
    rng = np.random.default_rng(seed)
    image = rng.choice(np.array([1, -0.0, np.nan, np.inf, -np.inf, 3e38], dtype="f4"), size=(n, 37))
    mask = rng.integers(0, 16, size=image.shape).astype(kind)
    own = rng.integers(0, 37, size=n)
    n_valid, n_inexact, own_valid = np.empty(n, dtype=int), np.empty(n, dtype=int), np.empty(n, dtype=bool)
    tally(image.view(np.uint32), mask, 4, 8, own, n_valid, n_inexact, own_valid)
    valid = np.isfinite(image) & ((mask & 4) == 0)
    np.testing.assert_array_equal(n_valid, valid.sum(axis=1))
    np.testing.assert_array_equal(n_inexact, ((mask & 8) != 0).sum(axis=1))
    np.testing.assert_array_equal(own_valid, valid[np.arange(n), own])
    # A place that no cutout has is no valid one.
    tally(image.view(np.uint32), mask, 4, 8, own + 37, n_valid, n_inexact, own_valid)
    assert not own_valid.any()
    marked = np.empty(image.size, dtype=kind)
    mark_no_data(image.view(np.uint32).ravel(), 16, marked)
    np.testing.assert_array_equal(marked, np.where(np.isfinite(image.ravel()), 0, 16))


@given(
    values=st.lists(st.integers(-(2**63), 2**63 - 1), max_size=20),
    order=st.permutations(range(64)),
    kept=st.integers(0, 64),
)
@settings(deadline=None)
def test_every_bit_moves_to_its_place(values: list[int], order: list[int], kept: int) -> None:
    places = np.array([1 << to if bit < kept else 0 for bit, to in enumerate(order)], dtype=np.uint64)
    out = np.empty(len(values), dtype=np.int64)
    move_bits(np.array(values, dtype=np.int64), places, out)
    for value, moved in zip(values, out.tolist(), strict=True):
        bits = {order[bit] for bit in range(kept) if value >> bit & 1}
        assert {bit for bit in range(64) if moved >> bit & 1} == bits
