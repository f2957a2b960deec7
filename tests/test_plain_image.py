# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Plain FITS images and what lies beside them, against astropy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import astropy.io.fits
import numpy as np
import pytest
from plain_files import SHAPE, coded, header, sky, write

from lsst.dax.bulkcutout.boxes import Box
from lsst.dax.bulkcutout.errors import CorruptInputError, UserError
from lsst.dax.bulkcutout.readers import Companions, ImageReader, open_image
from lsst.dax.bulkcutout.readers.plain_image import PlainImageReader
from lsst.dax.bulkcutout.tests.tile_reading import TileByTile


def whole(reader: ImageReader, plane: str) -> np.ndarray:
    """All pixels of a plane."""
    tiles = reader.tiles_touching(reader.bbox)
    parts = list(TileByTile(reader, plane, tiles))
    out = np.zeros(reader.bbox.shape, dtype=parts[0][1].dtype)
    for box, pixels in parts:
        out[box.slices(reader.bbox)] = pixels
    return out


def beside(folder: Path, **names: str) -> Companions:
    return Companions({kind: str(folder / name) for kind, name in names.items()})


def planes_of(reader: ImageReader) -> dict[str, np.ndarray]:
    mask = whole(reader, "mask")
    return {plane.name: (mask >> plane.bit) & 1 == 1 for plane in reader.mask_planes}


@pytest.mark.parametrize("dtype", ["u1", ">i2", "u2", ">i4", ">i8", ">f4", ">f8"])
def test_any_pixel_type_is_read(tmp_path: Path, dtype: str) -> None:
    pixels = (coded() % 251).astype(dtype)
    path = write(tmp_path / "a.fits", pixels, name="SCI")
    with open_image(str(path)) as reader:
        assert isinstance(reader, PlainImageReader)
        assert np.array_equal(whole(reader, "image"), astropy.io.fits.getdata(path).astype("f4"))
        assert reader.planes == {"image", "mask"} and not whole(reader, "mask").any()


@pytest.mark.parametrize("compression", ["RICE_1", "GZIP_2"])
def test_compressed_images_are_read(tmp_path: Path, compression: str) -> None:
    noise = np.random.default_rng(2).normal(size=SHAPE).astype("f4") + coded(0)
    hdu = astropy.io.fits.CompImageHDU(
        noise, header("SIN"), compression_type=compression, tile_shape=(16, 32)
    )
    astropy.io.fits.HDUList([astropy.io.fits.PrimaryHDU(), hdu]).writeto(tmp_path / "a.fits")
    with open_image(str(tmp_path / "a.fits")) as reader:
        assert np.array_equal(whole(reader, "image"), astropy.io.fits.getdata(tmp_path / "a.fits", 1))
        assert reader.tile_shape == (16, 32)


def test_first_image_on_the_sky_is_taken(tmp_path: Path) -> None:
    """A thumbnail without a projection and a table come before it."""
    table = astropy.io.fits.BinTableHDU.from_columns(
        [astropy.io.fits.Column("a", "D", array=np.arange(3.0))], name="TABLE"
    )
    astropy.io.fits.HDUList(
        [
            astropy.io.fits.PrimaryHDU(np.zeros((5, 6), "f4")),
            table,
            astropy.io.fits.ImageHDU(coded(3), header(), name="SCI"),
            astropy.io.fits.ImageHDU(coded(4), header(), name="OTHER"),
        ]
    ).writeto(tmp_path / "a.fits")
    with open_image(str(tmp_path / "a.fits")) as reader:
        assert np.array_equal(whole(reader, "image"), coded(3))


def test_absolute_pixels_count_from_the_reference_point(tmp_path: Path) -> None:
    """Two pieces of one image agree about them; the sky is astropy's."""
    one = write(tmp_path / "a.fits", coded())
    two = write(tmp_path / "b.fits", coded()[20:, 30:].copy(), CRPIX1=61.25 - 30, CRPIX2=-14.5 - 20)
    with open_image(str(one)) as a, open_image(str(two)) as b:
        assert a.bbox.shape == SHAPE and b.bbox.shape == (50, 60)
        assert (b.bbox.y0 - a.bbox.y0, b.bbox.x0 - a.bbox.x0) == (20, 30)
        x, y = np.array([0.0, 89.0, 31.5]), np.array([0.0, 69.0, 2.25])
        assert a.wcs.sky_to_pixel(*sky(one, x, y)) == pytest.approx(
            np.array([x + a.bbox.x0, y + a.bbox.y0]), abs=1e-6
        )
        # CRPIX counts from 1.
        assert (a.bbox.x0, a.bbox.y0) == (1 - 61, 1 + 15)


