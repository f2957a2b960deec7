# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Cutting, against the plainest way of doing it: pixel by pixel."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lsst.dax.bulkcutout.boxes import Box
from lsst.dax.bulkcutout.errors import CorruptInputError
from lsst.dax.bulkcutout.extract import cut as extract
from lsst.dax.bulkcutout.extract.cut import cut
from lsst.dax.bulkcutout.extract.psf_kernels import psf_fwhm

BBOX = Box(y0=-20, y1=31, x0=400, x1=470)
TILE = (10, 16)


class TiledImage:
    """An image in memory, cut into tiles; some of them may be damaged."""

    bbox = BBOX
    tile_shape = TILE

    def __init__(self, damaged: Iterable[tuple[int, int]] = ()) -> None:
        rng = np.random.default_rng(5)
        self.pixels = {
            "image": rng.normal(size=BBOX.shape).astype(np.float32),
            "mask": rng.integers(0, 2**20, size=BBOX.shape).astype(np.int32),
        }
        self.damaged = set(damaged)
        self.reads: list[tuple[str, tuple[int, int]]] = []

    def tile_box(self, iy: int, ix: int) -> Box:
        box = Box(
            y0=BBOX.y0 + iy * TILE[0],
            y1=BBOX.y0 + (iy + 1) * TILE[0],
            x0=BBOX.x0 + ix * TILE[1],
            x1=BBOX.x0 + (ix + 1) * TILE[1],
        ).intersection(BBOX)
        assert box is not None
        return box

    def load_tiles(
        self,
        plane: str,
        tiles: Sequence[tuple[int, int]],
        canvas: np.ndarray,
        within: Box,
        *,
        last_rows: Sequence[int] | None = None,
        threads: int = 1,
    ) -> list[CorruptInputError]:
        assert last_rows is not None and len(last_rows) == len(tiles)
        errors = []
        for tile, last_row in zip(tiles, last_rows, strict=True):
            self.reads.append((plane, tile))
            box = self.tile_box(*tile)
            assert box.y0 < last_row <= box.y1
            if tile in self.damaged:
                errors.append(CorruptInputError("damaged", box=box))
                continue
            # What nobody wants may be anything.
            pixels = self.pixels[plane].copy()
            pixels[last_row - BBOX.y0 :] = 77
            if (part := box.intersection(within)) is not None:
                canvas[part.slices(within)] = pixels[part.slices(BBOX)]
        return errors


FILL = {"image": np.float32(np.nan), "mask": np.int32(1 << 8)}


def expected(image: TiledImage, plane: str, y: int, x: int, size: int) -> np.ndarray:
    out = np.full((size, size), FILL[plane])
    for j in range(size):
        for i in range(size):
            if BBOX.y0 <= y + j < BBOX.y1 and BBOX.x0 <= x + i < BBOX.x1:
                out[j, i] = image.pixels[plane][y + j - BBOX.y0, x + i - BBOX.x0]
    return out


places = st.lists(st.tuples(st.integers(-50, 50), st.integers(370, 500)), min_size=1, max_size=20)


@settings(max_examples=60)
@given(places=places, size=st.sampled_from([1, 2, 7, 24]), memory=st.sampled_from([1, 20_000, 10**9]))
def test_every_pixel_is_that_of_the_image(places: list[tuple[int, int]], size: int, memory: int) -> None:
    """At edges, outside, overlapping; whole image in memory or in strips."""
    image = TiledImage()
    first_y, first_x = np.array(places).T
    seen = []
    for block in cut(image, first_y=first_y, first_x=first_x, size=size, fill=FILL, memory_bytes=memory):
        assert not block.damaged.any()
        for row, member in enumerate(block.index.tolist()):
            seen.append(member)
            for plane in FILL:
                np.testing.assert_array_equal(
                    block.pixels[plane][row], expected(image, plane, *places[member], size)
                )
    assert sorted(seen) == list(range(len(places)))


def test_only_touched_tiles_are_decoded_and_each_once() -> None:
    image = TiledImage()
    y, x = np.array([-20, -19, 15]), np.array([400, 402, 450])
    list(cut(image, first_y=y, first_x=x, size=5, fill=FILL, memory_bytes=10**9))
    touched = {(0, 0), (3, 3)}
    assert sorted(image.reads) == sorted((plane, tile) for plane in FILL for tile in touched)


def test_blocks_and_strips_bound_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extract, "BLOCK_BYTES", 4 * 5 * 5 * 2)
    image = TiledImage()
    y, x = np.arange(-20, 20), np.full(40, 410)
    blocks = list(cut(image, first_y=y, first_x=x, size=5, fill=FILL, memory_bytes=1))
    assert max(len(block.index) for block in blocks) == 2
    assert sorted(np.concatenate([block.index for block in blocks])) == list(range(40))


def test_damaged_tile_costs_its_own_cutouts_alone() -> None:
    image = TiledImage(damaged=[(2, 1)])
    hurt = image.tile_box(2, 1)
    y = np.array([hurt.y0 + 2, hurt.y0 - 4, -20, hurt.y1 - 1])
    x = np.array([hurt.x0 + 2, hurt.x0, 400, hurt.x1 - 1])
    (block,) = cut(image, first_y=y, first_x=x, size=4, fill=FILL, memory_bytes=10**9)
    assert block.damaged.tolist() == [True, False, False, True]
    for row in (0, 3):
        assert np.isnan(block.pixels["image"][row]).all() and (block.pixels["mask"][row] == 1 << 8).all()
    for row in (1, 2):
        np.testing.assert_array_equal(
            block.pixels["image"][row], expected(image, "image", int(y[row]), int(x[row]), 4)
        )


def test_damage_without_a_place_is_that_of_the_image() -> None:
    class Broken(TiledImage):
        def load_tiles(self, *args: Any, **kwargs: Any) -> list[CorruptInputError]:
            raise CorruptInputError("no such plane")

    with pytest.raises(CorruptInputError, match="no such plane"):
        list(cut(Broken(), first_y=np.array([0]), first_x=np.array([410]), size=4, fill=FILL, memory_bytes=1))


def test_decoding_is_tried_again_after_an_error_of_storage() -> None:
    class Flaky(TiledImage):
        fails = 1

        def load_tiles(self, *args: Any, **kwargs: Any) -> list[CorruptInputError]:
            if self.fails:
                self.fails -= 1
                raise OSError("stale")
            return super().load_tiles(*args, **kwargs)

    def retry(action):
        try:
            action()
        except OSError:
            action()

    image = Flaky()
    (block,) = cut(
        image, first_y=np.array([0]), first_x=np.array([410]), size=4, fill=FILL, memory_bytes=1, retry=retry
    )
    np.testing.assert_array_equal(block.pixels["image"][0], expected(image, "image", 0, 410, 4))


@pytest.mark.parametrize("sigma", [1.2, 1.7, 2.5])
def test_fwhm_of_a_gaussian_is_its_fwhm(sigma: float) -> None:
    y, x = np.mgrid[-20:21, -20:21]
    kernel = np.exp(-(x**2 + y**2) / (2 * sigma**2))
    holed = kernel.copy()
    holed[3, 3] = np.nan
    widths = psf_fwhm(np.stack([kernel, 5 * kernel, holed]), 0.2)
    assert widths[:2] == pytest.approx(2.354820045 * sigma * 0.2, rel=1e-4)
    assert np.isnan(widths[2])
