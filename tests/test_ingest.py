# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Folders of FITS images become repositories, and cutouts of them products."""

from __future__ import annotations

import gzip
import subprocess
import sys
from pathlib import Path
from typing import Any

import astropy.io.fits
import astropy.wcs
import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from click.testing import CliRunner
from plain_files import SHAPE, coded, header, sky, write

from lsst.daf.butler import Butler
from lsst.dax.bulkcutout import open_cutouts
from lsst.dax.bulkcutout.cli import cli
from lsst.dax.bulkcutout.errors import UserError
from lsst.dax.bulkcutout.ingest.footprints import BandRule
from lsst.dax.bulkcutout.ingest.options import ingest_named
from lsst.dax.bulkcutout.ingest.repository import ingest
from lsst.dax.bulkcutout.tests.campaigns import run_here
from lsst.dax.bulkcutout.tests.hsc import real_data
from lsst.dax.bulkcutout.verify.product import verify_product
from lsst.sphgeom import LonLat, UnitVector3d


def places(report: Any) -> dict[str, tuple[int, int, str]]:
    """Tract, patch and band by the name of the file."""
    return {path.name: (tract, patch, band) for path, tract, patch, band in report.ingested}


def make_folder(folder: Path) -> Path:
    """Three bands of one footprint, a second one on the same grid that lacks
    a band and lies 60 pixels to the right, and one on another grid.
    """
    for number, band in enumerate("gri"):
        write(folder / f"a_{band}.fits", coded(number), FILTER=band)
    for number, band in enumerate("gr", start=3):
        write(folder / f"b_{band}.fits", coded(number, (50, 80)), FILTER=band, CRPIX1=61.25 - 60)
    write(folder / "c.fits", coded(5), header("SIN", CRVAL1=211.9), FILTER="HSC-I")
    return folder


def write_request(directory: Path, report: Any, positions: list[tuple[float, float]], **fields: Any) -> Path:
    lines = [f"{number},{ra:.10f},{dec:.10f}" for number, (ra, dec) in enumerate(positions)]
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "catalog.csv").write_text("\n".join(["id,ra,dec", *lines]) + "\n")
    request = {
        "schema_version": 1,
        "request_id": "plain",
        "catalog": {"uri": "catalog.csv"},
        **yaml.safe_load(report.request),
        "size": 16,
        "output": "out",
        **fields,
    }
    (directory / "request.yaml").write_text(yaml.safe_dump(request))
    return directory / "request.yaml"


def test_grids_are_tracts_and_footprints_patches(tmp_path: Path) -> None:
    report = ingest([make_folder(tmp_path / "images")], tmp_path / "repo")
    found = places(report)
    assert {name: place[2] for name, place in found.items()} == {
        "a_g.fits": "g", "a_r.fits": "r", "a_i.fits": "i", "b_g.fits": "g", "b_r.fits": "r", "c.fits": "i",
    }  # fmt: skip
    assert found["a_g.fits"][:2] == found["a_r.fits"][:2] == found["a_i.fits"][:2]
    assert found["b_g.fits"][:2] == found["b_r.fits"][:2]
    assert found["a_g.fits"][0] == found["b_g.fits"][0] != found["c.fits"][0]
    assert found["a_g.fits"][1] != found["b_g.fits"][1]
    assert report.bands == ("g", "r", "i") and not report.refused and not report.notes
    with Butler.from_config(str(tmp_path / "repo")) as butler:
        ref = butler.find_dataset(
            "image",
            skymap="image_footprints",
            tract=found["c.fits"][0],
            patch=0,
            band="i",
            collections="images",
        )
        assert ref is not None
        # The files stay where they are, and the Butler can read them.
        assert Path(butler.getURI(ref).ospath) == tmp_path / "images" / "c.fits"
        assert np.array_equal(butler.get(ref)[0].data, coded(5))
        # The region holds the image's corners, and little more.
        (record,) = butler.query_dimension_records(
            "patch", where=f"skymap = 'image_footprints' AND tract = {ref.dataId['tract']}"
        )
        for x, y, inside in ((0, 0, True), (89, 69, True), (-2, 30, False), (45, 72, False)):
            ra, dec = sky(tmp_path / "images" / "c.fits", x, y)
            assert record.region.contains(UnitVector3d(LonLat.fromDegrees(float(ra), float(dec)))) == inside


