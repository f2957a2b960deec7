# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Tiles come to their place on the canvas, are those of CFITSIO, and stay in
bounds whatever their bytes are.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import astropy.io.fits
import fitsio
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lsst.dax.bulkcutout.boxes import Box
from lsst.dax.bulkcutout.kernels import pixel_list, rice
from lsst.dax.bulkcutout.readers import PlainImageReader, open_image
from lsst.dax.bulkcutout.readers.fits_extension import walk_extensions
from lsst.dax.bulkcutout.readers.fits_file import FitsFile
from lsst.dax.bulkcutout.readers.pixel_plane import PixelPlane

GUARD = -77


def loaded(
    path: Path, dtype: Any = np.float32, canvas_dtype: Any = None, threads: int = 1
) -> tuple[Any, Any]:
    """Load all tiles of the first extension onto the middle of a canvas.

    Nothing around it may change. Returns pixels, and which are damaged.
    """
    with FitsFile(str(path)) as file:
        plane = PixelPlane(list(walk_extensions(file))[1], dtype=dtype)
        assert plane.tile_shape is not None
        (ny, nx), (ty, tx) = plane.shape, plane.tile_shape
        around = np.full((ny + 4, nx + 6), GUARD, dtype=canvas_dtype or dtype)
        iy, ix = (index.ravel() for index in np.mgrid[: -(-ny // ty), : -(-nx // tx)])
        errors = plane.load_tiles(iy, ix, around[2:-2, 3:-3], (0, 0), np.full(iy.size, ny), threads=threads)
        damaged = np.zeros((ny, nx), dtype=bool)
        for index, error in errors.items():
            assert str(path) in str(error)
            y, x = iy[index] * ty, ix[index] * tx
            damaged[y : y + ty, x : x + tx] = True
    pixels = around[2:-2, 3:-3].copy()
    around[2:-2, 3:-3] = GUARD
    assert (around == GUARD).all()
    return pixels, damaged


def assert_same(found: np.ndarray, expected: np.ndarray) -> None:
    """Compare bit by bit, NaN patterns aside."""
    expected = expected.astype(found.dtype)
    np.testing.assert_array_equal(np.isnan(found), np.isnan(expected))
    numbers = ~np.isnan(expected)
    np.testing.assert_array_equal(found[numbers].view("u4"), expected[numbers].view("u4"))


@pytest.mark.parametrize("codec", ["RICE_1", "GZIP_2", None])
@pytest.mark.parametrize("tile", [(7, 9), (1, 61)])
def test_part_of_an_image_on_a_canvas(tmp_path: Path, codec: str | None, tile: tuple[int, int]) -> None:
    """Tiles are clipped to the canvas, rows after the last wanted one do not
    matter, and pixels outside of the tiles stay.
    """
    path = tmp_path / "image.fits"
    pixels = np.random.default_rng(1).normal(0, 9, (40, 61)).astype("f4")
    header = {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 10.0, "CRVAL2": 2.0}
    header |= {"CRPIX1": -99.0, "CRPIX2": -49.0, "CD1_1": -1e-4, "CD1_2": 0.0, "CD2_1": 0.0, "CD2_2": 1e-4}
    with fitsio.FITS(path, "rw") as file:
        file.write(
            pixels, compress=codec, tile_dims=tile, qlevel=8 if codec == "RICE_1" else None, header=header
        )
    stored = fitsio.read(path, ext=0 if codec is None else 1)
    with open_image(str(path)) as reader:
        assert isinstance(reader, PlainImageReader)
        bbox = reader.bbox
        within = Box(y0=bbox.y0 + 5, y1=bbox.y0 + 31, x0=bbox.x0 + 11, x1=bbox.x0 + 43)
        seen = Box(y0=bbox.y0 + 9, y1=bbox.y0 + 25, x0=bbox.x0 + 20, x1=bbox.x0 + 30)
        tiles = reader.tiles_touching(seen)
        for threads in (1, 3):
            canvas = np.full((26, 34), GUARD, dtype=np.float32)
            last_rows = [seen.y1] * len(tiles)
            errors = reader.load_tiles(
                "image", tiles, canvas[:, 1:-1], within, last_rows=last_rows, threads=threads
            )
            assert errors == []
            assert (canvas[:, 0] == GUARD).all() and (canvas[:, -1] == GUARD).all()
            touched = np.zeros(within.shape, dtype=bool)
            for index in tiles:
                part = reader.tile_box(*index).intersection(within)
                if part is not None:
                    touched[part.slices(within)] = True
            assert (canvas[:, 1:-1][~touched] == GUARD).all()
            np.testing.assert_array_equal(canvas[:, 1:-1][seen.slices(within)], stored[seen.slices(bbox)])


def test_canvas_wider_than_the_pixels_that_are_stored(tmp_path: Path) -> None:
    path = tmp_path / "mask.fits"
    pixels = np.random.default_rng(2).integers(0, 3000, (33, 21)).astype("i2")
    for codec in ("RICE_1", "PLIO_1", "GZIP_1", "GZIP_2", "HCOMPRESS_1"):
        with fitsio.FITS(path, "rw", clobber=True) as file:
            file.write(pixels, compress=codec, tile_dims=(8, 10))
        for dtype in ("i4", "i8"):
            found, damaged = loaded(path, np.int32, dtype)
            assert not damaged.any()
            np.testing.assert_array_equal(found, pixels)
        for dtype in ("f4", "f8"):
            np.testing.assert_array_equal(loaded(path, np.float32, dtype)[0], pixels)


def test_rows_of_a_canvas_must_be_contiguous(tmp_path: Path) -> None:
    path = tmp_path / "image.fits"
    with fitsio.FITS(path, "rw") as file:
        file.write(np.zeros((20, 20), "i4"), compress="RICE_1")
    with FitsFile(str(path)) as file:
        plane = PixelPlane(list(walk_extensions(file))[1], dtype=np.int32)
        with pytest.raises(ValueError, match="must be contiguous"):
            plane.load_part(slice(0, 20), slice(0, 20), np.zeros((20, 40), "i4")[:, ::2])


EXTREMES = {
    "u1": [0, 255],
    "i2": [-(2**15), 2**15 - 1, -1],
    "i4": [-(2**31), 2**31 - 1, -1],
}


@settings(max_examples=120, deadline=None)
@given(data=st.data())
def test_integers_of_any_content_and_tiles(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """As fitsio reads what fitsio, or astropy, wrote."""
    kind = data.draw(st.sampled_from(sorted(EXTREMES)))
    shape = data.draw(st.tuples(st.integers(1, 40), st.integers(1, 40)))
    tile = tuple(data.draw(st.integers(1, n)) for n in shape)
    limits = np.iinfo(kind)
    values = st.sampled_from(EXTREMES[kind]) | st.integers(limits.min, limits.max) | st.integers(0, 3)
    pixels = data.draw(hnp.arrays(kind, shape, elements=values, fill=st.integers(0, 1)))
    codec = data.draw(st.sampled_from(["RICE_1", "GZIP_1", "GZIP_2"]))
    path = tmp_path_factory.getbasetemp() / "integers.fits"
    if data.draw(st.booleans()):
        with fitsio.FITS(path, "rw", clobber=True) as file:
            file.write(pixels, compress=codec, tile_dims=tile)
    else:
        hdu = astropy.io.fits.CompImageHDU(pixels, compression_type=codec, tile_shape=tile)
        hdu.writeto(path, overwrite=True)
    np.testing.assert_array_equal(loaded(path, np.int32)[0], pixels)
    np.testing.assert_array_equal(fitsio.read(path, ext=1), pixels)
    assert_same(loaded(path, np.float32)[0], pixels)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_floats_of_any_content_and_tiles(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """NaN, infinities, constant tiles and numbers of any size."""
    shape = data.draw(st.tuples(st.integers(1, 40), st.integers(1, 40)))
    tile = tuple(data.draw(st.integers(1, n)) for n in shape)
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    pixels = rng.normal(data.draw(st.sampled_from([0.0, 1e4, -3e-7])), 1.0, shape).astype("f4")
    special = st.sampled_from([np.nan, np.inf, -np.inf, 0.0, -0.0, 3e38, 1e-40, 2.5])
    for _ in range(data.draw(st.integers(0, 3))):
        y, x = (data.draw(st.integers(0, n - 1)) for n in shape)
        pixels[y : y + data.draw(st.integers(1, 20)), x : x + 9] = data.draw(special)
    codec = data.draw(st.sampled_from(["RICE_1", "GZIP_1", "GZIP_2"]))
    dither = data.draw(st.sampled_from(["NO_DITHER", "SUBTRACTIVE_DITHER_1", "SUBTRACTIVE_DITHER_2"]))
    level = data.draw(st.sampled_from([16, 1, -0.5] + ([None] if codec != "RICE_1" else [])))
    seed = data.draw(st.integers(1, 10_000))
    path = tmp_path_factory.getbasetemp() / "floats.fits"
    with fitsio.FITS(path, "rw", clobber=True) as file:
        file.write(pixels, compress=codec, tile_dims=tile, qlevel=level, qmethod=dither, dither_seed=seed)
    found, damaged = loaded(path)
    assert not damaged.any()
    assert_same(found, fitsio.read(path, ext=1))


# Codec, type, and options of the writer: 16,384 tiles each, for a fuzz of
# more than 100,000.
FUZZED = {
    "rice of 32 bits": ("RICE_1", "i4", {}),
    "rice of 16 bits": ("RICE_1", "i2", {}),
    "rice of 8 bits": ("RICE_1", "u1", {}),
    "rice of floats": ("RICE_1", "f4", {"qlevel": 16, "qmethod": "SUBTRACTIVE_DITHER_2"}),
    "gzip 1": ("GZIP_1", "i4", {}),
    "gzip 2 of floats": ("GZIP_2", "f4", {"qlevel": None}),
    "pixel lists": ("PLIO_1", "i4", {}),
    "hcompress": ("HCOMPRESS_1", "i4", {}),
}
SIDE, TILE = 1024, 8


@pytest.mark.parametrize("what", FUZZED)
def test_damaged_tiles_stay_in_bounds(what: str, tmp_path: Path) -> None:
    """Each tile but one of sixteen is damaged, all in one file: flips,
    garbage, streams that are cut or shifted, or claim what is not theirs.
    Those that are in order have their pixels, and what is around the canvas
    stays.
    """
    codec, kind, options = FUZZED[what]
    rng = np.random.default_rng(sorted(FUZZED).index(what))
    pixels = rng.normal(60, 9, (SIDE, SIDE)).astype(kind)
    path = tmp_path / "tiles.fits"
    with fitsio.FITS(path, "rw") as file:
        file.write(pixels, compress=codec, tile_dims=(TILE, TILE), **options)
    dtype = np.float32 if kind == "f4" else np.int32
    good, damaged = loaded(path, dtype)
    assert not damaged.any()
    with astropy.io.fits.open(path, disable_image_compression=True) as hdus:
        start, header = hdus[1].fileinfo()["datLoc"], hdus[1].header
    width, n_tiles = header["NAXIS1"], header["NAXIS2"]
    assert n_tiles == (SIDE // TILE) ** 2
    content = np.fromfile(path, "u1")
    rows = content[start : start + width * n_tiles].reshape(n_tiles, width)
    places = rows[:, :8].copy().view(">i4").astype("i8")
    heap_size = header["PCOUNT"]
    harm = rng.integers(0, 16, n_tiles)
    for tile in np.flatnonzero(harm > 0).tolist():
        count, offset = places[tile]
        at = start + width * n_tiles + offset + int(rng.integers(count))
        end = start + width * n_tiles + offset + count
        if harm[tile] < 5:
            content[at] ^= 1 << int(rng.integers(8))
        elif harm[tile] < 9:
            stop = min(end, at + int(rng.integers(1, 40)))
            content[at:stop] = rng.integers(0, 256, stop - at)
        elif harm[tile] < 11:
            content[at:end] = rng.choice([0, 255])
        elif harm[tile] < 13:
            places[tile, 0] = rng.integers(0, count)
        elif harm[tile] < 14:
            places[tile, 1] = rng.integers(0, heap_size)
        elif harm[tile] < 15:
            places[tile, 0] = count + rng.integers(1, 60)
        else:
            places[tile] = rng.integers(-(2**31), 2**31, 2)
    rows[:, :8] = places.astype(">i4").view("u1").reshape(n_tiles, 8)
    content.tofile(path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found, damaged = loaded(path, dtype, threads=2)
    by_tile = [
        array.reshape(SIDE // TILE, TILE, SIDE // TILE, TILE).swapaxes(1, 2).reshape(n_tiles, -1)
        for array in (found.view("u4"), good.view("u4"), damaged)
    ]
    intact = harm == 0
    np.testing.assert_array_equal(by_tile[0][intact], by_tile[1][intact])
    assert not by_tile[2][intact].any()
    assert by_tile[2].any(axis=1).sum() > n_tiles / 20
    if codec.startswith("GZIP"):
        # The checksum of a stream tells; without it other values are what
        # damage comes to. (Of a wrong count the stream knows nothing.)
        told = by_tile[2].any(axis=1) | (by_tile[0] == by_tile[1]).all(axis=1) | (harm == 13)
        assert told.all()


@pytest.fixture
def interpreted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run decoders as Python, which sees each index."""

    def load(stream: np.ndarray, place: int) -> np.uint64:
        assert 0 <= place <= len(stream) - 8
        return np.uint64(int.from_bytes(stream[place : place + 8].tobytes(), "big"))

    monkeypatch.setattr(rice, "big_endian_64", load)
    monkeypatch.setattr(rice, "leading_zeros", lambda word: np.uint64(64 - int(word).bit_length()))
    for module, names in (
        (rice, ("_fill", "_difference")),
        (pixel_list, ("_word", "_signed", "_instructions")),
    ):
        for name in names:
            monkeypatch.setattr(module, name, getattr(module, name).py_func)


@pytest.mark.usefixtures("interpreted")
@pytest.mark.parametrize("pixel_bytes", [1, 2, 4])
def test_rice_decoder_stays_in_its_bytes(pixel_bytes: int) -> None:
    """Whatever follows the stream, and however long its codes are: also those
    of 94 bits, of which a whole block begins at its end.
    """
    rng = np.random.default_rng(pixel_bytes)
    code_bits = {1: 3, 2: 4, 4: 5}[pixel_bytes]
    for case in range(80):
        block, stop = int(rng.choice([1, 7, 32, 200])), int(rng.integers(pixel_bytes, 40))
        n_bytes = stop + 8 * block + rice.MARGIN
        code = (1 << code_bits) - 1 if case % 2 else int(rng.integers(1 << code_bits))
        step = "0" * int(rng.integers(63)) + "1" + "1" * max(0, code - 1)
        bits = "1" * (8 * pixel_bytes) + f"{code:0{code_bits}b}" + step * (8 * n_bytes // len(step))
        # No more than the decoder asks for.
        stream = np.frombuffer(
            int(bits[: 8 * n_bytes].ljust(8 * n_bytes, "0"), 2).to_bytes(n_bytes, "big"), "u1"
        )
        pixels = np.zeros(300, dtype="i4")
        with np.errstate(over="ignore"):
            rice.unrice.py_func(stream, 0, stop, block, pixel_bytes, 300, 300, pixels)


@pytest.mark.usefixtures("interpreted")
def test_pixel_list_decoder_stays_in_its_bytes() -> None:
    rng = np.random.default_rng(6)
    for _ in range(300):
        stream = rng.integers(0, 256, int(rng.integers(0, 40))).astype("u1")
        if len(stream) > 6 and rng.random() < 0.8:
            stream[4:6] = 0, len(stream) // 2
            stream[6::2] &= 0x7F
        pixels = np.zeros(30, dtype="i4")
        unplio = pixel_list.unplio.py_func
        unplio(stream, 0, len(stream), 30, pixels)


def test_header_does_not_decide_how_much_memory_is_taken(tmp_path: Path) -> None:
    """Of a tile with many more pixels than its bytes can hold."""
    path = tmp_path / "tile.fits"
    hdu = astropy.io.fits.CompImageHDU(
        np.ones((20, 20), "i4"), compression_type="RICE_1", tile_shape=(20, 20)
    )
    hdu.writeto(path)
    content = path.read_bytes()
    for card in (b"ZNAXIS1", b"ZNAXIS2", b"ZTILE1", b"ZTILE2"):
        old = card.ljust(8) + b"=                   20"
        assert content.count(old) == 1
        content = content.replace(old, old[:-6] + b"200000")
    path.write_bytes(content)
    with FitsFile(str(path)) as file:
        plane = PixelPlane(list(walk_extensions(file))[1], dtype=np.int32)
        assert plane.shape == (200_000, 200_000)
        zero = np.zeros(1, dtype=np.int64)
        (error,) = plane.load_tiles(zero, zero, np.zeros((5, 5), "i4"), (0, 0), zero + 5).values()
    assert "bytes are too few for its pixels" in str(error)
