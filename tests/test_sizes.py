# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Sizes of cutouts: pixels, arcsec, columns, bins."""

from __future__ import annotations

import itertools
import math
import shutil
from fractions import Fraction
from pathlib import Path
from typing import Any

import astropy.wcs
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lsst.dax.bulkcutout import open_cutouts
from lsst.dax.bulkcutout.boxes import Box
from lsst.dax.bulkcutout.campaign import Campaign
from lsst.dax.bulkcutout.campaign_butler import open_source
from lsst.dax.bulkcutout.catalog import open_catalog
from lsst.dax.bulkcutout.catalog.sizes import SizeRule
from lsst.dax.bulkcutout.discovery.discover import discover
from lsst.dax.bulkcutout.discovery.source_images import SourceImages
from lsst.dax.bulkcutout.discovery.tract_geometry import TractGeometry
from lsst.dax.bulkcutout.errors import TransientError, UserError
from lsst.dax.bulkcutout.finish import COMPLETE
from lsst.dax.bulkcutout.request import CutoutRequest, SizeArcsec, check_request, load_request
from lsst.dax.bulkcutout.skymap.rings import KNOWN_SKYMAPS, RingsSkyMap
from lsst.dax.bulkcutout.target_table import read_targets
from lsst.dax.bulkcutout.tests import SkyRepository, make_repo, tangent_layout, tangent_tract
from lsst.dax.bulkcutout.tests.campaigns import run_here, write_request
from lsst.dax.bulkcutout.verify.product import verify_product

SCALES = {3: 0.2, 7: 0.31}
BINS = (16, 40, 64)


@pytest.fixture(scope="module")
def repo(tmp_path_factory: pytest.TempPathFactory) -> SkyRepository:
    """Two tracts of two patches of 60 x 70 px whose pixels are not of one
    size, on a map without a formula.
    """
    tracts = [
        tangent_tract(
            tract,
            center=(80.0 + tract, 31.0),
            inner=(40, 50),
            border=(10, 10),
            cell=(10, 10),
            pixel_scale_arcsec=scale,
            rotation_deg=17.0,
        )
        for tract, scale in SCALES.items()
    ]
    root = tmp_path_factory.mktemp("sizes") / "repo"
    return make_repo(
        root, layout=tangent_layout(tracts), bands=("r",), pixels="coordinates", psf_shape=(5, 7)
    )


