# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""The made-up sky of `lsst.dax.bulkcutout.tests` is what it says it is."""

from __future__ import annotations

import json
import sqlite3

import astropy.io.fits
import numpy as np
import pyarrow.csv
import pyarrow.parquet
import pytest

import lsst.images as li
from lsst.dax.bulkcutout.tests import (
    MASK_PLANES,
    Sky,
    Sources,
    empty_sky,
    hsc_repo,
    make_coadd,
    make_repo,
    make_targets,
    point_sources,
    real_data,
    rings_layout,
    tangent_layout,
    tangent_tract,
    write_coadd,
)
from lsst.dax.bulkcutout.tests.rendering import cell_psf
from lsst.dax.bulkcutout.tests.targets import write_random_catalog
from lsst.sphgeom import Region

TRACT = 12
CELLS = {(TRACT, 1, "r"): {(0, 0), (2, 3)}, (TRACT, 1, "g"): {(2, 3)}}


@pytest.fixture(scope="module")
def small_layout():
    return tangent_layout([tangent_tract(TRACT, rotation_deg=10.0)])


@pytest.fixture(scope="module")
def sky_repo(tmp_path_factory, small_layout):
    return make_repo(
        tmp_path_factory.mktemp("sky") / "repo",
        layout=small_layout,
        bands=("g", "r"),
        missing={(TRACT, 0, "g")},
        missing_cells=CELLS,
        mask_planes={(TRACT, 0, "r"): ("BAD", *reversed(MASK_PLANES))},
    )


@pytest.fixture(scope="module")
def coded_repo(tmp_path_factory, small_layout):
    return make_repo(
        tmp_path_factory.mktemp("coded") / "repo",
        layout=small_layout,
        bands=("r",),
        pixels="coordinates",
        missing_cells=CELLS,
        full=True,
    )


def test_butler_returns_the_pixels_that_were_drawn(sky_repo):
    with sky_repo.butler() as butler:
        for (tract, patch, band), ref in sky_repo.refs.items():
            coadd = butler.get("deep_coadd", skymap=sky_repo.skymap, tract=tract, patch=patch, band=band)
            expected = sky_repo.planes(tract, patch, band)
            assert (coadd.tract, coadd.patch.id, coadd.band) == (tract, patch, band)
            np.testing.assert_array_equal(coadd.image.array, expected.image)
            np.testing.assert_array_equal(coadd.variance.array, expected.variance)
            for name in MASK_PLANES:
                np.testing.assert_array_equal(
                    coadd.mask.get(name), expected.mask.get(name, np.zeros(expected.image.shape, bool))
                )
            assert coadd.backgrounds.subtracted.name == "object"
            assert butler.get_dataset(ref.id) == ref


def test_patches_are_neither_square_nor_at_the_origin(sky_repo):
    box = sky_repo.layout.patch(TRACT, 1).outer
    assert box.shape == (250, 300)
    with sky_repo.butler() as butler:
        image = butler.get(sky_repo.refs[TRACT, 1, "r"]).image
    assert (image.bbox.y.start, image.bbox.x.start) == (box.y0, box.x0) == (1150, 450)


def test_projection_of_the_file_agrees_with_the_layout(sky_repo):
    wcs = sky_repo.wcs[TRACT]
    x, y = np.array([470.0, 700.3]), np.array([1150.0, 1399.0])
    with sky_repo.butler() as butler:
        sky = butler.get(sky_repo.refs[TRACT, 1, "r"]).sky_projection.pixel_to_sky(li.XY(x=x, y=y))
    ra, dec = wcs.all_pix2world(x, y, 0)
    np.testing.assert_allclose([sky.ra.deg, sky.dec.deg], [ra, dec], rtol=0, atol=1e-11)


def test_missing_cells_have_neither_pixels_nor_a_psf(sky_repo):
    with sky_repo.butler() as butler:
        coadd = butler.get(sky_repo.refs[TRACT, 1, "r"])
    lost = np.zeros(coadd.image.array.shape, dtype=bool)
    for row, column in CELLS[TRACT, 1, "r"]:
        lost[50 * row : 50 * row + 50, 50 * column : 50 * column + 50] = True
        assert np.isnan(coadd.psf._array[row, column]).all()
    np.testing.assert_array_equal(np.isnan(coadd.image.array), lost)
    np.testing.assert_array_equal(np.isnan(coadd.variance.array), lost)
    np.testing.assert_array_equal(coadd.mask.get("NO_DATA"), lost)
    assert not coadd.mask.get("DETECTED")[lost].any()
    assert {(cell.i, cell.j) for cell in coadd.bounds.missing} == CELLS[TRACT, 1, "r"]


