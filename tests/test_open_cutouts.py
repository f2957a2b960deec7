# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Reading a product back through `lsst.dax.bulkcutout.open_cutouts`."""

from __future__ import annotations

import dataclasses
import os
import shutil
from pathlib import Path

import astropy.coordinates
import astropy.wcs
import h5py
import numpy as np
import pytest

from lsst.dax.bulkcutout import open_cutouts
from lsst.dax.bulkcutout.errors import CorruptInputError, UserError
from lsst.dax.bulkcutout.formats import cutouts as cutouts_module
from lsst.dax.bulkcutout.formats.hdf5 import HDF5Writer
from lsst.dax.bulkcutout.tests.products import SmallProduct, blank_columns

# Catalog rows in the order of the file: patch 3, then patch 4.
ROWS = [0, 1, 5, 6, 3, 4, 8]


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> SmallProduct:
    return SmallProduct(tmp_path_factory.mktemp("product")).make()


@pytest.fixture(scope="module")
def two_sizes(tmp_path_factory: pytest.TempPathFactory) -> SmallProduct:
    return SmallProduct(tmp_path_factory.mktemp("two"), sizes=(9, 16), text_ids=True).make()


@pytest.fixture
def copy(product: SmallProduct, tmp_path: Path) -> Path:
    return Path(shutil.copytree(product.out, tmp_path / "out"))


def data_file(out: Path) -> Path:
    return next(out.glob("size=*/*.hdf5"))


def test_product_directory_size_directory_and_file_open_alike(product: SmallProduct) -> None:
    for path in (product.out, str(product.out), product.out / "size=16", data_file(product.out)):
        with open_cutouts(path) as cutouts:
            assert len(cutouts) == 7
            assert [cutout.row for cutout in cutouts] == ROWS
            assert cutouts[-1].row == 8
            assert [cutout.row for cutout in cutouts[1:3]] == [1, 5]
            with pytest.raises(IndexError, match="there are 7"):
                cutouts[7]


def test_planes_are_those_of_the_input(product: SmallProduct) -> None:
    """Row 3 of the catalog lies in the corner of its patch."""
    with open_cutouts(product.out) as cutouts:
        cutout = cutouts.by_row(3)
        # First pixels ceil(286.25 - 8), ceil(166 - 8).
        image, variance, mask = product.images[4, "r"].cut(279, 158, 16)
        assert np.isnan(image).any()
        np.testing.assert_array_equal(cutout.image("r"), image)
        np.testing.assert_array_equal(cutout.variance("r"), variance)
        np.testing.assert_array_equal(cutout.mask("r"), mask)
        assert cutout.target_xy == (7.25, 8.0)
        assert (cutout.tract, cutout.patch, cutout.size, cutout.bands) == (7, 4, 16, ("g", "r", "i"))
        assert cutout.status == {"g": "ok", "r": "ok", "i": "no_dataset"}
        assert cutout.psf("r").shape == (5, 7)
        assert np.isnan(cutout.psf("i")).all()
        assert cutout.valid_fraction("r") == np.float32(np.isfinite(image).mean())


def test_wcs_sends_the_target_to_its_place(product: SmallProduct) -> None:
    with open_cutouts(product.out) as cutouts:
        for cutout in cutouts:
            x, y = cutout.wcs.all_world2pix(cutout.ra, cutout.dec, 0)
            assert (float(x), float(y)) == pytest.approx(cutout.target_xy, abs=1e-6)
            assert cutout.wcs.naxis == 2
            assert cutout.wcs.wcs.radesys == "ICRS"
            assert cutout.wcs.pixel_shape == (16, 16)


def test_positions_are_those_of_the_projection(product: SmallProduct) -> None:
    with open_cutouts(product.out) as cutouts:
        for cutout in cutouts[::2]:
            x, y = np.array([0.0, 3.25, 15.0]), np.array([1.5, 7.0, 12.75])
            expected = cutout.wcs.all_pix2world(x, y, 0)
            np.testing.assert_allclose(cutout.pixel_to_sky(x, y), expected, rtol=0, atol=1e-10)
            np.testing.assert_allclose(cutout.sky_to_pixel(*expected), (x, y), rtol=0, atol=1e-6)


def test_positions_are_icrs_even_where_the_images_are_not(copy: Path) -> None:
    """Images in Galactic coordinates, latitude first, whose exact cards are
    in the file; the expected position is by astropy's own frames.
    """
    wcs = astropy.wcs.WCS(naxis=2)
    wcs.wcs.ctype = ["GLAT-TAN", "GLON-TAN"]
    target = astropy.coordinates.SkyCoord(150.1, 2.2, unit="deg").galactic
    wcs.wcs.crval = [target.b.deg, target.l.deg]
    wcs.wcs.crpix = (301.0, 251.0)
    wcs.wcs.cd = [[-1e-4, 0], [0, 5e-5]]
    cards = wcs.to_header().tostring(sep="\n", endcard=False, padding=False)
    with h5py.File(data_file(copy), "r+") as file:
        file["wcs/exact"][...] = False
        shape = file["provenance/wcs"].shape
        del file["provenance/wcs"]
        file["provenance/wcs"] = np.full(shape, cards.encode())
    with open_cutouts(copy) as cutouts:
        for cutout in (cutouts[0], cutouts[5]):
            x, y = np.array([2.0, 9.5]), np.array([4.5, 15.0])
            ra, dec = cutout.pixel_to_sky(x, y)
            expected = cutout.wcs.pixel_to_world(x, y).icrs
            found = astropy.coordinates.SkyCoord(ra, dec, unit="deg")
            assert (found.separation(expected).arcsec < 1e-6).all()
            np.testing.assert_allclose(cutout.sky_to_pixel(ra, dec), (x, y), rtol=0, atol=1e-6)