def catalog(repo: SkyRepository, sizes: Any, unit: str = "") -> pa.Table:
    """Each size in the middle of each tract's first patch."""
    places = []
    for tract in SCALES:
        box = repo.layout.patch(tract, 0).inner
        places.append(repo.layout.tracts[tract].pixel_to_sky((box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2))
    rows = list(itertools.product(places, sizes))
    values = pa.array([size for _, size in rows], None if isinstance(sizes[0], str) else pa.float64())
    columns = {
        "id": pa.array(np.arange(len(rows))),
        "ra": pa.array([float(place[0]) for place, _ in rows]),
        "dec": pa.array([float(place[1]) for place, _ in rows]),
        "width": values,
    }
    table = pa.table(columns)
    field = pa.field("width", values.type, metadata={"unit": unit} if unit else None)
    return table.set_column(3, field, values)


def plan_here(directory: Path, repo: SkyRepository, table: pa.Table, **fields: Any) -> dict[int, Any]:
    """Discovery; gives for each row its size, or status and reason."""
    path = directory / "catalog.parquet"
    pq.write_table(table, path)
    request = load_request(write_request(directory, repo, path, **fields))
    campaign = Campaign(directory / "campaign")
    shutil.rmtree(campaign.root, ignore_errors=True)
    campaign.root.mkdir()
    with open_source(str(request.butler)) as butler:
        found = discover(request, open_rows(request), SourceImages(butler, request), campaign)
    answers = {
        row["row"]: (row["status"], row["reason"]) for row in pq.read_table(campaign.refused).to_pylist()
    }
    for tract in found.tracts:
        for batch in read_targets(campaign.targets / tract.path):
            assert "size_arcsec" not in batch.schema.names
            answers |= {row["row"]: row["size_pixels"] for row in batch.to_pylist()}
    assert sorted(answers) == list(range(len(table)))
    assert {(patch.tract, patch.patch) for patch in found.coverage} == {
        (tract.tract, patch) for tract in found.tracts for patch in patches(campaign.targets / tract.path)
    }
    answers[-1] = found.warnings
    return answers


def patches(path: Path) -> set[int]:
    return {row["patch"] for batch in read_targets(path) for row in batch.to_pylist()}


def open_rows(request: CutoutRequest) -> Any:
    return open_catalog(request.catalog, request.size, size_bins=request.size_bins or ())


@given(tenths=st.integers(1, 4500), scale=st.sampled_from(["0.2", "0.168", "0.263", "0.05", "1"]))
def test_arcsec_become_the_next_whole_number_of_pixels(tenths: int, scale: str) -> None:
    """Against fractions, which round nothing on the way."""
    rule = SizeRule(tenths / 10, "arcsec", ())
    exact = math.ceil(Fraction(tenths, 10) / Fraction(scale))
    expected = exact if exact <= 2000 else 0
    assert rule.pixels(np.array([tenths / 10]), float(scale)).tolist() == [expected]
    # As it comes from the terms of a projection.
    wcs = astropy.wcs.WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.cd = float(scale) / 3600 * np.array([[-math.cos(1), math.sin(1)], [math.sin(1), math.cos(1)]])
    side = 3600 * math.sqrt(astropy.wcs.utils.proj_plane_pixel_area(wcs))
    assert rule.pixels(np.array([tenths / 10]), side).tolist() == [expected]


def test_rounding_of_sizes_that_are_whole_but_for_the_last_digit() -> None:
    rule = SizeRule(None, "arcsec", ())
    assert 4.2 / 0.3 > 14
    assert rule.pixels(np.array([4.2]), 0.3).tolist() == [14]
    assert rule.pixels(np.array([12.5, 12.6, 12.600001, 0.01]), 0.2).tolist() == [63, 63, 64, 1]


@given(
    sizes=st.lists(st.floats(allow_nan=True) | st.floats(0, 2100) | st.integers(-3, 2100).map(float)),
    bins=st.lists(st.integers(1, 2000), min_size=1, max_size=20, unique=True),
)
def test_sizes_are_rounded_up_to_the_next_bin(sizes: list[float], bins: list[int]) -> None:
    rule = SizeRule(None, "pixel", tuple(sorted(bins)))
    for size, pixels in zip(sizes, rule.pixels(np.array(sizes)).tolist(), strict=True):
        fits = [each for each in sorted(bins) if size > 0 and each >= size - 1e-6]
        assert pixels == (fits[0] if fits else 0)


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (64, 64),
        ({"pixels": 64}, 64),
        ({"arcsec": 12.5}, SizeArcsec(arcsec=12.5)),
        ({"arcsec": 3}, SizeArcsec(arcsec=3.0)),
    ],
)
def test_ways_to_ask_for_one_size(size: Any, expected: Any) -> None:
    assert request_with(size=size).size == expected


def request_with(**fields: Any) -> CutoutRequest:
    return check_request(
        {
            "request_id": "r",
            "catalog": {"uri": "c.csv"},
            "butler": "/repo",
            "collections": ["c"],
            "dataset_type": "deep_coadd",
            "output": "out",
            **fields,
        }
    )


@pytest.mark.parametrize(
    "size",
    [
        {"arcsec": 0},
        {"arcsec": -1.5},
        {"arcsec": math.nan},
        {"arcsec": math.inf},
        {"arcsec": True},
        {"arcsec": "12"},
        {"pixels": 0},
        {"pixels": 12.5},
        {"pixels": 64, "arcsec": 12.8},
        {"column": "width", "unit": "arcmin"},
        {"unit": "arcsec"},
    ],
)
def test_size_that_makes_no_sense_is_refused(size: Any) -> None:
    with pytest.raises(UserError, match=r"\n  size is .*1 to 2000, \{pixels: NUMBER\}, \{arcsec: NUMBER\}"):
        request_with(size=size)


@pytest.mark.parametrize(
    ("bins", "said"),
    [
        ([], "list of 1 to 20"),
        (64, "list of 1 to 20"),
        ([0, 64], "0 is not one"),
        ([64, 2001], "2001 is not one"),
        ([64, 64.5], "64.5 is not one"),
        ([64, 64], "different"),
        (list(range(1, 22)), "list of 1 to 20"),
        ([32, 64], "the size of 100 pixels is larger than all of them"),
    ],
)
def test_bins_that_make_no_sense_are_refused(bins: Any, said: str) -> None:
    with pytest.raises(UserError, match=rf"\n  size_bins is .*{said}"):
        request_with(size=100, size_bins=bins)