def test_cutouts_of_plain_images_are_those_of_astropy(tmp_path: Path) -> None:
    """The whole chain: ingest, graph, cutting, product, verify."""
    folder = make_folder(tmp_path / "images")
    report = ingest([folder], tmp_path / "repo")
    pixels = {"a_g.fits": (30.2, 40.7), "b_g.fits": (70.0, 25.0), "c.fits": (3.0, 66.0)}
    positions = [tuple(map(float, sky(folder / name, *place))) for name, place in pixels.items()]
    request = write_request(tmp_path / "run", report, [*positions, (10.0, 10.0)])
    assert run_here(request)[1] == 0
    out = tmp_path / "run" / "out"
    verified = verify_product(out)
    assert verified.ok, str(verified)
    status = pq.read_table(out / "status.parquet").to_pylist()
    assert [row["status"] for row in status] == ["delivered"] * 3 + ["outside_footprint"]
    with open_cutouts(out) as cutouts:
        for row, (name, (x, y)) in enumerate(pixels.items()):
            cutout = cutouts.by_row(row)
            number = {"a_g.fits": 0, "b_g.fits": 3, "c.fits": 5}[name]
            band = "i" if name == "c.fits" else "g"
            first_x, first_y = int(np.ceil(x - 8)), int(np.ceil(y - 8))
            shape = (50, 80) if name == "b_g.fits" else SHAPE
            expected = np.full((300, 300), np.nan, "f4")
            expected[100 : 100 + shape[0], 100 : 100 + shape[1]] = coded(number, shape)
            part = expected[100 + first_y : 116 + first_y, 100 + first_x : 116 + first_x]
            assert np.array_equal(cutout.image(band), part, equal_nan=True)
            assert np.array_equal(cutout.mask_plane("NO_DATA", band), np.isnan(part))
            # Corners of the cutout are where the image's projection has them.
            corner = sky(folder / name, first_x + np.array([0, 15.0]), first_y + np.array([0, 15.0]))
            mine = cutout.wcs.pixel_to_world([0, 15], [0, 15]).icrs
            assert np.abs((mine.ra.deg - corner[0]) * np.cos(np.radians(38))).max() < 1e-9
            assert np.abs(mine.dec.deg - corner[1]).max() < 1e-9
        assert cutouts.by_row(1).status["i"] == "no_dataset"


def test_images_of_one_grid_complete_each_other(tmp_path: Path) -> None:
    """Their pixels are numbered each from its own corner: those of the second
    footprint lie 60 px to the right.  A third, half a pixel off, is of another
    grid, and gives nothing.
    """
    folder = make_folder(tmp_path / "images")
    write(folder / "d.fits", coded(7, (50, 80)), FILTER="g", CRPIX1=61.25 - 60.5, CRPIX2=-14.5 - 20)
    report = ingest([folder], tmp_path / "repo")
    x, y = np.array([60.3, 52.2, 44.8]), np.array([22.3, 44.4, 30.6])
    positions = list(zip(*(each.tolist() for each in sky(folder / "a_g.fits", x, y)), strict=True))
    size = {"pixels": 90}
    request = write_request(tmp_path / "run", report, positions, size=size, bands=["g"])
    assert run_here(request)[1] == 0
    mosaic = np.full((400, 400), np.nan, "f4")
    mosaic[100:150, 160:240] = coded(3, (50, 80))
    mosaic[100:170, 100:190] = coded(0)
    with open_cutouts(tmp_path / "run" / "out") as cutouts:
        assert len(cutouts) == 3
        for cutout in cutouts:
            first_x, first_y = (int(np.ceil(each[cutout.row] - 45)) + 100 for each in (x, y))
            expected = mosaic[first_y : first_y + 90, first_x : first_x + 90]
            assert np.array_equal(cutout.image("g"), expected, equal_nan=True)
            assert np.array_equal(cutout.mask_plane("NO_DATA", "g"), np.isnan(expected))
            assert cutout.n_patches("g") == (1 if cutout.row == 2 else 2)
            assert cutout.stitched("g") == (cutout.row != 2)
    verified = verify_product(tmp_path / "run" / "out")
    assert verified.ok, str(verified)


