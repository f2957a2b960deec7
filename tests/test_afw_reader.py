# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""The reader of afw Exposures gives what astropy gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import astropy.io.fits
import astropy.units as u
import astropy.wcs
import numpy as np
import pytest

from lsst.dax.bulkcutout.boxes import Box
from lsst.dax.bulkcutout.errors import CorruptInputError, UserError
from lsst.dax.bulkcutout.readers import ImageReader, open_image
from lsst.dax.bulkcutout.tests.afw_files import DP1_BITS, HSC_BITS, AfwFile
from lsst.dax.bulkcutout.tests.hsc import real_data
from lsst.dax.bulkcutout.tests.tile_reading import TileByTile

SHAPE = (61, 83)
X0, Y0 = 14499, -151


def whole(reader: ImageReader, plane: str) -> np.ndarray:
    """Read all tiles of a plane."""
    pixels: np.ndarray | None = None
    for box, values in TileByTile(reader, plane, reader.tiles_touching(reader.bbox)):
        if pixels is None:
            pixels = np.zeros(reader.bbox.shape, dtype=values.dtype)
        pixels[box.slices(reader.bbox)] = values
    assert pixels is not None
    return pixels


def exposure(**changes: Any) -> AfwFile:
    """Make an Exposure that is not square, turned, and far from the origin."""
    return AfwFile.coded(SHAPE, x0=X0, y0=Y0, **changes)


def check(path: Path, file: AfwFile) -> None:
    """Compare a file with what was put into it, and with astropy."""
    with open_image(str(path)) as reader, astropy.io.fits.open(path) as hdus:
        assert reader.bbox == Box(y0=Y0, y1=Y0 + SHAPE[0], x0=X0, x1=X0 + SHAPE[1])
        np.testing.assert_array_equal(whole(reader, "image"), file.image)
        np.testing.assert_array_equal(whole(reader, "variance"), file.variance)
        assert {plane.name: plane.bit for plane in reader.mask_planes} == file.bits
        mask = whole(reader, "mask")
        for name, bit in file.bits.items():
            np.testing.assert_array_equal((mask >> bit) & 1 != 0, file.flags[name], err_msg=name)
        wcs = astropy.wcs.WCS(hdus[1].header)
        x, y = np.array([0.0, 82.0, 17.3]), np.array([60.0, 0.0, 33.9])
        ra, dec = wcs.all_pix2world(x, y, 0)
        own_x, own_y = reader.wcs.sky_to_pixel(ra, dec)
        np.testing.assert_allclose(own_x, x + X0, rtol=0, atol=1e-7)
        np.testing.assert_allclose(own_y, y + Y0, rtol=0, atol=1e-7)


@pytest.mark.parametrize("names", ["EXTNAME", "EXTTYPE", "order"])
@pytest.mark.parametrize("codec", [None, "RICE_1", "GZIP_2"])
def test_planes_are_found_by_name_by_type_or_by_order(tmp_path: Path, names: str, codec: str | None) -> None:
    file = exposure()
    path = file.write(tmp_path / "exposure.fits", names=names, codec=codec)
    check(path, file)
    with open_image(str(path)) as reader:
        assert reader.planes == {"image", "mask", "variance"}
        assert (reader.unit, reader.skymap, reader.tract, reader.patch, reader.band) == ("nJy", *(None,) * 4)


def test_names_win_over_the_order(tmp_path: Path) -> None:
    file = exposure()
    path = file.write(tmp_path / "exposure.fits", order=("VARIANCE", "MASK", "IMAGE"))
    with open_image(str(path)) as reader:
        np.testing.assert_array_equal(whole(reader, "image"), file.image)
        np.testing.assert_array_equal(whole(reader, "variance"), file.variance)


@pytest.mark.parametrize("bits", [DP1_BITS, HSC_BITS, {"NO_DATA": 30, "A_PLANE_WITH_A_LONG_NAME": 3}])
def test_mask_bits_are_those_of_the_file(tmp_path: Path, bits: dict[str, int]) -> None:
    """Long names are in HIERARCH cards."""
    file = exposure(bits=bits)
    check(file.write(tmp_path / "exposure.fits"), file)