def test_bins_are_kept_in_order() -> None:
    request = request_with(size={"column": "width", "unit": "arcsec"}, size_bins=[64, 32])
    assert request.size_bins == (32, 64)
    assert check_request(request.model_dump(mode="json")) == request


def test_one_size_in_arcsec_is_of_each_tracts_pixels(repo: SkyRepository, tmp_path: Path) -> None:
    """12.4 arcsec are 62 px of 0.2 arcsec and 40 of 0.31."""
    answers = plan_here(tmp_path, repo, catalog(repo, [1.0]), size={"arcsec": 12.4})
    assert (answers[0], answers[1]) == (62, 40)
    answers = plan_here(tmp_path, repo, catalog(repo, [1.0]), size={"arcsec": 12.4}, size_bins=[50, 70])
    assert (answers[0], answers[1]) == (70, 50)


def test_rows_without_a_usable_size_are_refused_and_the_others_go_on(
    repo: SkyRepository, tmp_path: Path
) -> None:
    """In arcsec; the fourth is too large where pixels are small."""
    sizes = [12.6, math.nan, -3.0, 500.0, None, 0.0, math.inf, 0.1]
    table = catalog(repo, sizes, unit="arcsec")
    answers = plan_here(tmp_path, repo, table, size={"column": "width"})
    assert [answers[row] for row in (0, 7, 8, 11, 15)] == [63, 1, 41, 1613, 1]
    status, reason = answers[3]
    assert status == "invalid_size"
    assert reason == "width is 500 arcsec: larger than 2000 pixels, 2500.0 pixels of 0.2 arcsec."
    for row, said in ((1, "nan"), (2, "-3.0"), (4, "missing"), (5, "0.0"), (6, "inf"), (10, "-3.0")):
        status, reason = answers[row]
        assert status == "invalid_size"
        assert reason == f"width in row {row} is {said}: must be a number of arcsec above 0."


def test_rows_larger_than_all_bins_are_refused_by_their_names(repo: SkyRepository, tmp_path: Path) -> None:
    sizes = [16.0, 16.5, 64.0, 65.0, -1.0, 3000.0]
    answers = plan_here(tmp_path, repo, catalog(repo, sizes), size={"column": "width"}, size_bins=BINS)
    assert [answers[row] for row in range(3)] == [16, 40, 64]
    for row, given_size in ((3, "65.0"), (5, "3000.0")):
        assert answers[row] == (
            "invalid_size",
            f"width in row {row} is {given_size}: larger than the largest of size_bins (16, 40, 64).",
        )
    assert answers[4][1].endswith("is -1.0: must be a number of pixels above 0.")
    answers = plan_here(
        tmp_path, repo, catalog(repo, [12.9]), size={"column": "width", "unit": "arcsec"}, size_bins=BINS
    )
    assert answers[1] == 64
    assert answers[0] == (
        "invalid_size",
        "width is 12.9 arcsec: larger than the largest of size_bins (16, 40, 64), 64.5 pixels of 0.2 arcsec.",
    )


def test_unit_is_the_columns_unless_the_request_says_one(repo: SkyRepository, tmp_path: Path) -> None:
    def plan(stated: str, **size: Any) -> tuple[Any, str]:
        answers = plan_here(
            tmp_path,
            repo,
            catalog(repo, [10.0], stated),
            size={"column": "width"} | size,
            size_bins=[10, 33, 50],
        )
        return (answers[0], answers[1]), " ".join(answers[-1])

    assert plan("")[0] == plan("pix")[0] == (10, 10)
    assert plan("arcsec")[0] == plan("", unit="arcsec")[0] == (50, 33)
    sizes, warnings = plan("arcsec", unit="pixel")
    assert sizes == (10, 10) and "'arcsec'; its sizes are taken for pixel" in warnings
    assert plan("deg", unit="pixel")[0] == (10, 10)
    with pytest.raises(UserError, match=r"'deg'; sizes must be in pixel or arcsec.*\{column: width, unit"):
        plan("deg")


def test_too_many_sizes_are_an_error_that_names_the_bins(repo: SkyRepository, tmp_path: Path) -> None:
    """Twelve sizes on two tracts are 24, of which three are the same."""
    sizes = [2.0 + k for k in range(12)]
    fields = {"size": {"column": "width", "unit": "arcsec"}}
    plan_here(tmp_path, repo, catalog(repo, sizes[:11]), **fields)
    with pytest.raises(UserError, match="more than 20 different sizes.*size_bins"):
        plan_here(tmp_path, repo, catalog(repo, sizes), **fields)
    plan_here(tmp_path, repo, catalog(repo, sizes), **fields, size_bins=BINS)
    many = catalog(repo, [float(size) for size in range(30, 51)])
    with pytest.raises(UserError, match="asks for 21 different sizes.*size_bins"):
        plan_here(tmp_path, repo, many, size={"column": "width"})