def test_more_images_are_added_where_they_belong(tmp_path: Path) -> None:
    """Again does nothing; a new footprint of a known grid is a new patch."""
    folder = make_folder(tmp_path / "images")
    first = ingest([folder], tmp_path / "repo")
    write(folder / "d.fits", coded(7, (20, 30)), FILTER="g", CRPIX2=-14.5 - 40)
    second = ingest([folder], tmp_path / "repo")
    assert len(second.present) == 6 and list(places(second)) == ["d.fits"]
    tract, patch, _ = places(second)["d.fits"]
    assert tract == places(first)["a_g.fits"][0]
    assert patch not in {place[1] for place in places(first).values() if place[0] == tract}
    assert second.request == first.request


def test_two_images_of_one_place_and_band_are_an_error_that_names_both(tmp_path: Path) -> None:
    write(tmp_path / "one.fits", coded(), FILTER="g")
    write(tmp_path / "two.fits", coded(1), FILTER="g")
    with pytest.raises(UserError, match=r"one.fits and .*two.fits have the same pixels .*--collection"):
        ingest([tmp_path / "one.fits", tmp_path / "two.fits"], tmp_path / "repo")
    # Nothing is left of a repository that was made for them.
    assert not (tmp_path / "repo").exists()
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="the same pixels"):
        ingest([tmp_path / "one.fits", tmp_path / "two.fits"], tmp_path / "empty")
    assert not list((tmp_path / "empty").iterdir())
    ingest([tmp_path / "one.fits"], tmp_path / "repo")
    report = ingest([tmp_path / "two.fits"], tmp_path / "repo", collection="again")
    assert len(report.ingested) == 1
    # What was there before stays.
    with pytest.raises(UserError, match="the same pixels"):
        ingest([tmp_path / "two.fits"], tmp_path / "repo")
    assert len(ingest([tmp_path / "one.fits"], tmp_path / "repo").present) == 1


def test_packed_files_of_a_folder_are_listed(tmp_path: Path) -> None:
    """They are not read, which must be said of each."""
    write(tmp_path / "in" / "a.fits", coded(), FILTER="g")
    (tmp_path / "in" / "b.fits.gz").write_bytes(gzip.compress((tmp_path / "in" / "a.fits").read_bytes()))
    (tmp_path / "in" / "notes.txt.gz").touch()
    report = ingest([tmp_path / "in"], tmp_path / "repo")
    assert [path.name for path, *_ in report.ingested] == ["a.fits"]
    ((path, reason),) = report.refused
    assert path.name == "b.fits.gz" and "unpack it first" in reason


def test_companions_may_come_later(tmp_path: Path) -> None:
    """The image is there already; its mask is taken all the same, once."""
    folder = tmp_path / "in"
    write(folder / "a_sci.fits", coded(), FILTER="g")
    ingest([folder], tmp_path / "repo")
    write(folder / "a_msk.fits", np.ones(SHAPE, "i2"))
    for _ in range(2):
        report = ingest([folder], tmp_path / "repo", companions={"mask": "*_msk.fits"})
        assert not report.ingested and len(report.present) == 1 and not report.notes
        assert report.companions == {"mask": "image_mask"}
        with Butler.from_config(str(tmp_path / "repo")) as butler:
            (ref,) = butler.query_datasets("image_mask", collections="images")
            assert Path(butler.getURI(ref).ospath) == folder / "a_msk.fits"
    # Another one in its place is not taken silently.
    (folder / "a_msk.fits").rename(tmp_path / "a_other.fits")
    write(folder / "a_flg.fits", np.ones(SHAPE, "i2"))
    report = ingest([folder], tmp_path / "repo", companions={"mask": "*_flg.fits"})
    assert any("a_flg.fits is not taken" in note and "a_msk.fits" in note for note in report.notes)


def test_image_that_has_moved_since_is_noted(tmp_path: Path) -> None:
    """The repository has it where it was; one whose pixels changed is fine."""
    for cards, notes in ((header(), 0), (header(RADESYS="ICRS"), 0), (header(CRVAL1=220.0), 1)):
        (tmp_path / "a.fits").unlink(missing_ok=True)
        write(tmp_path / "a.fits", coded(), cards, FILTER="g")
        report = ingest([tmp_path / "a.fits"], tmp_path / "repo")
        assert len(report.notes) == notes
    assert "a.fits lies elsewhere than when it was ingested" in report.notes[0]


