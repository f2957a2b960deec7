# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Cutting, against the plainest way of doing it: pixel by pixel."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import astropy.io.fits
import numpy as np
import pytest
from astropy.nddata import Cutout2D
from astropy.nddata.utils import NoOverlapError
from hypothesis import given, settings
from hypothesis import strategies as st

from lsst.dax.bulkcutout.boxes import Box
from lsst.dax.bulkcutout.errors import CorruptInputError
from lsst.dax.bulkcutout.extract import cut as extract
from lsst.dax.bulkcutout.extract.ahead import ahead
from lsst.dax.bulkcutout.extract.cut import cut
from lsst.dax.bulkcutout.extract.psf_kernels import psf_fwhm
from lsst.dax.bulkcutout.readers import open_image
from lsst.dax.bulkcutout.readers.tiles import TileGrid

BBOX = Box(y0=-20, y1=31, x0=400, x1=470)
TILE = (10, 16)


class TiledImage:
    """An image in memory, cut into tiles; some of them may be damaged."""

    bbox = BBOX
    tile_edges = TileGrid(BBOX, TILE).edges

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


def expected(image: TiledImage, plane: str, y: int, x: int, size: int, clip: Box | None = None) -> np.ndarray:
    """Cut pixel by pixel."""
    clip = clip or BBOX
    out = np.full((size, size), FILL[plane])
    for j in range(size):
        for i in range(size):
            if BBOX.y0 <= y + j < BBOX.y1 and BBOX.x0 <= x + i < BBOX.x1:
                if clip.y0 <= y + j < clip.y1 and clip.x0 <= x + i < clip.x1:
                    out[j, i] = image.pixels[plane][y + j - BBOX.y0, x + i - BBOX.x0]
    return out


positions = st.tuples(st.integers(-50, 50), st.integers(370, 500))
places = st.lists(positions, min_size=1, max_size=20)
tiles = st.tuples(st.integers(0, 5), st.integers(0, 4))


@settings(max_examples=150, deadline=None)
@given(
    places=places,
    size=st.sampled_from([1, 2, 7, 24, 90]),
    memory=st.sampled_from([1, 20_000, 10**9]),
    block=st.sampled_from([None, 1, 3_000]),
    threads=st.integers(1, 3),
    damaged=st.lists(tiles, max_size=2),
    data=st.data(),
)
def test_every_pixel_is_that_of_the_image(
    places: list[tuple[int, int]],
    size: int,
    memory: int,
    block: int | None,
    threads: int,
    damaged: list[tuple[int, int]],
    data: st.DataObject,
) -> None:
    """At edges, outside, overlapping, larger than tiles and the image, with
    only a part that is wanted, on damaged tiles; whatever fits into memory.
    """
    image = TiledImage(damaged)
    first_y, first_x = np.array(places).T
    clips = None
    if data.draw(st.booleans()):
        sides = st.tuples(st.integers(1, 60), st.integers(1, 60))
        shapes = data.draw(st.lists(st.tuples(positions, sides), min_size=len(places), max_size=len(places)))
        clips = [Box(y0=y, y1=y + ny, x0=x, x1=x + nx) for (y, x), (ny, nx) in shapes]
    blocks = cut(
        image,
        first_y=first_y,
        first_x=first_x,
        size=size,
        fill=FILL,
        memory_bytes=memory,
        block_bytes=block,
        clips=clips,
        threads=threads,
    )
    seen = []
    for found in ahead(blocks, threads=threads):
        assert (np.diff(found.index) > 0).all()
        for row, member in enumerate(found.index.tolist()):
            seen.append(member)
            (y, x), clip = places[member], clips[member] if clips else BBOX
            box = Box(y0=y, y1=y + size, x0=x, x1=x + size).intersection(clip)
            hurt = box is not None and any(box.intersection(image.tile_box(*tile)) for tile in damaged)
            assert found.damaged[row] == hurt
            for plane, value in FILL.items():
                pixels = expected(image, plane, y, x, size, clip)
                np.testing.assert_array_equal(
                    found.pixels[plane][row], np.full_like(pixels, value) if hurt else pixels
                )
    assert sorted(seen) == list(range(len(places)))
    # However little fits into memory, no tile is decoded twice.
    assert len(set(image.reads)) == len(image.reads)