def test_mask_planes_may_have_other_bits_in_each_file(sky_repo):
    def bits(key):
        with astropy.io.fits.open(sky_repo.paths[key]) as file:
            header = file["MASK"].header
            return [header[f"MSKN{n:04d}"] for n in range(20) if f"MSKN{n:04d}" in header]

    assert bits((TRACT, 1, "r")) == list(MASK_PLANES)
    assert bits((TRACT, 0, "r")) == ["BAD", *reversed(MASK_PLANES)]


def test_overlapping_patches_differ_by_their_constants(sky_repo):
    with sky_repo.butler() as butler:
        left, right = (butler.get(sky_repo.refs[TRACT, patch, "r"]) for patch in (0, 1))
    overlap = left.bbox.intersection(right.bbox)
    assert overlap.shape == (250, 100)
    difference = right.image[overlap].array - left.image[overlap].array
    constant = sky_repo.offset(TRACT, 1, "r") - sky_repo.offset(TRACT, 0, "r")
    assert constant != 0
    good = ~np.isnan(difference)
    assert 0.8 < good.mean() < 1
    np.testing.assert_allclose(difference[good], constant, atol=1e-3)
    np.testing.assert_array_equal(left.variance[overlap].array[good], right.variance[overlap].array[good])


def test_no_two_images_have_the_same_constant(sky_repo):
    constants = {sky_repo.offset(TRACT, patch, band) for patch in (0, 1) for band in "gr"}
    assert len(constants) == 4
    assert 0 not in constants


def test_noise_has_the_variance_that_the_variance_plane_says(sky_repo):
    planes = sky_repo.planes(TRACT, 1, "r")
    empty = ~np.isnan(planes.image) & ~planes.mask["DETECTED"]
    pull = (planes.image[empty] - np.median(planes.image[empty])) / np.sqrt(planes.variance[empty])
    assert abs(pull.std() - 1) < 0.05


@pytest.mark.parametrize("compression", ["gzip", "rice"])
def test_both_compressions_are_those_of_dp2(tmp_path, small_layout, compression):
    coadd = make_coadd(small_layout, TRACT, 1, "r", missing_cells=[(0, 0)], full=True)
    write_coadd(coadd, tmp_path / "coadd.fits", compression)
    with astropy.io.fits.open(tmp_path / "coadd.fits", disable_image_compression=True) as file:
        headers = {hdu.name: hdu.header for hdu in file}
        tree = json.loads(bytes(file["JSON"].data[0][0]))
    expected = {"gzip": ("GZIP_2", "NO_DITHER"), "rice": ("RICE_1", "SUBTRACTIVE_DITHER_2")}[compression]
    for plane in ("IMAGE", "VARIANCE"):
        kind = (headers[plane]["ZCMPTYPE"], headers[plane].get("ZQUANTIZ", "NO_DITHER"))
        assert kind == expected
        assert (headers[plane]["ZTILE1"], headers[plane]["ZTILE2"]) == (50, 50)
    assert headers["MASK"]["ZCMPTYPE"] == "GZIP_2"
    assert tree["patch"]["index"] in ([0, 1], {"y": 0, "x": 1})
    assert list(headers)[:6] == ["PRIMARY", "IMAGE", "MASK", "VARIANCE", "MASK_FRACTIONS/REJECTED",
                                 "NOISE_REALIZATIONS/0"]  # fmt: skip
    with li.serialization.open_archive(tmp_path / "coadd.fits") as reader:
        read = reader.read()
    sigma = np.sqrt(np.nanmedian(coadd.variance.array))
    worst = np.nanmax(np.abs(read.image.array - coadd.image.array))
    assert worst == 0 if compression == "gzip" else 0 < worst < sigma / 8
    np.testing.assert_array_equal(np.isnan(read.image.array), np.isnan(coadd.image.array))
    assert read.provenance is not None and read.aperture_corrections and read.noise_realizations


def test_stars_are_where_and_what_the_truth_says(small_layout):
    """The centroid comes from moments, the flux from a sum over the pixels."""
    tract = small_layout.tracts[TRACT]
    x, y = np.array([501.3, 680.0]), np.array([1222.75, 1300.0])
    ra, dec = tract.pixel_to_sky(x, y)
    extra = point_sources(ra, dec, [3000.0, 1000.0])
    sky = empty_sky(extra)
    image = make_coadd(small_layout, TRACT, 1, "r", sky=sky).image
    for k, flux in enumerate((3000.0, 1000.0)):
        row, column = round(y[k]) - image.bbox.y.start, round(x[k]) - image.bbox.x.start
        stamp = image.array[row - 15 : row + 16, column - 15 : column + 16].astype(float)
        dy, dx = np.mgrid[-15:16, -15:16]
        assert (stamp * dx).sum() / stamp.sum() + round(x[k]) == pytest.approx(x[k], abs=0.05)
        assert (stamp * dy).sum() / stamp.sum() + round(y[k]) == pytest.approx(y[k], abs=0.05)
        assert stamp.sum() == pytest.approx(flux, rel=0.02)