@pytest.mark.parametrize(
    ("unit", "name", "factor"),
    [
        ("nJy", "nJy", 1.0),
        ("Jy", "nJy", 1e9),
        ("mJy", "nJy", 1e6),
        ("uJy", "nJy", 1e3),
        ("nanomaggy", "nJy", 3630.7805),
        ("adu", "adu", 1.0),
        ("Jy/beam", "Jy/beam", 1.0),
        ("electron/s", "electron/s", 1.0),
        (None, "unknown", 1.0),
    ],
)
def test_only_what_is_known_is_converted(tmp_path: Path, unit: str | None, name: str, factor: float) -> None:
    """An AB zero point is 8.9 mag for Jy; a nanomaggy is magnitude 22.5."""
    cards: dict[str, Any] = {} if unit is None else {"BUNIT": unit}
    write(tmp_path / "a.fits", coded(), **cards)
    write(tmp_path / "v.fits", np.full(SHAPE, 4.0, "f4"))
    with open_image(str(tmp_path / "a.fits"), companions=beside(tmp_path, variance="v.fits")) as r:
        assert r.unit == name
        assert whole(r, "image") == pytest.approx(coded() * factor, rel=1e-6)
        assert whole(r, "variance") == pytest.approx(np.full(SHAPE, 4.0 * factor**2), rel=1e-6)


def test_nan_is_no_data(tmp_path: Path) -> None:
    pixels = coded()
    pixels[3, 5] = np.nan
    with open_image(str(write(tmp_path / "a.fits", pixels))) as reader:
        assert np.array_equal(planes_of(reader)["NO_DATA"], np.isnan(pixels))


def test_weight_is_the_inverse_of_the_variance(tmp_path: Path) -> None:
    """None, or a negative one, says that there is no data."""
    write(tmp_path / "a.fits", coded(), BUNIT="uJy")
    weight = np.full(SHAPE, 0.25, "f4")
    weight[0, :4] = [0.0, -1.0, np.nan, 16.0]
    write(tmp_path / "w.fits", weight)
    with open_image(str(tmp_path / "a.fits"), companions=beside(tmp_path, weight="w.fits")) as reader:
        variance = whole(reader, "variance")
        assert np.isnan(variance[0, :3]).all() and variance[0, 3] == pytest.approx(1e6 / 16)
        assert variance[1:] == pytest.approx(np.full((69, 90), 4e6))
        no_data = planes_of(reader)["NO_DATA"]
        assert no_data[0, :3].all() and no_data.sum() == 3
        # The image itself stays as it is.
        assert whole(reader, "image")[0, :3] == pytest.approx(coded()[0, :3] * 1e3)


def test_mask_bits_have_the_names_of_the_cards_or_numbers(tmp_path: Path) -> None:
    write(tmp_path / "a.fits", coded())
    bits = np.zeros(SHAPE, "i4")
    bits[4, 7], bits[5, 8] = 0b101, 0b1000
    write(tmp_path / "named.fits", bits, MP_SAT=0, MP_CR=2, **{"HIERARCH MP_NO_DATA": 3})
    write(tmp_path / "plain.fits", bits.astype("u1"))
    with open_image(str(tmp_path / "a.fits"), companions=beside(tmp_path, mask="named.fits")) as r:
        planes = planes_of(r)
        assert set(planes) == {"SAT", "CR", "NO_DATA"}
        assert all(planes[name].nonzero() == (np.array([4]), np.array([7])) for name in ("SAT", "CR"))
        assert np.argwhere(planes["NO_DATA"]).tolist() == [[5, 8]]
    with open_image(str(tmp_path / "a.fits"), companions=beside(tmp_path, mask="plain.fits")) as r:
        planes = planes_of(r)
        assert set(planes) == {f"BIT0{bit}" for bit in range(8)} | {"NO_DATA"}
        assert np.argwhere(planes["BIT03"]).tolist() == [[5, 8]] and planes["BIT02"][4, 7]