def test_files_that_cannot_be_used_are_listed_and_the_others_go_on(tmp_path: Path) -> None:
    folder = tmp_path / "images"
    write(folder / "good.fits", coded(), FILTER="g")
    write(folder / "nowhere.fits", coded(), header(CTYPE1=None), FILTER="g")
    write(folder / "singular.fits", coded(), header("SIN", CD1_1=0.0, CD1_2=0.0), FILTER="g")
    write(folder / "filter.fits", coded(shape=(9, 9)))
    (folder / "text.fits").write_text("no")
    run = CliRunner().invoke(cli, ["ingest", str(folder), "missing.fits", "--repo", str(tmp_path / "repo")])
    assert run.exit_code == 0
    for text in (
        "nowhere.fits: no image with a position on the sky",
        "singular.fits: CTYPE1 of HDU 0 is 'RA---SIN': wcslib refuses it",
        "filter.fits: its band is not stated",
        "text.fits: not a FITS file",
        "missing.fits: there is no such file",
    ):
        assert text in run.stderr
    assert yaml.safe_load(run.stdout) == {
        "butler": str(tmp_path / "repo"),
        "collections": ["images"],
        "dataset_type": "image",
        "skymap": "image_footprints",
        "bands": ["g"],
    }
    run = CliRunner().invoke(cli, ["ingest", str(folder / "text.fits"), "--repo", str(tmp_path / "other")])
    assert run.exit_code == 1 and "none of the files can be used" in run.stderr
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    ("card", "value", "band"),
    [
        ("FILTER", "z DECam SDSS c0004 9260.0 1520.0", "z"),
        ("FILTER", "HSC-R2", "r2"),
        ("BAND", "F444W", "F444W"),
        ("FILTNAM", "K_s", "K_s"),
    ],
)
def test_band_is_that_of_the_cards(tmp_path: Path, card: str, value: str, band: str) -> None:
    path = write(tmp_path / "a.fits", coded(), **{card: value})
    assert BandRule().of(path, None) == band
    assert BandRule(source=card).of(path, "other") == band