def test_a_star_on_a_pixel_centre_is_the_kernel_of_its_cell(small_layout):
    tract = small_layout.tracts[TRACT]
    ra, dec = tract.pixel_to_sky(680.0, 1300.0)
    sky = empty_sky(point_sources(ra, dec, 5000.0))
    coadd = make_coadd(small_layout, TRACT, 1, "r", sky=sky)
    kernel = coadd.psf.compute_kernel_image(x=680, y=1300).array
    assert kernel.shape == (21, 21)
    assert kernel.sum() == pytest.approx(1)
    box = li.Box.factory[1290:1311, 670:691]
    np.testing.assert_allclose(coadd.image[box].array, 5000 * kernel, rtol=1e-5)


def test_psfs_differ_from_cell_to_cell_and_from_band_to_band(sky_repo):
    tract = sky_repo.layout.tracts[TRACT]
    widths = {
        cell_psf(sky_repo.sky, tract, band, (1150, x0)).fwhm for band in "gri" for x0 in (250, 300, 350)
    }
    assert len(widths) == 9


def test_two_tracts_see_the_same_sources():
    east, west = (
        tangent_tract(n, center=(0.001 + shift, -45.0), n_patches=(1, 1), rotation_deg=20.0 * n)
        for n, shift in enumerate((-0.002, 0.002))
    )
    sky = Sky()
    found = [sky.sources(t, t.bbox, margin=0) for t in (east, west)]
    common = np.intersect1d(found[0].id, found[1].id)
    assert len(common) > 5
    both = Sources.concatenate(found)
    assert len(np.unique(both.id)) == len(np.unique(both.ra)) > len(common)


def test_sources_have_colours_and_believable_numbers():
    tract = tangent_tract(inner=(600, 600), n_patches=(1, 1), border=(0, 0))
    sources = Sky().sources(tract, tract.bbox, margin=0)
    area = (600 * 0.2 / 60) ** 2
    assert (~sources.is_star).sum() == pytest.approx(60 * area, rel=0.25)
    magnitude = 31.4 - 2.5 * np.log10(sources.flux[:, 3])
    assert (magnitude < 22).sum() < 0.3 * (magnitude < 25).sum()
    assert np.std(np.log10(sources.flux[:, 1] / sources.flux[:, 3])) > 0.1


def test_bright_stars_saturate(small_layout):
    ra, dec = small_layout.tracts[TRACT].pixel_to_sky(600.0, 1280.0)
    sky = Sky(extra=point_sources(ra, dec, 5e6))
    coadd = make_coadd(small_layout, TRACT, 1, "r", sky=sky)
    box = li.Box.factory[1280:1281, 600:601]
    for name in ("SATURATED", "INTERPOLATED", "REJECTED", "INEXACT_PSF", "DETECTED"):
        assert coadd.mask[box].get(name).all(), name
        assert not coadd.mask.get(name).all()
    assert coadd.image[box].array[0, 0] == pytest.approx(sky.saturation_njy, rel=0.02)


def test_blemishes_are_in_the_mask(small_layout):
    planes = set()
    for band in "ugrizy":
        mask = make_coadd(small_layout, TRACT, 0, band, sky=Sky(seed=3)).mask
        planes |= {name for name in MASK_PLANES if mask.get(name).any()}
        assert not (mask.get("COSMIC_RAY") & ~mask.get("REJECTED")).any()
    assert planes >= {"COSMIC_RAY", "CLIPPED", "REJECTED", "INEXACT_PSF", "DETECTION_EDGE", "DETECTED"}


