# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Every FITS compression gives the pixels that CFITSIO and astropy give."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import astropy.io.fits
import fitsio
import numpy as np
import pytest
from astropy.io.fits.hdu.compressed import _compression
from hypothesis import given
from hypothesis import strategies as st

from lsst.dax.bulkcutout.errors import CorruptInputError, UserError
from lsst.dax.bulkcutout.kernels.pixel_list import unplio
from lsst.dax.bulkcutout.kernels.rice import MARGIN, unrice
from lsst.dax.bulkcutout.readers.fits_extension import walk_extensions
from lsst.dax.bulkcutout.readers.fits_file import FitsFile
from lsst.dax.bulkcutout.readers.hcompress_tile import unhcompress
from lsst.dax.bulkcutout.readers.pixel_plane import PixelPlane

SHAPE = (40, 53)
TILES = {"rows": (1, 53), "some rows": (8, 53), "squares": (16, 15), "one tile": SHAPE}
CODECS = ("RICE_1", "GZIP_1", "GZIP_2", "PLIO_1", "HCOMPRESS_1")
DITHERS = {"NO_DITHER": -1, "SUBTRACTIVE_DITHER_1": 1, "SUBTRACTIVE_DITHER_2": 2}


def numbers(kind: str, codec: str | None) -> np.ndarray:
    """Make pixels that the writers of a codec survive."""
    rng = np.random.default_rng(4)
    dtype = np.dtype(kind)
    if dtype.kind == "f":
        pixels = rng.normal(5.0, 20.0, SHAPE).astype(dtype)
        pixels[3:6, 10:20] = 0.0
        # A tile without noise cannot be quantized.
        pixels[:16, 30:45] = 2.5
        if codec != "HCOMPRESS_1":
            pixels[20:25, 30:40] = np.nan
        return pixels
    if codec == "HCOMPRESS_1":
        return rng.normal(100.0, 5.0, SHAPE).astype(dtype)
    low, high = (0, 4000) if dtype.kind == "u" or codec == "PLIO_1" else (-4000, 4000)
    if dtype.itemsize == 1:
        low, high = max(low // 40, -100), high // 40
    sparse = np.where(rng.random(SHAPE) < 0.1, rng.integers(low, high, SHAPE), 0)
    sparse[9, 4:30] = high
    return sparse.astype(dtype)


def read(path: Path, dtype: type[np.generic], hdu: int = 1) -> np.ndarray:
    """Read all pixels of an HDU by our own way."""
    with FitsFile(str(path)) as file:
        plane = PixelPlane(list(walk_extensions(file))[hdu], dtype=dtype)
        whole = plane.read(slice(0, plane.shape[0]), slice(0, plane.shape[1]))
        part = plane.read(slice(5, 30), slice(7, 50))
        np.testing.assert_array_equal(part, whole[5:30, 7:50])
        return whole


def check(path: Path, expected: np.ndarray, what: Any, hdu: int = 1) -> None:
    """Compare bit for bit, as image and, if it can be one, as mask."""
    found = read(path, np.float32, hdu)
    np.testing.assert_array_equal(
        found.view("u4")[~np.isnan(found)],
        expected.astype("f4").view("u4")[~np.isnan(expected)],
        err_msg=str(what),
    )
    np.testing.assert_array_equal(np.isnan(found), np.isnan(expected), err_msg=str(what))
    if expected.dtype.kind != "f":
        np.testing.assert_array_equal(read(path, np.int32, hdu), expected.astype("i8"), err_msg=str(what))


@pytest.mark.parametrize("kind", ["u1", "i2", "u2", "i4"])
@pytest.mark.parametrize("codec", CODECS)
def test_integers_that_cfitsio_compressed(tmp_path: Path, codec: str, kind: str) -> None:
    """Of 8, 16 and 32 bits; unsigned ones have a BZERO, but not as CFITSIO
    makes pixel lists of them.
    """
    path = tmp_path / "tiles.fits"
    pixels = numbers(kind, codec)
    for name, tile in TILES.items():
        if codec == "HCOMPRESS_1" and name == "rows":
            continue
        with fitsio.FITS(path, "rw", clobber=True) as file:
            file.write(pixels, compress=codec, tile_dims=tile)
        assert fitsio.read_header(path, ext=1)["ZCMPTYPE"].strip() == codec
        np.testing.assert_array_equal(fitsio.read(path, ext=1), pixels)
        check(path, pixels, name)


@pytest.mark.parametrize("kind", ["f4", "f8"])
@pytest.mark.parametrize("codec", [codec for codec in CODECS if codec != "PLIO_1"])
def test_floats_that_cfitsio_compressed(tmp_path: Path, codec: str, kind: str) -> None:
    """Quantized with each dither, with tiles that could not be, and not."""
    path = tmp_path / "tiles.fits"
    pixels = numbers(kind, codec)
    fell_back = 0
    for name, tile in TILES.items():
        if codec == "HCOMPRESS_1" and name == "rows":
            continue
        for dither, level in [*((dither, 16) for dither in DITHERS), ("NO_DITHER", None)]:
            if level is None and not codec.startswith("GZIP"):
                continue
            with fitsio.FITS(path, "rw", clobber=True) as file:
                file.write(
                    pixels, compress=codec, tile_dims=tile, qlevel=level, qmethod=dither, dither_seed=77
                )
            check(path, fitsio.read(path, ext=1), (name, dither, level))
            if level is not None and codec != "HCOMPRESS_1":
                assert fitsio.read_header(path, ext=1)["ZQUANTIZ"].strip() == dither
            with astropy.io.fits.open(path, disable_image_compression=True) as hdus:
                if "GZIP_COMPRESSED_DATA" in hdus[1].columns.names:
                    counts = np.array(hdus[1].data.field("GZIP_COMPRESSED_DATA"), dtype=object)
                    fell_back += sum(len(cell) > 0 for cell in counts)
    assert fell_back or codec.startswith("GZIP")


@pytest.mark.parametrize("kind", ["u1", "i2", "i4", "f4", "f8"])
@pytest.mark.parametrize("codec", [*CODECS, "NOCOMPRESS"])
def test_what_astropy_compressed(tmp_path: Path, codec: str, kind: str) -> None:
    if kind[0] == "f" and codec == "PLIO_1":
        # No writer makes these.
        return
    path = tmp_path / "tiles.fits"
    pixels = numbers(kind, codec)
    if kind[0] == "f" and codec not in ("HCOMPRESS_1", "RICE_1"):
        pixels = np.nan_to_num(pixels)
    for name, tile in TILES.items():
        if codec == "HCOMPRESS_1" and name == "rows":
            continue
        for dither in DITHERS.values() if kind[0] == "f" and codec != "NOCOMPRESS" else (-1,):
            hdu = astropy.io.fits.CompImageHDU(
                pixels,
                compression_type=codec,
                tile_shape=tile,
                quantize_level=16.0 if kind[0] == "f" and codec != "NOCOMPRESS" else 0.0,
                quantize_method=dither,
                dither_seed=9,
            )
            hdu.writeto(path, overwrite=True)
            check(path, astropy.io.fits.getdata(path, 1), (name, dither))


@pytest.mark.parametrize("codec", ["RICE_1", "PLIO_1", "HCOMPRESS_1"])
def test_whole_numbers_that_are_called_floats(tmp_path: Path, codec: str) -> None:
    """Without a scale nobody knows what they mean."""
    path = tmp_path / "tiles.fits"
    hdu = astropy.io.fits.CompImageHDU(numbers("i4", codec), compression_type=codec, tile_shape=(8, 53))
    hdu.writeto(path)
    content = path.read_bytes()
    assert b"ZBITPIX =                   32" in content
    path.write_bytes(content.replace(b"ZBITPIX =                   32", b"ZBITPIX =                  -32"))
    with pytest.raises(CorruptInputError, match=f"has no ZSCALE, and {codec} holds whole numbers"):
        read(path, np.float32)


def test_lossy_and_smoothed_hcompress(tmp_path: Path) -> None:
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    pixels = (200 + 50 * np.sin(x / 5.0) * np.cos(y / 7.0)).astype("i4")
    seen = []
    for smooth in (False, True):
        path = tmp_path / f"{smooth}.fits"
        astropy.io.fits.CompImageHDU(
            pixels, compression_type="HCOMPRESS_1", tile_shape=(16, 18), hcomp_scale=6, hcomp_smooth=smooth
        ).writeto(path)
        seen.append(read(path, np.int32))
        np.testing.assert_array_equal(seen[-1], astropy.io.fits.getdata(path, 1))
    assert (seen[0] != pixels).any() and (seen[0] != seen[1]).any()


@pytest.mark.parametrize(
    ("codec", "kind"),
    [(codec, kind) for codec in (None, "GZIP_2") for kind in ("u1", "i2", "i4", "i8", "f4", "f8")]
    + [("RICE_1", kind) for kind in ("u1", "i2", "i4")],
)
def test_scale_zero_and_blank(tmp_path: Path, codec: str | None, kind: str) -> None:
    """Compared with the arithmetic of the standard, in double precision."""
    path = tmp_path / "scaled.fits"
    stored = np.random.default_rng(3).integers(0, 200, SHAPE).astype(kind)
    hdu: Any = astropy.io.fits.ImageHDU(stored)
    if codec is not None:
        hdu = astropy.io.fits.CompImageHDU(stored, compression_type=codec, quantize_level=0.0)
    hdu.header["BSCALE"], hdu.header["BZERO"] = 0.37, -1.5
    blank = None
    if kind[0] != "f":
        blank = hdu.header["BLANK"] = int(stored[11, 12])
    # Written with these cards as they stand, and with the numbers as stored.
    hdu._bscale, hdu._bzero = 1, 0
    astropy.io.fits.HDUList([astropy.io.fits.PrimaryHDU(), hdu]).writeto(path)
    with astropy.io.fits.open(path, do_not_scale_image_data=True) as hdus:
        raw = np.array(hdus[1].data)
        assert hdus[1].header["BSCALE"] == 0.37
    expected = raw.astype("f8") * 0.37 - 1.5
    if blank is not None:
        expected[raw == blank] = np.nan
        assert 0 < np.isnan(expected).sum() < expected.size / 10
    check(path, expected.astype("f4"), codec)
    if kind[0] != "f":
        with pytest.raises(UserError, match="is a mask, and scaled"):
            read(path, np.int32)


@pytest.mark.parametrize("keyword", [False, True])
def test_scale_of_tiles_in_columns_or_in_cards(tmp_path: Path, keyword: bool) -> None:
    """One scale for all tiles may be a card in place of a column."""
    path = tmp_path / "tiles.fits"
    pixels = np.random.default_rng(8).normal(0.0, 9.0, SHAPE).astype("f4")
    with fitsio.FITS(path, "rw", clobber=True) as file:
        file.write(pixels, compress="RICE_1", tile_dims=SHAPE, qlevel=8, qmethod="SUBTRACTIVE_DITHER_2")
    expected = fitsio.read(path, ext=1)
    if keyword:
        with astropy.io.fits.open(path, disable_image_compression=True) as hdus:
            table, header = hdus[1].data, hdus[1].header.copy()
            scale, zero = float(table["ZSCALE"][0]), float(table["ZZERO"][0])
            column = astropy.io.fits.Column(
                "COMPRESSED_DATA", "1PB()", array=[np.array(table["COMPRESSED_DATA"][0])]
            )
            new = astropy.io.fits.BinTableHDU.from_columns([column])
            for card in header.cards:
                if card.keyword.startswith("Z"):
                    new.header[card.keyword] = card.value
            new.header["ZSCALE"], new.header["ZZERO"] = scale, zero
            new.writeto(tmp_path / "cards.fits")
        path = tmp_path / "cards.fits"
    check(path, expected, keyword)


def test_primary_hdu_and_idle_axes(tmp_path: Path) -> None:
    pixels = numbers("f4", None)
    path = tmp_path / "plain.fits"
    astropy.io.fits.PrimaryHDU(pixels[np.newaxis]).writeto(path)
    check(path, pixels, "three axes", hdu=0)
    astropy.io.fits.PrimaryHDU(np.stack([pixels, pixels])).writeto(path, overwrite=True)
    with pytest.raises(CorruptInputError, match="3 axes and no image of two dimensions"):
        read(path, np.float32, 0)


@given(
    values=st.lists(
        st.tuples(st.integers(1, 5000), st.sampled_from([0, 0, 1, 7, 4095, 4096, 70000, (1 << 24) - 1])),
        min_size=1,
        max_size=8,
    ),
    cut=st.integers(2, 12),
)
def test_pixel_lists_of_any_runs(values: list[tuple[int, int]], cut: int) -> None:
    pixels = np.concatenate([np.full(n, value, dtype="i4") for n, value in values])
    packed = np.frombuffer(_compression.compress_plio_1_c(pixels.tobytes(), len(pixels)), "i2")
    content = packed.astype(">i2").tobytes()
    found = np.full(len(pixels), -1, dtype="i4")
    stream = np.frombuffer(content, "u1")
    assert unplio(stream, 0, len(stream), len(pixels), found)
    np.testing.assert_array_equal(found, pixels)
    assert not unplio(stream, 0, len(stream) - cut, len(pixels), found)


@given(
    values=st.lists(st.integers(-(2**15), 2**15 - 1) | st.integers(-9, 9), min_size=1, max_size=120),
    cut=st.integers(1, 400),
    pixel_bytes=st.sampled_from([1, 2]),
)
def test_short_rice_stream_is_read_up_to_its_end_and_no_further(
    values: list[int], cut: int, pixel_bytes: int
) -> None:
    dtype = {1: "u1", 2: "i2"}[pixel_bytes]
    pixels = np.array(values).astype(dtype)
    packed = _compression.compress_rice_1_c(pixels.tobytes(), 32, pixel_bytes)
    stream = np.frombuffer(packed + bytes(8 * 32 + MARGIN), "u1")
    n_pixels = len(pixels)
    found = np.empty(n_pixels + 640, dtype="i4")
    assert unrice(stream, 0, len(packed), 32, pixel_bytes, n_pixels, n_pixels, found)
    np.testing.assert_array_equal(found[:n_pixels], pixels)
    stop = max(1, len(packed) - cut)
    assert not unrice(stream, 0, stop, 32, pixel_bytes, len(found), len(found), found)


def test_hcompress_stream_is_read_up_to_its_end_and_no_further() -> None:
    """Neither is its shape believed."""
    pixels = np.random.default_rng(2).normal(0, 30, (16, 18)).astype("i4")
    packed = _compression.compress_hcompress_1_c(pixels.astype("i8").tobytes(), 16, 18, 0, 8)
    np.testing.assert_array_equal(unhcompress(packed, shape=(16, 18), smooth=False), pixels.ravel())
    for length in range(len(packed) - 2):
        with pytest.raises(ValueError):
            unhcompress(packed[:length], shape=(16, 18), smooth=False)
    for shape in ((18, 16), (8, 18), (1600, 18)):
        with pytest.raises(ValueError, match="wrong header"):
            unhcompress(packed, shape=shape, smooth=False)


@pytest.mark.parametrize("codec", [*CODECS, "RICE_1 of floats", "GZIP_2 of floats", "HCOMPRESS_1 of floats"])
def test_damage_is_an_error_of_its_tile_or_other_pixels(tmp_path: Path, codec: str) -> None:
    """Never a crash or a hang, and never of another tile."""
    path = tmp_path / "tiles.fits"
    name, _, floats = codec.partition(" of ")
    pixels = numbers("f4" if floats else "i4", name)
    options = {"qlevel": 16, "dither_seed": 5} if floats else {}
    with fitsio.FITS(path, "rw", clobber=True) as file:
        file.write(pixels, compress=name, tile_dims=(8, 11), **options)
    run = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", DAMAGE, str(path)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == 0, run.stderr[-2000:]
    n_damaged, n_changed = (int(word) for word in run.stdout.split())
    assert n_damaged > 20
    assert (n_changed > 0) == (not name.startswith("GZIP"))


DAMAGE = """
import sys, tempfile
import astropy.io.fits
import numpy as np
from lsst.dax.bulkcutout.errors import CorruptInputError
from lsst.dax.bulkcutout.readers.fits_extension import walk_extensions
from lsst.dax.bulkcutout.readers.fits_file import FitsFile
from lsst.dax.bulkcutout.readers.pixel_plane import PixelPlane

with astropy.io.fits.open(sys.argv[1], disable_image_compression=True) as hdus:
    start, header = hdus[1].fileinfo()["datLoc"], hdus[1].header
width, rows = header["NAXIS1"], header["NAXIS2"]
heap = start + width * rows
source = open(sys.argv[1], "rb").read()

def tiles(path):
    with FitsFile(path) as file:
        plane = PixelPlane(list(walk_extensions(file))[1], dtype=np.float32)
        (ny, nx), (ty, tx) = plane.shape, plane.tile_shape
        for y in range(0, ny, ty):
            for x in range(0, nx, tx):
                try:
                    yield plane.read(slice(y, min(y + ty, ny)), slice(x, min(x + tx, nx))).tobytes()
                except CorruptInputError:
                    yield None

good = list(tiles(sys.argv[1]))
assert None not in good
n_damaged = n_changed = 0
with tempfile.NamedTemporaryFile(suffix=".fits") as file:
    for case in range(300):
        rng = np.random.default_rng(case)
        content = bytearray(source)
        row = int(rng.integers(rows))
        at = start + row * width
        count, offset = np.frombuffer(content, ">i4", 2, at).tolist()
        if count == 0:
            continue
        if case % 3 == 0:
            # The descriptor: too few bytes, none, or those beside them.
            new = (int(rng.integers(0, count)), offset) if case % 2 else (count, offset + 3)
            content[at : at + 8] = np.array(new, ">i4").tobytes()
        else:
            place = heap + offset + int(rng.integers(count))
            end = min(heap + offset + count, place + (1 if case % 3 == 1 else int(rng.integers(1, 60))))
            content[place:end] = rng.integers(0, 256, end - place).astype("u1").tobytes()
        file.seek(0)
        file.write(content)
        file.flush()
        found = list(tiles(file.name))
        assert [one for n, one in enumerate(found) if n != row] == good[:row] + good[row + 1 :]
        n_damaged += found[row] is None
        n_changed += found[row] is not None and found[row] != good[row]
print(n_damaged, n_changed)
"""