def test_band_may_be_given_or_found_in_the_name(tmp_path: Path) -> None:
    path = write(tmp_path / "field_u-band.fits", coded(), FILTER="x")
    assert BandRule(band="K").of(path, None) == "K"
    assert BandRule(source="_([a-z])-band").of(path, None) == "u"
    with pytest.raises(UserError, match="field_u-band.fits: its name has no band"):
        BandRule(source="_([0-9])-band").of(path, None)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"band": "g", "band_from": "FILTER"}, "not both"),
        ({"band_from": "([gr"}, "no regular expression"),
        ({"companions": ["weight"]}, "KIND=PATTERN"),
        ({"companions": ["weigth=*w*"]}, "did you mean 'weight'"),
        ({"companions": ["weight=w.fits"]}, "pattern with"),
        ({"companions": ["weight=*w*", "variance=*v*"]}, "not both"),
        ({"dataset_type": "a-b"}, "--dataset-type a-b"),
        ({"collection": "-x"}, "--collection -x"),
    ],
    ids=str,
)
def test_wrong_options_are_explained(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    usual: dict[str, Any] = {
        "dataset_type": "image", "collection": "images", "skymap": None, "band": None, "band_from": None,
        "companions": (),
    }  # fmt: skip
    with pytest.raises(UserError, match=message):
        ingest_named([tmp_path], tmp_path / "repo", **{**usual, **options})


def test_other_repositories_and_directories_are_left_alone(tmp_path: Path) -> None:
    write(tmp_path / "a.fits", coded(), FILTER="g")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    with pytest.raises(UserError, match="neither a Butler repository nor an empty directory"):
        ingest([tmp_path / "a.fits"], tmp_path / "full")
    Butler.makeRepo(str(tmp_path / "rubin"))
    with pytest.raises(UserError, match="was not made by `bulkcutout ingest`"):
        ingest([tmp_path / "a.fits"], tmp_path / "rubin")


def test_companions_are_found_by_their_names(tmp_path: Path) -> None:
    """Each goes with the shortest name that has the same parts."""
    for number in (1, 2, 22):
        write(tmp_path / "in" / f"x_ooi_{number}.fits", coded(shape=(10 + number, 9)), FILTER="g")
    for number in (1, 22, 3):
        write(tmp_path / "in" / f"x_oow_{number}.fits", np.ones((10 + number, 9), "f4"))
    report = ingest([tmp_path / "in"], tmp_path / "repo", companions={"weight": "*oow*"})
    assert len(report.ingested) == 3 and report.companions == {"weight": "image_weight"}
    assert any("x_oow_3.fits: there is no image" in note for note in report.notes)
    assert any("1 images have no weight" in note and "x_ooi_2.fits" in note for note in report.notes)
    with Butler.from_config(str(tmp_path / "repo")) as butler:
        refs = butler.query_datasets("image_weight", collections="images")
        assert {Path(butler.getURI(ref).ospath).name for ref in refs} == {"x_oow_1.fits", "x_oow_22.fits"}


def test_image_with_a_mask_of_another_shape_is_not_used(tmp_path: Path) -> None:
    write(tmp_path / "in" / "a_sci.fits", coded(), FILTER="g")
    write(tmp_path / "in" / "a_msk.fits", np.zeros((5, 6), "i4"))
    report = ingest([tmp_path / "in"], tmp_path / "repo", companions={"mask": "*msk*"})
    assert not report.ingested
    assert "a_msk.fits: HDU 0 (HDU 0) has 5 x 6 pixels" in report.refused[0][1]


def test_real_hsc_images_are_one_patch_of_three_bands(tmp_path: Path) -> None:
    folder = real_data("hsc_slug")
    if folder is None:
        pytest.skip("real data: hsc_slug is not beside the project")
    files = [folder / f"{band}-band.fits" for band in "gri"]
    report = ingest(files, tmp_path / "repo", bands=BandRule(source="([gri])-band"))
    assert set(places(report).values()) == {(0, 0, band) for band in "gri"}
    x, y = np.array([233.0, 3.0, 400.2]), np.array([233.0, 460.0, 100.9])
    positions = list(zip(*(each.tolist() for each in sky(files[0], x, y)), strict=True))
    request = write_request(tmp_path / "run", report, positions, size=40)
    assert run_here(request)[1] == 0
    verified = verify_product(tmp_path / "run" / "out")
    assert verified.ok, str(verified)
    with open_cutouts(tmp_path / "run" / "out") as cutouts:
        pixels = astropy.io.fits.getdata(files[1])
        assert np.array_equal(cutouts.by_row(0).image("r"), pixels[213:253, 213:253])
        assert cutouts.by_row(1).valid_fraction("i") < 1


def make_companions(folder: Path) -> None:
    """Two bands with weights and masks of codes; one weight is zero."""
    rng = np.random.default_rng(3)
    for number, band in enumerate("gr"):
        weight = rng.uniform(0.5, 2, SHAPE).astype("f4")
        weight[30, 40] = 0
        codes = rng.integers(0, 4, SHAPE).astype("i2")
        write(folder / f"a_{band}_sci.fits", coded(number), FILTER=band, BUNIT="uJy")
        write(folder / f"a_{band}_wht.fits", weight)
        write(folder / f"a_{band}_msk.fits", codes)


CODES = {"SATURATED": 1, "CR": 2}


def test_weights_and_masks_beside_the_images_reach_the_product(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    make_companions(folder)
    report = ingest([folder], tmp_path / "repo", companions={"weight": "*_wht.fits", "mask": "*_msk.fits"})
    assert "companions: {mask: image_mask, weight: image_weight}" in report.request
    position = tuple(map(float, sky(folder / "a_g_sci.fits", 42.0, 33.0)))
    companions = {**yaml.safe_load(report.request)["companions"], "mask_codes": CODES}
    request = write_request(
        tmp_path / "run", report, [position], planes=["image", "variance", "mask"], companions=companions
    )
    assert run_here(request)[1] == 0
    verified = verify_product(tmp_path / "run" / "out")
    assert verified.ok, str(verified)
    with open_cutouts(tmp_path / "run" / "out") as cutouts:
        part = np.s_[25:41, 34:50]
        for number, band in enumerate("gr"):
            cutout = cutouts[0]
            assert cutout.image(band) == pytest.approx(coded(number)[part] * 1e3)
            weight = astropy.io.fits.getdata(folder / f"a_{band}_wht.fits")[part]
            assert np.isnan(cutout.variance(band))[5, 6] and np.isnan(cutout.variance(band)).sum() == 1
            rest = weight > 0
            assert cutout.variance(band)[rest] == pytest.approx(1e6 / weight[rest], rel=1e-6)
            codes = astropy.io.fits.getdata(folder / f"a_{band}_msk.fits")[part]
            for name, code in {**CODES, "OTHER_CODE": 3}.items():
                assert np.array_equal(cutout.mask_plane(name, band), codes == code)
            assert np.argwhere(cutout.mask_plane("NO_DATA", band)).tolist() == [[5, 6]]


def test_wrong_weights_are_found_by_verify(tmp_path: Path) -> None:
    """It reads the companions anew: a change after the cutting is seen."""
    folder = tmp_path / "in"
    make_companions(folder)
    report = ingest([folder], tmp_path / "repo", companions={"weight": "*_wht.fits", "mask": "*_msk.fits"})
    position = tuple(map(float, sky(folder / "a_g_sci.fits", 42.0, 33.0)))
    request = write_request(tmp_path / "run", report, [position], planes=["image", "variance", "mask"])
    assert run_here(request)[1] == 0
    with astropy.io.fits.open(folder / "a_g_wht.fits", mode="update") as hdus:
        hdus[0].data[28, 44] *= 1.001
    verified = verify_product(tmp_path / "run" / "out")
    assert [problem.dataset for problem in verified.problems] == ["images/variance in g"]


def test_mask_of_another_shape_costs_its_band_alone(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    make_companions(folder)
    report = ingest([folder], tmp_path / "repo", companions={"mask": "*_msk.fits", "weight": "*_wht.fits"})
    write(tmp_path / "new.fits", np.zeros((70, 91), "i2")).replace(folder / "a_r_msk.fits")
    position = tuple(map(float, sky(folder / "a_g_sci.fits", 42.0, 33.0)))
    for name, bands, expected in (("both", ["g", "r"], "delivered"), ("one", ["r"], "read_failed")):
        request = write_request(tmp_path / name, report, [position], bands=bands)
        assert run_here(request)[1] == 0
        (row,) = pq.read_table(tmp_path / name / "out" / "status.parquet").to_pylist()
        assert row["status"] == expected
        if name == "both":
            assert row["bands"] == "g"
            with open_cutouts(tmp_path / name / "out") as cutouts:
                assert cutouts[0].status == {"g": "ok", "r": "read_failed"}
        else:
            assert "a_r_msk.fits: HDU 0 (HDU 0) has 70 x 91 pixels" in row["reason"]


def test_real_decam_visits_have_weights_masks_and_distortions(tmp_path: Path) -> None:
    folder = real_data("legacypipe_decam/testcase6")
    if folder is None:
        pytest.skip("real data: legacypipe_decam is not beside the project")
    report = ingest(
        [folder], tmp_path / "repo", dataset_type="decam", companions={"weight": "*oow*", "mask": "*ood*"}
    )
    assert sorted(place[2] for place in places(report).values()) == ["g", "g", "r", "r", "z", "z"]
    assert len({place[0] for place in places(report).values()}) == 6
    names = sorted(places(report))
    pixels = {name: (20.0 + 10 * i, 70.0 - 9 * i) for i, name in enumerate(names)}
    positions = [tuple(map(float, sky(folder / name, *place, 1))) for name, place in pixels.items()]
    companions = {**yaml.safe_load(report.request)["companions"], "mask_codes": {"SATURATED": 3, "BLEED": 4}}
    delivered = set()
    for band in "grz":
        request = write_request(
            tmp_path / band, report, positions, bands=[band], companions=companions,
            planes=["image", "variance", "mask"],
        )  # fmt: skip
        assert run_here(request)[1] == 0
        verified = verify_product(tmp_path / band / "out")
        assert verified.ok, str(verified)
        with open_cutouts(tmp_path / band / "out") as cutouts:
            for cutout in cutouts:
                path = next(path for path, tract, _, _ in report.ingested if tract == cutout.tract)
                x, y = (float(v) for v in source_wcs(path).world_to_pixel_values(cutout.ra, cutout.dec))
                mine = cutout.wcs.pixel_to_world_values(*cutout.target_xy)
                assert np.abs(np.array(mine) - [cutout.ra, cutout.dec]).max() < 1e-9
                image = np.pad(astropy.io.fits.getdata(path, 1), 20, constant_values=np.nan)
                first_y, first_x = (int(np.ceil(round(value, 6) - 8)) + 20 for value in (y, x))
                part = image[first_y : first_y + 16, first_x : first_x + 16]
                assert np.array_equal(cutout.image(band), part, equal_nan=True)
                delivered.add((cutout.row, band))
    # Row 3 lies on a bleed trail in g: no pixel has a weight there.
    assert len(delivered) == 17 and (3, "g") not in delivered


def source_wcs(path: Path) -> Any:
    return astropy.wcs.WCS(astropy.io.fits.getheader(path, 1))


def test_gaussian_psf_beside_the_image_reaches_the_product(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    write(folder / "a_sci.fits", coded(), FILTER="g")
    columns = [astropy.io.fits.Column("sigma", "D", array=[1.8])]
    columns += [astropy.io.fits.Column(f"dimensions_{axis}", "J", array=[15]) for axis in "xy"]
    astropy.io.fits.BinTableHDU.from_columns(columns).writeto(folder / "a_mod.fits")
    report = ingest([folder], tmp_path / "repo", companions={"psf": "*_mod.fits"})
    position = tuple(map(float, sky(folder / "a_sci.fits", 42.0, 33.0)))
    request = write_request(tmp_path / "run", report, [position], planes=["image", "psf"])
    assert run_here(request)[1] == 0
    verified = verify_product(tmp_path / "run" / "out")
    assert verified.ok, str(verified)
    y, x = np.mgrid[-7:8, -7:8]
    expected = np.exp(-(x**2 + y**2) / (2 * 1.8**2))
    with open_cutouts(tmp_path / "run" / "out") as cutouts:
        assert cutouts[0].psf("g") == pytest.approx(expected / expected.sum(), abs=1e-6)


def test_real_afw_images_go_through_the_chain(tmp_path: Path) -> None:
    """An HSC cutout and a calexp: image, mask and variance, other layouts."""
    names = ("hsc_slug/cutout-HSC-R-9071-s18a_wide-181211-014627.fits", "lsst_obs_base/calexp.fits")
    files = [real_data(name) for name in names]
    if None in files:
        pytest.skip("real data: HSC files are not beside the project")
    paths = [path for path in files if path is not None]
    report = ingest(paths, tmp_path / "repo")
    assert sorted(band for _, _, _, band in report.ingested) == ["i", "r"]
    pixels = ((200.3, 150.6), (30.0, 20.0))
    positions = [tuple(map(float, sky(path, *xy, 1))) for path, xy in zip(paths, pixels, strict=True)]
    planes = ["image", "variance", "mask"]
    request = write_request(tmp_path / "run", report, positions, planes=planes)
    assert run_here(request)[1] == 0
    verified = verify_product(tmp_path / "run" / "out")
    assert verified.ok, str(verified)
    with open_cutouts(tmp_path / "run" / "out") as cutouts:
        assert len(cutouts) == 2
        variance = astropy.io.fits.getdata(paths[0], 3)[143:159, 193:209]
        # FLUXMAG0 is 10**10.8 there: magnitude 27 is one count.
        factor = 10 ** ((31.4 - 27.0) / 2.5)
        assert cutouts.by_row(0).variance("r") == pytest.approx(variance * factor**2, rel=1e-5)


def test_folder_of_images_to_product_by_the_command_line(tmp_path: Path) -> None:
    """As a user does it: ingest, submit, verify."""
    folder = make_folder(tmp_path / "images")

    def run(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "lsst.dax.bulkcutout.cli", *arguments],
            capture_output=True, text=True, cwd=tmp_path, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    fields = yaml.safe_load(run("ingest", str(folder), "--repo", "repo"))
    position = tuple(map(float, sky(folder / "a_g.fits", 30.2, 40.7)))
    (tmp_path / "catalog.csv").write_text(f"id,ra,dec\n1,{position[0]:.10f},{position[1]:.10f}\n")
    request = {"request_id": "mine", "catalog": {"uri": "catalog.csv"}, **fields, "size": 16, "output": "out"}
    (tmp_path / "request.yaml").write_text(yaml.safe_dump(request))
    assert "complete: 1 of 1 quanta done" in run("submit", "request.yaml")
    assert "All is well" in run("verify", "out")
    with open_cutouts(tmp_path / "out") as cutouts:
        assert np.array_equal(cutouts[0].image("r"), coded(1)[33:49, 23:39])