@settings(max_examples=25, deadline=None)
@given(
    corners=st.lists(st.tuples(st.integers(-30, 140), st.integers(-30, 180)), min_size=1, max_size=30),
    size=st.sampled_from([1, 9, 40]),
    memory=st.sampled_from([1, 10**9]),
    threads=st.integers(1, 2),
)
def test_cutouts_of_a_compressed_file_are_those_of_astropy(
    compressed: tuple[Path, np.ndarray],
    corners: list[tuple[int, int]],
    size: int,
    memory: int,
    threads: int,
) -> None:
    """Quantised with dither, with holes; by `astropy.nddata.Cutout2D`."""
    path, pixels = compressed
    y, x = np.array(corners).T
    with open_image(str(path)) as image:
        found = np.empty((len(y), size, size), dtype=np.float32)
        for block in cut(
            image,
            first_y=y + image.bbox.y0,
            first_x=x + image.bbox.x0,
            size=size,
            fill={"image": np.float32(np.nan)},
            memory_bytes=memory,
            threads=threads,
        ):
            found[block.index] = block.pixels["image"]
    for (y0, x0), one in zip(corners, found, strict=True):
        # Of a position in the middle of the cutout's middle pixel.
        middle = (x0 + size // 2, y0 + size // 2)
        try:
            theirs = Cutout2D(pixels, middle, size, mode="partial", fill_value=np.nan).data
        except NoOverlapError:
            theirs = np.full((size, size), np.nan)
        np.testing.assert_array_equal(one, theirs)


@pytest.fixture(scope="module")
def compressed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray]:
    """A file with square tiles, and its pixels as astropy reads them."""
    path = tmp_path_factory.mktemp("compressed") / "image.fits"
    pixels = np.random.default_rng(3).normal(10.0, 2.0, size=(130, 171)).astype(np.float32)
    pixels[20:50, 60:64] = pixels[100, :] = np.nan
    header = astropy.io.fits.Header()
    header.update(CTYPE1="RA---TAN", CTYPE2="DEC--TAN", CRVAL1=10.0, CRVAL2=-3.0, CRPIX1=5.0, CRPIX2=7.0)
    header.update(CDELT1=-1e-4, CDELT2=1e-4, BUNIT="nJy")
    astropy.io.fits.CompImageHDU(
        pixels, header, tile_shape=(32, 48), compression_type="RICE_1", quantize_method=1, dither_seed=7
    ).writeto(path)
    return path, np.array(astropy.io.fits.getdata(path))


def test_bits_of_numbers_that_are_none_stay_as_they_are() -> None:
    image = TiledImage()
    bits = np.array([0x7FC00001, 0xFFFFFFFF, 0x7F800001, 0x80000000], dtype=np.uint32)
    image.pixels["image"][0, :4] = bits.view(np.float32)
    (block,) = cut(image, first_y=np.array([-20]), first_x=np.array([400]), size=4, fill=FILL, memory_bytes=1)
    assert block.pixels["image"][0, 0].view(np.uint32).tolist() == bits.tolist()


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


def test_things_come_in_order_and_an_error_at_its_place() -> None:
    """One is made while another is used, and no more."""
    made: list[int] = []

    def numbers() -> Iterator[int]:
        for number in range(4):
            made.append(number)
            yield number
        raise OSError("stale")

    for threads in (1, 2):
        made.clear()
        things = ahead(numbers(), threads=threads)
        seen = []
        with pytest.raises(OSError, match="stale"):
            for thing in things:
                seen.append(thing)
                assert len(made) <= thing + threads
        assert seen == [0, 1, 2, 3]
        made.clear()
        unfinished = ahead(numbers(), threads=threads)
        assert next(unfinished) == 0
        unfinished.close()  # type: ignore[attr-defined]
        assert len(made) <= threads


@pytest.mark.parametrize("sigma", [1.2, 1.7, 2.5])
def test_fwhm_of_a_gaussian_is_its_fwhm(sigma: float) -> None:
    y, x = np.mgrid[-20:21, -20:21]
    kernel = np.exp(-(x**2 + y**2) / (2 * sigma**2))
    holed = kernel.copy()
    holed[3, 3] = np.nan
    widths = psf_fwhm(np.stack([kernel, 5 * kernel, holed]), 0.2)
    assert widths[:2] == pytest.approx(2.354820045 * sigma * 0.2, rel=1e-4)
    assert np.isnan(widths[2])