def test_coordinate_pixels_say_which_they_are(coded_repo):
    with coded_repo.butler() as butler:
        for (tract, patch, band), ref in coded_repo.refs.items():
            coadd = butler.get(ref)
            box = coded_repo.layout.patch(tract, patch).outer
            y, x = np.mgrid[box.y0 : box.y1, box.x0 : box.x1]
            good = ~np.isnan(coadd.image.array)
            assert good.mean() > 0.9
            for plane in ("image", "variance"):
                expected = coded_repo.expected_pixel(plane, tract, patch, band, y, x)
                np.testing.assert_array_equal(getattr(coadd, plane).array[good], expected[good])
            bits = sum(coadd.mask.get(name).astype(int) << bit for bit, name in enumerate(MASK_PLANES))
            expected = coded_repo.expected_pixel("mask", tract, patch, band, y, x)
            np.testing.assert_array_equal(bits[good], expected[good])


def test_coordinate_pixels_can_be_decoded(coded_repo):
    code = coded_repo.code
    for plane in ("image", "variance"):
        for patch, y, x in ((0, 1150, 250), (1, 1399, 749), (1, 1234, 567)):
            value = code.expected_pixel(plane, TRACT, patch, "r", y, x)
            name = code.decode(float(value))
            assert (name.plane, name.tract, name.patch, name.band) == (plane, TRACT, patch, "r")
            assert (name.y, name.x) == (y, x)
    with pytest.raises(ValueError, match="not the value"):
        code.decode(1.5)
    with pytest.raises(ValueError, match="outside"):
        code.expected_pixel("image", TRACT, 0, "r", 0, 0)


def test_rings_layout_is_that_of_the_sky_map(tmp_path):
    """Pixels of a neighbour tract fall where the rings say, by astropy."""
    layout = rings_layout("lsst_cells_v2", {5428: (76,)}, cell=150)
    patch = layout.patch(5428, 76)
    assert patch.outer.shape == (3300, 3300)
    assert patch.n_cells == (22, 22)
    assert patch.index == (7, 6)
    path = real_data("lsst_dp2_coadd/butler_gen3.sqlite3")
    if path is None:
        pytest.skip("real data: lsst_dp2_coadd is not there")
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    rows = connection.execute("SELECT id, region FROM patch WHERE tract = 5428").fetchall()
    connection.close()
    assert len(rows) == 100
    for patch_id, text in rows:
        region = layout.tracts[5428].region(layout.patch(5428, patch_id).outer)
        theirs = np.array([[v.x(), v.y(), v.z()] for v in Region.decodeBase64(text).getVertices()])
        ours = np.array([[v.x(), v.y(), v.z()] for v in region.getVertices()])
        distance = np.linalg.norm(theirs[:, None] - ours[None], axis=2).min(axis=1)
        assert np.degrees(distance.max()) * 3600 < 1e-6


def test_repository_has_the_records_of_all_patches(sky_repo):
    with sky_repo.butler() as butler:
        (skymap,) = butler.query_dimension_records("skymap")
        (tract,) = butler.query_dimension_records("tract")
        patches = butler.query_dimension_records("patch")
        (found,) = {ref.dataId["skymap"] for ref in butler.query_datasets("deep_coadd", collections="coadds")}
    assert (found, skymap.patch_nx_max, skymap.patch_ny_max) == ("tangent_test", 2, 1)
    assert [(record.id, record.cell_x, record.cell_y) for record in patches] == [(0, 0, 0), (1, 1, 0)]
    layout_tract = sky_repo.layout.tracts[TRACT]
    for record in patches:
        assert record.region.getBoundingCircle().contains(
            layout_tract.region(sky_repo.layout.patch(TRACT, record.id).inner).getBoundingCircle()
        )
    assert len(tract.region.getVertices()) == 4


@pytest.mark.parametrize("id_type", ["int64", "string"])
def test_targets_come_with_their_answers(sky_repo, tmp_path, id_type):
    targets = make_targets(sky_repo, sizes=(32, 51), id_type=id_type, with_patches=True)
    table, expected = targets.table, targets.expected.to_pylist()
    assert len(table) == len(expected)
    statuses = {row["status"] for row in expected}
    assert {"delivered", "outside_footprint", "invalid_position", "invalid_id", "invalid_size"} <= statuses
    positions = table.select(["ra", "dec"]).to_pylist()
    for row, position in zip(expected, positions, strict=True):
        if row["status"] == "delivered":
            box = sky_repo.layout.patch(row["tract"], row["patch"]).inner
            assert box.y0 - 0.5 <= row["y"] < box.y1 - 0.5 and box.x0 - 0.5 <= row["x"] < box.x1 - 0.5
            x, y = sky_repo.wcs[row["tract"]].all_world2pix(position["ra"], position["dec"], 0)
            assert (x, y) == pytest.approx((row["x"], row["y"]), abs=1e-6)
            assert set(row["bands"].split(",")) <= ({"r"} if row["patch"] == 0 else {"g", "r"})
    field = table.schema.field("mag_i")
    assert field.metadata == {b"unit": b"mag", b"description": b"Magnitude in i."}
    assert {"redshift", "n_visits", "variable", "class", "size", "tract"} <= set(table.column_names)
    assert table["variable"].null_count > 0
    read = pyarrow.parquet.read_table(targets.write(tmp_path / "t.parquet"))
    assert str(read) == str(table) and read.schema.equals(table.schema, check_metadata=True)
    read = pyarrow.csv.read_csv(targets.write(tmp_path / "t.csv"))
    assert read.column_names == table.column_names and len(read) == len(table)