def test_carried_columns_come_back_with_nulls(product: SmallProduct) -> None:
    with open_cutouts(product.out) as cutouts:
        assert cutouts.by_row(4).carried == {"flux_r": 6.0, "n_visits": 4, "is_star": None, "note": "nöte 4"}
        assert cutouts.by_row(5).carried["note"] is None
        assert cutouts.by_row(3).carried == {"flux_r": 4.5, "n_visits": None, "is_star": False, "note": ""}


@pytest.mark.parametrize("names", [("SATURATED", "SAT"), ("COSMIC_RAY", "CR"), ("DETECTED",)])
def test_mask_planes_have_old_and_new_names(product: SmallProduct, names: tuple[str, ...]) -> None:
    bit = {"SATURATED": 3, "COSMIC_RAY": 2, "DETECTED": 7}[names[0]]
    with open_cutouts(product.out) as cutouts:
        mask = cutouts[0].mask("g")
        assert (mask & (1 << bit)).any()
        for name in names:
            plane = cutouts[0].mask_plane(name, "g")
            assert plane.dtype == bool
            np.testing.assert_array_equal(plane, (mask >> bit) % 2 == 1)


def test_files_with_old_names_take_the_new_ones(copy: Path) -> None:
    with h5py.File(data_file(copy), "r+") as file:
        file["meta/mask_planes/name"][:] = [b"NO_DATA", b"CR", b"SAT", b"DETECTED"]
    with open_cutouts(copy) as cutouts:
        np.testing.assert_array_equal(
            cutouts[0].mask_plane("SATURATED", "g"), cutouts[0].mask_plane("SAT", "g")
        )


def test_wrong_names_bring_the_nearest(product: SmallProduct) -> None:
    with open_cutouts(product.out) as cutouts:
        with pytest.raises(UserError, match="did you mean 'SATURATED'"):
            cutouts[0].mask_plane("SATURATD", "g")
        with pytest.raises(UserError, match="no plane EDGE.*the planes are NO_DATA, COSMIC_RAY"):
            cutouts[0].mask_plane("EDGE", "g")
        with pytest.raises(UserError, match="did you mean 'r'.*the bands are g, r, i"):
            cutouts[0].image("R")


def test_row_without_cutout_says_why(product: SmallProduct) -> None:
    with open_cutouts(product.out) as cutouts:
        with pytest.raises(UserError, match="outside_footprint: The position lies outside"):
            cutouts.by_row(2)
        with pytest.raises(UserError, match="no such row"):
            cutouts.by_row(900)


def test_ids_are_numbers_or_text_as_given(product: SmallProduct, two_sizes: SmallProduct) -> None:
    with open_cutouts(product.out) as cutouts:
        assert [cutout.row for cutout in cutouts.by_id(9_000_000_021)] == [3]
        assert cutouts.by_id(17) == []
        with pytest.raises(UserError, match="are numbers; 'b' is text"):
            cutouts.by_id("b")
    with open_cutouts(two_sizes.out) as cutouts:
        assert [cutout.object_id for cutout in cutouts.by_id("α-1")] == ["α-1"]
        with pytest.raises(UserError, match="are text; 3 is a number"):
            cutouts.by_id(3)


def test_all_cutouts_of_an_id_are_found(copy: Path) -> None:
    with h5py.File(data_file(copy), "r+") as file:
        file["catalog/object_id"][:] = [5, 6, 5, 7, 8, 5, 9]
    with open_cutouts(copy) as cutouts:
        assert [cutout.row for cutout in cutouts.by_id(5)] == [0, 5, 4]


def test_near_finds_the_nearest_first(product: SmallProduct) -> None:
    """Rows 0 and 6 are about 17.6 px, 3.5 arcsec, apart."""
    with open_cutouts(product.out) as cutouts:
        target = cutouts.by_row(6)
        assert [cutout.row for cutout in cutouts.near(target.ra, target.dec, 0.0)] == [6]
        assert [cutout.row for cutout in cutouts.near(target.ra, target.dec, 3.55)] == [6, 0]
        assert [cutout.row for cutout in cutouts.near(target.ra + 360, target.dec, 3.55)] == [6, 0]
        assert cutouts.near(target.ra + 180, target.dec, 100.0) == []


