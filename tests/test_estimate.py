# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""What an estimate says is what a submission gives."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import tempfile
from collections import Counter
from pathlib import Path

import astropy.nddata.utils
import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from coded_sky import BANDS
from PIL import Image
from test_docs import PAGES, read_page

from lsst.dax.bulkcutout.boxes import Box
from lsst.dax.bulkcutout.cli import cli
from lsst.dax.bulkcutout.discovery.patch_census import PatchCensus
from lsst.dax.bulkcutout.discovery.source_images import Coverage
from lsst.dax.bulkcutout.estimate.forecast import Estimate, estimate_request
from lsst.dax.bulkcutout.estimate.picture import _POINT, _REFUSED, Outline, SkyPicture
from lsst.dax.bulkcutout.estimate.sky_view import FRAME
from lsst.dax.bulkcutout.tests import SkyRepository
from lsst.dax.bulkcutout.tests.campaigns import run_here, write_request

SIZE = 120


@pytest.fixture(scope="module")
def request_file(
    tmp_path_factory: pytest.TempPathFactory, coded_repo: SkyRepository, coded_catalog: Path
) -> Path:
    """Targets all over the images and beyond; one band is missing in one
    patch.
    """
    directory = tmp_path_factory.mktemp("estimate")
    return write_request(directory, coded_repo, coded_catalog, size=SIZE, planes=["image", "variance", "psf"])


@pytest.fixture(scope="module")
def estimate(request_file: Path) -> Estimate:
    return estimate_request(request_file)


@pytest.fixture(scope="module")
def product(request_file: Path, estimate: Estimate) -> Path:
    """What the same request gives."""
    run_here(request_file)
    return request_file.parent / "out"


def test_rows_are_those_of_the_product(estimate: Estimate, product: Path) -> None:
    answers = pq.read_table(product / "status.parquet").to_pylist()
    counts = Counter(answer["status"] for answer in answers)
    # Only the pixels tell which targets have no data.
    assert estimate.targets == counts.pop("delivered") + counts.pop("no_data", 0)
    assert estimate.refused == counts and estimate.rows == len(answers)
    assert estimate.fallback == sum(answer["fallback"] for answer in answers)
    assert estimate.rows_by_size == {SIZE: estimate.targets}


def test_bands_and_stitched_cutouts_are_those_of_the_product(estimate: Estimate, product: Path) -> None:
    """Cutouts that leave their image, by astropy's rule of boxes."""
    present, stitched = np.zeros(len(BANDS), dtype=int), 0
    for path in product.glob("size=*/*"):
        with h5py.File(path) as file:
            present += file["images/band_present"][...].sum(axis=0)
            stitched += int(file["images/stitched"][...].any(axis=1).sum())
    assert dict(zip(BANDS, present.tolist(), strict=True)) == estimate.rows_by_band
    assert len(set(estimate.rows_by_band.values())) > 1
    assert estimate.stitched == stitched > 5 and estimate.leaving > stitched


def test_bytes_are_those_of_the_files(
    estimate: Estimate, product: Path, coded_repo: SkyRepository, request_file: Path
) -> None:
    sizes: Counter[str] = Counter()
    rows = 0
    for path in product.glob("size=*/*"):
        with h5py.File(path) as file:
            rows += len(file["catalog/row"])
            for plane, name in (("image", "flux"), ("variance", "variance"), ("psf", "psf")):
                sizes[plane] += file[f"images/{name}"].id.get_storage_size()
    assert rows == estimate.targets
    prices = {price.plane: price for price in estimate.output}
    assert {plane: prices[plane].bytes for plane in sizes} == sizes
    assert {plane for plane, price in prices.items() if price.wanted} == {*sizes, "columns"}
    assert prices["mask"].bytes > 0
    total = sum(path.stat().st_size for path in product.glob("size=*/*"))
    assert estimate.product_bytes == pytest.approx(total, rel=0.1)
    assert estimate.needed_bytes == estimate.product_bytes + estimate.intermediate_bytes
    assert estimate.free_bytes > 10**6 and estimate.core_hours > 0
    own = sum(path.stat().st_size for path in coded_repo.paths.values())
    # Each image once, and again in the jobs of its neighbours.
    assert own <= estimate.image_bytes < 2 * own and estimate.images_of_unknown_size == 0
    assert estimate.images >= len(coded_repo.paths) and (estimate.tracts, estimate.patches) == (2, 4)