def test_targets_in_missing_cells_get_nothing(tmp_path, small_layout):
    everywhere = {(TRACT, 1, "r"): {(2, 3)}}
    repo = make_repo(
        tmp_path / "repo",
        layout=small_layout,
        bands=("r",),
        missing={(TRACT, 0, "r")},
        missing_cells=everywhere,
    )
    rows = make_targets(repo, size=20, bad_rows=False).expected.to_pylist()
    assert [row["status"] for row in rows if row["kind"] == "missing_cell"] == ["no_data"]
    # Patch 0 has no image, but in the overlap another patch could help out.
    tract = repo.layout.tracts[TRACT]
    assert {row["status"] for row in rows if row["patch"] == 0} <= {None, "no_dataset"}
    assert repo.home(*(float(v) for v in tract.pixel_to_sky(310, 1250)))[:2] == (TRACT, 0)


def test_random_catalog_lies_in_the_images(sky_repo, tmp_path):
    path = write_random_catalog(tmp_path / "big.parquet", sky_repo, 1000, batch_rows=300)
    table = pyarrow.parquet.read_table(path)
    assert len(table) == 1000 and table["id"].to_pylist() == list(range(1000))
    homes = {
        sky_repo.home(ra, dec)[:2]
        for ra, dec in zip(*(table[c].to_pylist() for c in ("ra", "dec")), strict=True)
    }
    assert homes == {(TRACT, 0), (TRACT, 1)}


def test_home_is_the_ring_s_and_not_the_nearest_tract():
    """In the corners of tracts the two differ."""
    from lsst.dax.bulkcutout.tests.demo import demo_layout
    from lsst.dax.bulkcutout.tests.repositories import SkyRepository

    layout = demo_layout()
    repo = SkyRepository(None, "", "", "", layout, (), {}, {}, {})
    (west, a), (east, b) = layout.tracts.items()
    border = (a.crval[0] + b.crval[0]) / 2
    assert repo.home(border - 1e-6, a.crval[1])[0] == west
    assert repo.home(border + 1e-6, a.crval[1])[0] == east
    assert repo.home(border, a.crval[1] + 0.2) is None
    assert {patch for tract, patch in layout.images if tract == west} == {24, 25, 32, 33}


def test_demonstration_leaves_other_directories_alone(tmp_path, capsys):
    from lsst.dax.bulkcutout.tests import demo

    precious = tmp_path / "thesis.txt"
    precious.write_text("mine")
    assert demo.main(["--out", str(tmp_path)]) == 1
    assert precious.read_text() == "mine"
    assert "not of a former demonstration" in capsys.readouterr().err


def test_hsc_images_become_a_repository(tmp_path):
    folder = real_data("hsc_slug")
    if folder is None:
        pytest.skip("real data: hsc_slug is not there")
    repo, catalog = hsc_repo(tmp_path / "repo", folder)
    counts = astropy.io.fits.getdata(folder / "r-band.fits")
    wcs = astropy.wcs.WCS(astropy.io.fits.getheader(folder / "r-band.fits"))
    with repo.butler() as butler:
        coadds = {patch: butler.get(repo.refs[9004, patch, "r"]) for patch in range(4)}
    assert len(catalog) > 50
    for row in catalog.to_pylist():
        column, line = wcs.all_world2pix(row["ra"], row["dec"], 0)
        x, y = repo.wcs[9004].all_world2pix(row["ra"], row["dec"], 0)
        coadd = coadds[row["patch"]]
        row_in, column_in = round(float(y)) - coadd.bbox.y.start, round(float(x)) - coadd.bbox.x.start
        njy = counts[round(float(line)), round(float(column))] * 57.543993733715695
        assert coadd.image.array[row_in, column_in] == pytest.approx(njy, rel=1e-6)
    coadd = coadds[0]
    np.testing.assert_array_equal(coadd.mask.get("NO_DATA"), np.isnan(coadd.image.array))
    assert 0 < np.isnan(coadd.image.array).mean() < 0.2