def test_mixed_sizes_are_one_sequence_and_one_each(two_sizes: SmallProduct) -> None:
    """Catalog rows are 9 and 16 px in turn."""
    with open_cutouts(two_sizes.out) as cutouts:
        assert cutouts.sizes == (9, 16)
        assert [cutout.row for cutout in cutouts] == [0, 6, 4, 8, 1, 5, 3]
        assert [cutout.image("g").shape[0] for cutout in cutouts] == [9] * 4 + [16] * 3
        with cutouts.of_size(16) as larger:
            assert [cutout.row for cutout in larger] == [1, 5, 3]
            assert larger.of_size(16).sizes == (16,)
        with pytest.raises(UserError, match="the sizes are: 9, 16"):
            cutouts.of_size(64)
        assert cutouts.by_row(5).size == 16


def test_few_files_are_open_at_a_time(two_sizes: SmallProduct, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cutouts_module, "_MOST_OPEN_FILES", 1)

    def open_files() -> int:
        return sum(
            os.readlink(f"/proc/self/fd/{fd}").endswith(".hdf5")
            for fd in os.listdir("/proc/self/fd")
            if os.path.islink(f"/proc/self/fd/{fd}")
        )

    before = open_files()
    with open_cutouts(two_sizes.out) as cutouts:
        assert open_files() == before
        for number in (0, 6, 0, 5):
            cutouts[number].image("g")
            assert open_files() == before + 1
    assert open_files() == before
    with pytest.raises(ValueError, match="closed"):
        cutouts[0].image("g")


def test_plane_that_was_not_requested_is_named(tmp_path: Path) -> None:
    with open_cutouts(SmallProduct(tmp_path, planes=("image",)).make().out) as cutouts:
        assert cutouts[0].image("g").shape == (16, 16)
        with pytest.raises(UserError, match="no variance: its request did not ask"):
            cutouts[0].variance("g")
        with pytest.raises(UserError, match="no mask"):
            cutouts[0].mask_plane("SAT", "g")


def test_product_without_cutouts_is_empty(tmp_path: Path) -> None:
    with open_cutouts(SmallProduct(tmp_path, empty=True).make().out) as cutouts:
        assert len(cutouts) == 0
        assert list(cutouts) == []
        assert cutouts.by_id(3) == []
        assert cutouts.near(10, 10, 1e6) == []


def test_file_without_rows_is_empty(copy: Path) -> None:
    layout = dataclasses.replace(SmallProduct(copy).layout(16), carried=())
    with HDF5Writer(copy / "size=16" / "none.hdf5", layout, 0) as writer:
        writer.write(0, blank_columns(layout, 0))
    assert len(open_cutouts(copy / "size=16" / "none.hdf5")) == 0
    with open_cutouts(copy) as cutouts:
        assert [cutout.row for cutout in cutouts] == ROWS
        assert [cutout.row for cutout in cutouts.by_id(9_000_000_021)] == [3]


def test_path_without_product_says_what_to_give(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no cutouts"):
        open_cutouts(tmp_path)
    with pytest.raises(UserError, match="nothing at"):
        open_cutouts(tmp_path / "absent")


def test_missing_file_is_noticed(two_sizes: SmallProduct, tmp_path: Path) -> None:
    out = Path(shutil.copytree(two_sizes.out, tmp_path / "out"))
    gone = next(out.glob("size=9/*"))
    gone.unlink()
    with pytest.raises(CorruptInputError, match="size=9.* is missing"):
        open_cutouts(out)
    assert len(open_cutouts(out / "size=16")) == 3


def test_truncated_file_is_named(copy: Path) -> None:
    path = data_file(copy)
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(CorruptInputError, match=f"{path.name} is damaged"):
        len(open_cutouts(copy))


def test_damaged_pixels_name_file_and_dataset(copy: Path) -> None:
    """Only the cutout whose bytes are hit is lost."""
    path = data_file(copy)
    with h5py.File(path) as file:
        chunk = file["images/mask"].id.get_chunk_info(0)
    contents = bytearray(path.read_bytes())
    contents[chunk.byte_offset : chunk.byte_offset + 8] = b"\xff" * 8
    path.write_bytes(contents)
    with open_cutouts(copy) as cutouts:
        with pytest.raises(CorruptInputError, match=f"{path.name} is damaged: cannot read images/mask"):
            cutouts[0].mask("g")
        assert cutouts[1].mask("g").shape == (16, 16)
        assert cutouts[0].image("g").shape == (16, 16)


def test_lost_dataset_is_named(copy: Path) -> None:
    path = data_file(copy)
    with h5py.File(path, "r+") as file:
        del file["catalog/ra"]
    with open_cutouts(copy) as cutouts, pytest.raises(CorruptInputError, match="catalog/ra"):
        cutouts.near(0, 0, 1)


def test_file_that_is_no_hdf5_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.hdf5").write_text("not at all")
    with pytest.raises(CorruptInputError, match=r"x\.hdf5"):
        len(open_cutouts(tmp_path / "x.hdf5"))