def test_nothing_is_left_behind(
    request_file: Path, coded_repo: SkyRepository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But what --out asks for."""

    def contents(directory: Path) -> dict[str, str]:
        files = (path for path in directory.rglob("*") if path.is_file())
        return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "scratch"))
    (tmp_path / "scratch").mkdir()
    monkeypatch.chdir(tmp_path)
    before = contents(coded_repo.root) | contents(request_file.parent)
    runner = CliRunner()
    plain = runner.invoke(cli, ["estimate", str(request_file)], catch_exceptions=False)
    assert plain.exit_code == 0 and "nothing was submitted" in plain.output
    assert not list((tmp_path / "scratch").iterdir()) and list(tmp_path.iterdir()) == [tmp_path / "scratch"]
    told = runner.invoke(
        cli, ["estimate", str(request_file), "--json", "--out", "here"], catch_exceptions=False
    )
    numbers = json.loads(told.stdout)
    assert sorted(path.name for path in (tmp_path / "here").iterdir()) == ["estimate.json", "sky.png"]
    assert json.loads((tmp_path / "here" / "estimate.json").read_text()).keys() == numbers.keys()
    assert contents(coded_repo.root) | contents(request_file.parent) == before
    assert not list((tmp_path / "scratch").iterdir())
    # And the page says what they mean, under the labels that are printed.
    page = read_page(PAGES["estimate.rst"])
    assert [row[0] for row in page.table("field")] == list(numbers)
    labels = {line.strip().split("  ")[0] for text in page.code("text") for line in text.splitlines()}
    printed = {line.strip().split("  ")[0] for line in plain.stdout.splitlines()[1:]}
    assert {label for label in printed if not label.endswith(" px")} <= labels | {"psf", "mask"}


def test_wrong_request_and_no_target_at_all(
    request_file: Path, tmp_path: Path, coded_repo: SkyRepository
) -> None:
    """The first is an error, the second is not."""
    wrong = json.loads(request_file.read_text()) | {"bands": ["q"]}
    (tmp_path / "wrong.json").write_text(json.dumps(wrong))
    run = CliRunner().invoke(cli, ["estimate", str(tmp_path / "wrong.json")])
    assert "'bands': the repository has no 'q'" in str(run.exception)
    pq.write_table(pa.table({"id": [1], "ra": [10.0], "dec": [-80.0]}), tmp_path / "far.parquet")
    request = write_request(tmp_path, coded_repo, tmp_path / "far.parquet")
    found = estimate_request(request, tmp_path / "far")
    assert (found.targets, found.refused, found.images) == (0, {"outside_footprint": 1}, 0)
    assert "0.0 %" in str(found) and [p.name for p in (tmp_path / "far").iterdir()] == ["estimate.json"]


class OneImage:
    """Stands in for what is known of a tract: one image, not square."""

    box = Box(y0=-20, y1=110, x0=35, x1=300)

    def boxes(self, tract: int) -> dict[int, Box]:
        return {4: self.box}


def test_touched_tiles_are_counted_once_and_whole() -> None:
    """Against a picture in which every box is filled; tiles at the far edges
    are smaller.
    """
    rng = np.random.default_rng(5)
    tile, box = (32, 40), OneImage.box
    n = 14
    x, y = rng.uniform(box.x0 - 9, box.x1 + 9, n), rng.uniform(box.y0 - 9, box.y1 + 9, n)
    size = rng.integers(5, 31, n)
    census = PatchCensus(OneImage(), tile)
    pixels = np.zeros(box.shape, dtype=bool)
    leaving = 0
    for k in range(n):
        try:
            slices, inside = astropy.nddata.utils.overlap_slices(
                pixels.shape, (size[k], size[k]), (y[k] - box.y0, x[k] - box.x0)
            )
        except astropy.nddata.utils.NoOverlapError:
            leaving += 1
            continue
        pixels[slices] = True
        leaving += pixels[slices].shape != (size[k], size[k])
    touched = 0
    for y0 in range(0, pixels.shape[0], tile[0]):
        for x0 in range(0, pixels.shape[1], tile[1]):
            part = pixels[y0 : y0 + tile[0], x0 : x0 + tile[1]]
            touched += part.size * part.any()
    patch = Coverage(tract=7, patch=4, datasets={"g": None, "r": None})
    for part in (slice(0, 5), slice(5, n)):
        columns = {"x": x[part], "y": y[part], "size_pixels": size[part].astype(np.int32)}
        census.add(patch, pa.RecordBatch.from_pydict(columns))
    assert census.touched_pixels == 2 * touched and 0 < touched < pixels.size
    assert census.touched_fraction == pytest.approx(touched / pixels.size)
    assert (census.leaving, census.stitched, census.unknown) == (leaving, 0, 0) and leaving > 2


def test_images_that_cannot_be_opened_are_not_needed(
    coded_repo: SkyRepository, coded_catalog: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The projection of an image tells where boxes end; without any, that is
    not known, and said so.
    """
    from lsst.dax.bulkcutout.discovery import source_images

    def unreadable(path: str, **_: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(source_images, "open_image", unreadable)
    request = write_request(tmp_path, coded_repo, coded_catalog, size=SIZE)
    found = estimate_request(request)
    assert found.targets > 200 and found.leaving == found.stitched == 0
    assert any("No image could be opened" in note for note in found.notes)
    assert any(f"{found.targets} targets" in note for note in found.notes)
    assert "Note: " in str(found)
    assert dataclasses.asdict(found)["core_hours"] > 0


@pytest.mark.parametrize(("ra", "dec"), [(0.0, 0.0), (200.0, -60.0), (77.0, 89.0)])
def test_picture_has_north_up_and_east_to_the_left(ra: float, dec: float, tmp_path: Path) -> None:
    """Points in one colour, rows without an image in another; across right
    ascension 0 and beside the pole.
    """
    wide = 0.6 / np.cos(np.radians(dec))
    corners = np.array(
        [((ra + a * wide) % 360.0, dec + b) for a, b in ((-1, -0.6), (1, -0.6), (1, 0.6), (-1, 0.6))]
    )
    picture = SkyPicture([Outline(7, corners, 2)], 2)
    picture.add(np.array([(ra + wide / 2) % 360.0]), np.array([dec + 0.3]))
    picture.add(np.array([(ra - wide / 2) % 360.0, np.nan]), np.array([dec - 0.3, 0.0]), refused=True)
    picture.write(tmp_path / "sky.png", "test")
    with Image.open(tmp_path / "sky.png") as image:
        pixels = np.asarray(image.convert("RGB"))[FRAME[1] : FRAME[3], FRAME[0] : FRAME[2]].astype(int)
    middle = np.array(pixels.shape[:2]) / 2
    for colour, sign in ((_POINT, -1), (_REFUSED, 1)):
        (place,) = {tuple(p // 6) for p in np.argwhere((pixels == colour).all(axis=2))[:1]}
        y, x = np.array(place) * 6 - middle
        # Up and left, or down and right.
        assert np.sign(x) == np.sign(y) == sign and abs(x) > 50 and abs(y) > 50