def test_one_size_that_is_too_large_is_a_request_error(repo: SkyRepository, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"'size': 401 arcsec is larger than 2000 pixels, 2005.0 pixels"):
        plan_here(tmp_path, repo, catalog(repo, [1.0]), size={"arcsec": 401})
    with pytest.raises(UserError, match=r"'size': 13 arcsec is larger than the largest of size_bins \("):
        plan_here(tmp_path, repo, catalog(repo, [1.0]), size={"arcsec": 13}, size_bins=BINS)


def test_pixel_scale_is_that_of_an_image_that_can_be_read(repo: SkyRepository, tmp_path: Path) -> None:
    """The first image of tract 3 is damaged, then both, then one is gone."""
    shutil.copytree(repo.root, tmp_path / "repo")
    copies = {key: tmp_path / "repo" / path.relative_to(repo.root) for key, path in repo.paths.items()}
    fields = {"size": {"arcsec": 12.4}, "butler": str(tmp_path / "repo")}
    copies[3, 0, "r"].write_bytes(b"nothing of use")
    answers = plan_here(tmp_path, repo, catalog(repo, [1.0]), **fields)
    assert (answers[0], answers[1]) == (62, 40)
    copies[3, 1, "r"].write_bytes(b"nothing of use")
    answers = plan_here(tmp_path, repo, catalog(repo, [1.0]), **fields)
    assert answers[1] == 40
    assert answers[0][0] == "read_failed" and "no image of tract 3 can be read" in answers[0][1]
    copies[3, 1, "r"].unlink()
    with pytest.raises(TransientError, match="No image of tract 3 can be read"):
        plan_here(tmp_path, repo, catalog(repo, [1.0]), **fields)


def test_formula_tells_what_pixels_are_without_any_image() -> None:
    """Tract 5063 of the survey's map, against what its sky map package says of
    a position, and the corner of a patch.
    """

    class Images:
        def rings_map(self, tract: int) -> RingsSkyMap:
            return KNOWN_SKYMAPS["lsst_cells_v2"]

    images: Any = Images()
    geometry = TractGeometry(images)
    assert geometry.pixel_scale_arcsec(5063) == 0.2
    x, y = geometry.pixels(5063, np.array([53.13]), np.array([-28.10]))
    assert (x[0], y[0]) == (pytest.approx(14325.053, abs=1e-3), pytest.approx(4570.428, abs=1e-3))
    boxes = geometry.boxes(5063)
    assert len(boxes) == 100 and boxes[14] == Box(y0=2850, y1=6150, x0=11850, x1=15150)


def test_product_of_sizes_in_arcsec(repo: SkyRepository, tmp_path: Path) -> None:
    """The size that was asked for is in the column that was carried."""
    table = catalog(repo, [2.0, 4.1, 12.0, -1.0, 12.41], unit="arcsec")
    pq.write_table(table, tmp_path / "catalog.parquet")
    request = write_request(
        tmp_path,
        repo,
        tmp_path / "catalog.parquet",
        catalog={"uri": str(tmp_path / "catalog.parquet"), "carry": ["width"]},
        size={"column": "width"},
        size_bins=[16, 40, 62],
    )
    assert run_here(request)[1] == COMPLETE
    expected = {0: 16, 1: 40, 2: 62, 5: 16, 6: 16, 7: 40, 9: 62}
    with open_cutouts(tmp_path / "out") as cutouts:
        assert cutouts.sizes == (16, 40, 62)
        assert {cutout.row: cutout.image("r").shape for cutout in cutouts} == {
            row: (size, size) for row, size in expected.items()
        }
        asked = table.column("width").to_pylist()
        assert all(cutout.carried["width"] == asked[cutout.row] for cutout in cutouts)
    status = pq.read_table(tmp_path / "out" / "status.parquet").to_pylist()
    refused = {row["row"]: row["status"] for row in status if row["status"] != "delivered"}
    assert refused == {3: "invalid_size", 8: "invalid_size", 4: "invalid_size"}
    assert verify_product(tmp_path / "out").ok