def test_mask_of_16_bits(tmp_path: Path) -> None:
    """Signed, and unsigned by BZERO, where the last bit counts too."""
    file = exposure(bits={"NO_DATA": 14, "DETECTED": 2})
    check(file.write(tmp_path / "signed.fits", mask_type="i2"), file)
    file = exposure(bits={"NO_DATA": 15, "DETECTED": 2})
    check(file.write(tmp_path / "unsigned.fits", mask_type="u2"), file)


@pytest.mark.parametrize("origin", ["LTV", "A"])
def test_first_pixel_is_stated_in_either_way(tmp_path: Path, origin: str) -> None:
    file = exposure()
    check(file.write(tmp_path / "exposure.fits", origin=(origin,)), file)


def test_planes_with_other_first_pixels_are_refused(tmp_path: Path) -> None:
    path = exposure().write(tmp_path / "exposure.fits")
    with astropy.io.fits.open(path, mode="update") as hdus:
        hdus["MASK"].header["LTV1"] = 7.0
    with pytest.raises(CorruptInputError, match="its planes begin at"):
        open_image(str(path))


@pytest.mark.parametrize("planes", [("IMAGE",), ("IMAGE", "MASK"), ("IMAGE", "VARIANCE")])
def test_planes_may_be_missing(tmp_path: Path, planes: tuple[str, ...]) -> None:
    file = exposure()
    path = file.write(tmp_path / "exposure.fits", order=planes)
    with open_image(str(path)) as reader:
        assert reader.planes == {name.lower() for name in planes}
        np.testing.assert_array_equal(whole(reader, "image"), file.image)
        with pytest.raises(ValueError, match="No plane 'psf'"):
            TileByTile(reader, "psf", [])


def test_mask_without_names_is_no_mask(tmp_path: Path) -> None:
    """Nobody knows what its bits mean; a table of another file would lie."""
    file = exposure(bits={})
    with open_image(str(file.write(tmp_path / "exposure.fits"))) as reader:
        assert reader.planes == {"image", "variance"}


@pytest.mark.parametrize(
    ("unit", "njy"),
    [
        ("nJy", 1.0),
        ("uJy", (1 * u.uJy).to_value(u.nJy)),
        ("mJy", (1 * u.mJy).to_value(u.nJy)),
        ("Jy", (1 * u.Jy).to_value(u.nJy)),
        ("nanomaggy", (1 * u.ABflux * 1e-9).to_value(u.nJy)),
        ("nmgy", (1 * u.ABflux * 1e-9).to_value(u.nJy)),
        ("maggies", (1 * u.ABflux).to_value(u.nJy)),
    ],
)
def test_units_of_flux_become_nanojansky(tmp_path: Path, unit: str, njy: float) -> None:
    """The variance by the square; factors are astropy's."""
    file = exposure(image_unit=unit, variance_unit=f"{unit}**2")
    with open_image(str(file.write(tmp_path / "exposure.fits"))) as reader:
        assert reader.unit == "nJy"
        np.testing.assert_allclose(whole(reader, "image"), file.image.astype("f8") * njy, rtol=3e-7)
        np.testing.assert_allclose(whole(reader, "variance"), file.variance.astype("f8") * njy**2, rtol=3e-7)


@pytest.mark.parametrize("unit", ["adu", "ADU", "electron", "e-", "counts", "DN", "chi", "K km/s", "MJy/sr"])
def test_unit_that_nobody_can_convert_is_kept_and_named(tmp_path: Path, unit: str) -> None:
    file = exposure(image_unit=unit, variance_unit=f"{unit}**2")
    with open_image(str(file.write(tmp_path / "exposure.fits"))) as reader:
        assert reader.unit == unit
        np.testing.assert_array_equal(whole(reader, "image"), file.image)
        np.testing.assert_array_equal(whole(reader, "variance"), file.variance)