def test_mask_of_codes_becomes_planes(tmp_path: Path) -> None:
    """One number a pixel: 3 is not bits 0 and 1."""
    write(tmp_path / "a.fits", coded())
    codes = np.zeros(SHAPE, "i2")
    codes[0, :5] = [1, 3, 5, 7, 0]
    write(tmp_path / "m.fits", codes)
    companions = Companions({"mask": str(tmp_path / "m.fits")}, {"BAD": 1, "SATURATED": 3, "CR": 5})
    with open_image(str(tmp_path / "a.fits"), companions=companions) as reader:
        first = {name: plane[0, :5].tolist() for name, plane in planes_of(reader).items()}
    assert first == {
        "BAD": [True, False, False, False, False],
        "SATURATED": [False, True, False, False, False],
        "CR": [False, False, True, False, False],
        "OTHER_CODE": [False, False, False, True, False],
        "NO_DATA": [False] * 5,
    }


def test_companion_of_the_same_name_is_taken_from_a_file_of_many(tmp_path: Path) -> None:
    for name, offset in (("a", 0), ("w", 1)):
        hdus = [astropy.io.fits.PrimaryHDU()]
        for number, extension in enumerate(("N1", "N2")):
            pixels = coded() if not offset else np.full(SHAPE, 1.0 + number, "f4")
            cards = header() if offset or extension == "N2" else None
            hdus.append(astropy.io.fits.ImageHDU(pixels, cards, name=extension))
        astropy.io.fits.HDUList(hdus).writeto(tmp_path / f"{name}.fits")
    with open_image(str(tmp_path / "a.fits"), companions=beside(tmp_path, weight="w.fits")) as reader:
        assert (whole(reader, "variance") == 0.5).all()


@pytest.mark.parametrize(
    ("kind", "pixels", "cards", "message"),
    [
        (
            "mask",
            np.zeros((70, 89), "i4"),
            {},
            "w.fits: .* 70 x 89 pixels .* the image whose mask it is has 70 x 90",
        ),
        (
            "weight",
            np.ones(SHAPE, "f4"),
            {"CRVAL1": 211.6},
            "w.fits: .*lies elsewhere than the image whose weight",
        ),
        (
            "variance",
            np.ones(SHAPE, "f4"),
            {"BUNIT": "Jy**2"},
            "BUNIT of HDU 0 is 'Jy\\*\\*2'.*the variance must be",
        ),
        ("mask", np.zeros(SHAPE, "f4"), {}, "w.fits"),
    ],
    ids=["shape", "place", "unit", "floats"],
)
def test_companion_that_does_not_belong_is_refused(
    tmp_path: Path, kind: str, pixels: np.ndarray, cards: dict[str, Any], message: str
) -> None:
    write(tmp_path / "a.fits", coded(), BUNIT="adu")
    write(tmp_path / "w.fits", pixels, **cards)
    with pytest.raises((UserError, CorruptInputError), match=message):
        open_image(str(tmp_path / "a.fits"), companions=Companions({kind: str(tmp_path / "w.fits")}))


def test_image_without_a_place_on_the_sky_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.fits", coded(), header(CTYPE1=None), name="SCI")
    with pytest.raises(UserError, match=r"a.fits: no image.*HDU 1 \(SCI\) are missing, DEC--TAN"):
        open_image(str(path))
    (tmp_path / "text.fits").write_text("this is not a FITS file at all")
    with pytest.raises(CorruptInputError, match="text.fits: not a FITS file"):
        open_image(str(tmp_path / "text.fits"))


def test_damaged_tile_is_lost_alone(tmp_path: Path) -> None:
    """Of the image or of what belongs to it; the tiles after it are read."""
    for name, pixels in (("a", coded()), ("w", np.full(SHAPE, 2.0, "f4"))):
        hdu = astropy.io.fits.CompImageHDU(
            pixels, header(), compression_type="GZIP_1", tile_shape=(16, 90), quantize_level=0
        )
        astropy.io.fits.HDUList([astropy.io.fits.PrimaryHDU(), hdu]).writeto(tmp_path / f"{name}.fits")
    content = bytearray((tmp_path / "w.fits").read_bytes())
    starts = [at for at in range(len(content)) if content[at : at + 3] == b"\x1f\x8b\x08"]
    assert len(starts) == 5
    content[starts[2] + 12 : starts[2] + 20] = b"\xff" * 8
    (tmp_path / "w.fits").write_bytes(content)
    with open_image(str(tmp_path / "a.fits"), companions=beside(tmp_path, weight="w.fits")) as reader:
        tiles = TileByTile(reader, "mask", reader.tiles_touching(reader.bbox))
        found = []
        while True:
            try:
                found.append(next(tiles)[0])
            except StopIteration:
                break
            except CorruptInputError as error:
                assert error.box == Box(
                    reader.bbox.y0 + 32, reader.bbox.y0 + 48, reader.bbox.x0, reader.bbox.x1
                )
        assert len(found) == 4