@pytest.mark.parametrize("unit", [None, "adu"])
def test_zero_point_gives_nanojansky(tmp_path: Path, unit: str | None) -> None:
    """FLUXMAG0 is the counts of magnitude 0 in the AB system."""
    file = exposure(image_unit=unit)
    path = file.write(tmp_path / "exposure.fits", primary={"FLUXMAG0": 63095734448.0194})
    njy = (1 * u.ABflux / 63095734448.0194).to_value(u.nJy)
    assert njy == pytest.approx(10 ** ((31.4 - 27.0) / 2.5), rel=1e-4)
    with open_image(str(path)) as reader:
        assert reader.unit == "nJy"
        np.testing.assert_allclose(whole(reader, "image"), file.image.astype("f8") * njy, rtol=3e-7)
        np.testing.assert_allclose(whole(reader, "variance"), file.variance.astype("f8") * njy**2, rtol=3e-7)


def test_no_unit_at_all_is_named_so(tmp_path: Path) -> None:
    file = exposure(image_unit=None)
    with open_image(str(file.write(tmp_path / "exposure.fits"))) as reader:
        assert reader.unit == "unknown"
        np.testing.assert_array_equal(whole(reader, "image"), file.image)


def test_variance_in_a_unit_of_its_own_is_refused(tmp_path: Path) -> None:
    path = exposure(image_unit="nJy", variance_unit="uJy2").write(tmp_path / "exposure.fits")
    with pytest.raises(UserError, match="unit of its variance is 'uJy2'.*'nJy'; allowed is the square"):
        open_image(str(path))


def test_butler_cards_say_which_patch_it_is(tmp_path: Path) -> None:
    cards = {"SKYMAP": "lsst_cells_v1", "TRACT": 5063, "PATCH": 14, "BAND": "i"}
    primary = {f"HIERARCH LSST BUTLER DATAID {key}": value for key, value in cards.items()}
    path = exposure().write(tmp_path / "exposure.fits", primary=primary)
    with open_image(str(path)) as reader:
        assert (reader.skymap, reader.tract, reader.patch, reader.band) == ("lsst_cells_v1", 5063, 14, "i")


@pytest.mark.parametrize(
    ("name", "band"),
    [
        ("r2", "r"),
        ("HSC-R2", "r"),
        ("HSC-Y", "y"),
        ("i", "i"),
        ("r_57", "r"),
        ("NB0921", None),
        ("clear", None),
    ],
)
def test_band_of_a_filter(tmp_path: Path, name: str, band: str | None) -> None:
    path = exposure().write(tmp_path / "exposure.fits", primary={"FILTER": name})
    with open_image(str(path)) as reader:
        assert reader.band == band


def test_damage_costs_a_tile(tmp_path: Path) -> None:
    file = exposure()
    path = file.write(tmp_path / "exposure.fits", codec="GZIP_2", tile=(16, 20))
    with astropy.io.fits.open(path, disable_image_compression=True) as hdus:
        header = hdus["IMAGE"].header
        start = hdus["IMAGE"].fileinfo()["datLoc"]
    content = bytearray(path.read_bytes())
    width = header["NAXIS1"]
    count, offset = np.frombuffer(content, ">i4", 2, start + 7 * width).tolist()
    place = start + width * header["NAXIS2"] + offset
    content[place + 12 : place + count - 3] = bytes(count - 15)
    path.write_bytes(content)
    with open_image(str(path)) as reader:
        good, bad = 0, []
        tiles = iter(TileByTile(reader, "image", reader.tiles_touching(reader.bbox)))
        while True:
            try:
                box, values = next(tiles)
            except StopIteration:
                break
            except CorruptInputError as error:
                bad.append(error.box)
            else:
                np.testing.assert_array_equal(values, file.image[box.slices(reader.bbox)])
                good += 1
        assert bad == [reader.tile_box(1, 2)] and good == 19


def test_truncated_file_is_corrupt(tmp_path: Path) -> None:
    path = exposure().write(tmp_path / "exposure.fits")
    content = path.read_bytes()
    (tmp_path / "short.fits").write_bytes(content[: len(content) - 4 * 2880])
    with pytest.raises(CorruptInputError, match="truncated"):
        open_image(str(tmp_path / "short.fits"))


def test_mask_of_another_shape_is_corrupt(tmp_path: Path) -> None:
    path = exposure().write(tmp_path / "exposure.fits")
    with astropy.io.fits.open(path, mode="update") as hdus:
        hdus["MASK"].data = hdus["MASK"].data[:-1]
    with pytest.raises(CorruptInputError, match=r"MASK has the shape \(60, 83\), it should be \(61, 83\)"):
        open_image(str(path))


def test_checksums_are_verified_on_request(tmp_path: Path) -> None:
    path = exposure().write(tmp_path / "exposure.fits", checksum=True)
    open_image(str(path), verify_checksums=True).close()
    with astropy.io.fits.open(path) as hdus:
        place = hdus["VARIANCE"].fileinfo()["datLoc"] + 400
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    open_image(str(path)).close()
    with pytest.raises(CorruptInputError, match="VARIANCE"):
        open_image(str(path), verify_checksums=True)


# The real files.


def real(name: str) -> Path:
    path = real_data(name)
    if path is None:
        pytest.skip("the real test data are not beside the project")
    return path


def compare_with_astropy(path: Path, factor: float, numbers: dict[str, int]) -> None:
    """Compare all planes with the HDUs that astropy reads."""
    with open_image(str(path)) as reader, astropy.io.fits.open(path) as hdus:
        image, variance = (hdus[numbers[name]].data.astype("f8") for name in ("image", "variance"))
        np.testing.assert_array_equal(whole(reader, "image"), (image * factor).astype("f4"))
        np.testing.assert_array_equal(whole(reader, "variance"), (variance * factor**2).astype("f4"))
        mask, header = hdus[numbers["mask"]].data, hdus[numbers["mask"]].header
        np.testing.assert_array_equal(whole(reader, "mask"), mask)
        cards = {key[3:]: header[key] for key in header if key.startswith("MP_")}
        cards |= {
            header[key]: header[f"MSKM{key[4:]}"].bit_length() - 1 for key in header if key.startswith("MSKN")
        }
        assert {plane.name: plane.bit for plane in reader.mask_planes} == cards and cards
        wcs = astropy.wcs.WCS(hdus[numbers["image"]].header)
        ny, nx = image.shape
        ra, dec = wcs.all_pix2world([0, nx - 1, 5.3], [ny - 1, 0, 7.9], 0)
        x, y = reader.wcs.sky_to_pixel(ra, dec)
        np.testing.assert_allclose(x - reader.bbox.x0, [0, nx - 1, 5.3], rtol=0, atol=1e-6)
        np.testing.assert_allclose(y - reader.bbox.y0, [ny - 1, 0, 7.9], rtol=0, atol=1e-6)


def test_real_hsc_cutout() -> None:
    path = real("hsc_slug/cutout-HSC-R-9071-s18a_wide-181211-014627.fits")
    factor = 10 ** ((31.4 - 2.5 * np.log10(63095734448.0194)) / 2.5)
    compare_with_astropy(path, factor, {"image": 1, "mask": 2, "variance": 3})
    with open_image(str(path)) as reader:
        assert (reader.bbox.y0, reader.bbox.x0, reader.bbox.shape) == (30546, 14499, (466, 448))
        assert (reader.unit, reader.band, reader.has_psf) == ("nJy", "r", False)
        assert "archive" in reader.psf_note


def test_real_calexp() -> None:
    """With its calibration and its PSF in tables of the archive."""
    path = real("lsst_obs_base/calexp.fits")
    with astropy.io.fits.open(path) as hdus:
        calibration = hdus["PhotoCalib"].data["calibrationMean"][0]
        sigma = hdus["GaussianPsf"].data["sigma"][0]
    compare_with_astropy(path, calibration, {"image": 1, "mask": 2, "variance": 3})
    with open_image(str(path)) as reader:
        assert (reader.unit, reader.band, reader.psf_shape, reader.psf_note) == ("nJy", "i", (3, 3), "")
        kernel = reader.psf_kernels(reader.cell_of(np.array([3.0]), np.array([40.2])))[0]
        y, x = np.mgrid[-1:2, -1:2]
        expected = np.exp(-(x**2 + y**2) / (2 * sigma**2))
        np.testing.assert_allclose(kernel, expected / expected.sum(), rtol=1e-6)


@pytest.mark.parametrize("name", ["visit_image_dp1", "visit_image_dp2", "difference_image_dp2"])
def test_real_visit_and_difference_images(name: str) -> None:
    compare_with_astropy(
        real(f"lsst_images_fixtures/{name}_mini.fits"), 1.0, {"image": 1, "mask": 2, "variance": 3}
    )
