# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""The task: damaged images, storage that fails, memory, contradictions."""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import os
import shutil
import tracemalloc
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import astropy.io.fits
import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tiny_sky import SIZE, TRACT, tiny_positions, tiny_table

from lsst.dax.bulkcutout import extract_task
from lsst.dax.bulkcutout.boxes import Box
from lsst.dax.bulkcutout.campaign import Campaign, Plan
from lsst.dax.bulkcutout.cutout_dataset import CutoutDataset
from lsst.dax.bulkcutout.errors import CorruptInputError, InternalError
from lsst.dax.bulkcutout.extract_task import ExtractCutoutsConfig, ExtractCutoutsTask, SourceImage
from lsst.dax.bulkcutout.finish import COMPLETE, PARTIAL, finish
from lsst.dax.bulkcutout.quantum_graph_builder import build_graph
from lsst.dax.bulkcutout.readers import open_image
from lsst.dax.bulkcutout.readers.tiles import TileGrid
from lsst.dax.bulkcutout.tables import BAND_NO_DATASET, BAND_OK, BAND_READ_FAILED, MaskPlane
from lsst.dax.bulkcutout.target_table import TargetTableWriter, sha256_of
from lsst.dax.bulkcutout.tests import SkyRepository
from lsst.dax.bulkcutout.tests.campaigns import (
    init_and_run,
    prepare_here,
    run_graph,
    run_here,
    write_request,
)
from lsst.dax.bulkcutout.verify.product import verify_product
from lsst.dax.bulkcutout.wcs import TangentWcs
from lsst.pipe.base.mp_graph_executor import MPGraphExecutorError
from lsst.resources import ResourcePath

PER_PATCH = 30


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory, tiny_repo: SkyRepository) -> Path:
    """30 targets in each patch."""
    path = tmp_path_factory.mktemp("catalog") / "catalog.parquet"
    pq.write_table(tiny_table(tiny_repo, PER_PATCH), path)
    return path


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory, tiny_repo: SkyRepository, catalog: Path) -> Path:
    """The product of an undisturbed run."""
    directory = tmp_path_factory.mktemp("reference")
    assert run_here(write_request(directory, tiny_repo, catalog, size=SIZE))[1] == COMPLETE
    return directory / "out"


@pytest.fixture
def ask(tmp_path: Path, tiny_repo: SkyRepository, catalog: Path) -> Callable[[], Path]:
    """Copy the repository and write a request for it."""

    def write() -> Path:
        shutil.copytree(tiny_repo.root, tmp_path / "repo")
        return write_request(tmp_path, tiny_repo, catalog, size=SIZE, butler=str(tmp_path / "repo"))

    return write


@pytest.fixture
def image(tmp_path: Path, tiny_repo: SkyRepository) -> Callable[[int, str], Path]:
    """Find an image of the copied repository."""

    def find(patch: int, band: str) -> Path:
        return tmp_path / "repo" / tiny_repo.paths[TRACT, patch, band].relative_to(tiny_repo.root)

    return find


def answers_of(product: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(product / "status.parquet").to_pylist()
    assert [row["row"] for row in rows] == list(range(3 * PER_PATCH))
    return rows


def stored(product: Path, answer: dict[str, Any], *names: str) -> list[Any]:
    with h5py.File(product / answer["file"]) as file:
        return [file[f"images/{name}"][answer["index"]] for name in names]


def digests(product: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(product.glob("size=*/*"))}


def damage_tile(path: Path, plane: str, tile: tuple[int, int], origin: tuple[int, int]) -> Box:
    """Overwrite the inside of a compressed tile; gives its tract pixels."""
    with astropy.io.fits.open(path, disable_image_compression=True) as hdus:
        header, info = hdus[plane].header, hdus[plane].fileinfo()
    width = header["ZNAXIS1"] // header["ZTILE1"]
    address = info["datLoc"] + (tile[0] * width + tile[1]) * header["NAXIS1"]
    content = bytearray(path.read_bytes())
    count, offset = np.frombuffer(content[address : address + 8], dtype=">i4")
    start = info["datLoc"] + header["NAXIS1"] * header["NAXIS2"] + int(offset)
    content[start + 12 : start + int(count) - 4] = bytes(int(count) - 16)
    path.write_bytes(content)
    ny, nx = header["ZTILE2"], header["ZTILE1"]
    y0, x0 = origin[0] + tile[0] * ny, origin[1] + tile[1] * nx
    return Box(y0=y0, y1=y0 + ny, x0=x0, x1=x0 + nx)


def touches(repo: SkyRepository, answer: dict[str, Any], tile: Box) -> bool:
    """Whether a cutout has pixels of a tile, by astropy's projection."""
    x, y = repo.layout.tracts[TRACT].sky_to_pixel(answer["ra"], answer["dec"])
    y0, x0 = int(np.ceil(y - SIZE / 2)), int(np.ceil(x - SIZE / 2))
    return Box(y0=y0, y1=y0 + SIZE, x0=x0, x1=x0 + SIZE).intersection(tile) is not None


def test_damage_costs_what_it_must_and_no_more(
    ask: Callable[[], Path],
    image: Callable[[int, str], Path],
    tiny_repo: SkyRepository,
    reference: Path,
    tmp_path: Path,
) -> None:
    """In patch 0 one band is cut short, in patch 1 a tile of the variance of
    one band is damaged, in patch 2 a tile of the only band.
    """
    request = ask()
    short = image(0, "g")
    short.write_bytes(short.read_bytes()[: short.stat().st_size // 2])
    corner = {patch: tiny_repo.layout.patch(TRACT, patch).outer for patch in (1, 2)}
    tiles = {
        1: damage_tile(image(1, "r"), "VARIANCE", (1, 2), (corner[1].y0, corner[1].x0)),
        2: damage_tile(image(2, "g"), "IMAGE", (2, 2), (corner[2].y0, corner[2].x0)),
    }
    campaign, status = run_here(request)
    assert status == COMPLETE
    product, seen = tmp_path / "out", {"hurt": 0, "whole": 0, "lost": 0}
    for answer, before in zip(answers_of(product), answers_of(reference), strict=True):
        patch = answer["patch"]
        hurt = {0: "g", 1: "r", 2: "g"}[patch]
        if patch and not touches(tiny_repo, answer, tiles[patch]):
            hurt = ""
        left = [band for band in before["bands"].split(",") if band != hurt]
        assert answer["bands"] == ",".join(left)
        if not left:
            seen["lost"] += 1
            assert answer["status"] == "read_failed" and answer["file"] is None
            assert "g" in answer["reason"] and "patch 2" in answer["reason"]
            continue
        assert answer["status"] == "delivered"
        seen["hurt" if hurt else "whole"] += 1
        planes = ("flux", "variance", "mask", "psf", "valid_fraction", "psf_valid", "n_cells")
        for name, here, there in zip(
            planes, stored(product, answer, *planes), stored(reference, before, *planes), strict=True
        ):
            for number, band in enumerate("gr"):
                if band != hurt:
                    np.testing.assert_array_equal(here[number], there[number], err_msg=f"{name} {band}")
                elif name in ("flux", "variance"):
                    assert np.isnan(here[number]).all()
                elif name == "valid_fraction":
                    assert here[number] == 0
        (band_status,) = stored(product, answer, "band_status")
        expected = [BAND_READ_FAILED if band == hurt else BAND_OK for band in "gr"]
        if patch == 2:
            expected[1] = BAND_NO_DATASET
        assert band_status.tolist() == expected
    assert min(seen.values()) > 3 and seen["hurt"] > PER_PATCH
    # The jobs' own account of it, and the check of the product.
    damage = [str(path.read_text()) for path in sorted(campaign.datastore.glob("**/*_metadata/3/*/*.json"))]
    assert "cutouts lie on damaged tiles" in damage[1] and "cutouts lie on damaged tiles" in damage[2]
    assert verify_product(product, sample=40).ok


def test_garbage_in_place_of_images(
    ask: Callable[[], Path], image: Callable[[int, str], Path], tmp_path: Path
) -> None:
    """All bands of patch 0, the second band of patch 1: zeros, text, and an
    empty file.
    """
    request = ask()
    image(0, "g").write_bytes(bytes(50_000))
    image(0, "r").write_text("404 Not Found\n" * 100)
    image(1, "r").write_bytes(b"")
    _, status = run_here(request)
    assert status == COMPLETE
    answers = {row["row"]: row for row in answers_of(tmp_path / "out")}
    assert {(row["patch"], row["status"], row["bands"]) for row in answers.values()} == {
        (0, "read_failed", ""),
        (1, "delivered", "g"),
        (2, "delivered", "g"),
    }
    assert verify_product(tmp_path / "out", sample=20).ok


def test_file_that_is_missing_fails_the_quantum(
    ask: Callable[[], Path],
    image: Callable[[int, str], Path],
    reference: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """That may be a disk that is not mounted: nothing is made of the other
    band, and with the file back nothing tells of it.
    """
    monkeypatch.setattr(extract_task, "RETRY_WAIT_S", 0.0)
    request = ask()
    image(1, "r").rename(tmp_path / "away.fits")
    with pytest.raises(MPGraphExecutorError):
        init_and_run(request)
    campaign = prepare_here(request)
    assert finish(campaign) == PARTIAL
    answers = answers_of(tmp_path / "out")
    assert {(row["patch"], row["status"]) for row in answers} == {
        (0, "delivered"),
        (1, "not_processed"),
        (2, "delivered"),
    }
    assert any("restart the campaign" in (row["reason"] or "") for row in answers)
    (tmp_path / "away.fits").rename(image(1, "r"))
    init_and_run(request)
    assert finish(campaign) == COMPLETE
    assert digests(tmp_path / "out") == digests(reference)


# The task by itself, without a Butler.


@dataclasses.dataclass
class Bench:
    """A task for one patch of the tiny sky."""

    campaign: Campaign
    images: list[SourceImage]
    config: ExtractCutoutsConfig

    def cut(self) -> CutoutDataset:
        """Run it."""
        path = self.campaign.root / "cutouts.hdf5"
        path.unlink(missing_ok=True)
        ExtractCutoutsTask(config=self.config).extract(self.images, path, tract=TRACT, patch=1)
        return CutoutDataset(path)


def set_up(
    directory: Path, images: list[SourceImage], targets: pa.Table, bands: tuple[str, ...] = ("g", "r")
) -> Bench:
    campaign = Campaign(directory)
    writer = TargetTableWriter(campaign.targets)
    writer.write(TRACT, 1, targets.to_batches())
    plan = Plan(
        request_fingerprint="0",
        skymap="tangent_test",
        bands=bands,
        catalog_rows=len(targets),
        refused={},
        tracts=writer.close(),
    )
    campaign.write_plan(plan)
    config = ExtractCutoutsConfig()
    config.plan = campaign.plan.as_uri()
    config.plan_sha256 = sha256_of(campaign.plan.read_bytes())
    return Bench(campaign, images, config)


def targets_at(ra: np.ndarray, dec: np.ndarray, x: Any, y: Any, size: int = SIZE) -> pa.Table:
    n = len(ra)

    def ints(value: int) -> pa.Array:
        return pa.array(np.full(n, value, dtype=np.int32))

    columns = {"row": np.arange(n), "ra": ra, "dec": dec, "size_pixels": ints(size)}
    places = {"tract": ints(TRACT), "patch": ints(1), "x": x, "y": y}
    return pa.table({**columns, **places})


@pytest.fixture
def bench(tmp_path: Path, tiny_repo: SkyRepository) -> Callable[..., Bench]:
    """Set up the task for 12 targets in patch 1, told to be so far from
    where they are.
    """

    def make(shift: float = 0.0) -> Bench:
        ra, dec = tiny_positions(tiny_repo, 1, 12)
        x, y = tiny_repo.layout.tracts[TRACT].sky_to_pixel(ra, dec)
        images = [
            SourceImage(band, f"id-{band}", ResourcePath(str(tiny_repo.paths[TRACT, 1, band])))
            for band in ("g", "r")
        ]
        return set_up(tmp_path, images, targets_at(ra, dec, x + np.where(np.arange(12) == 5, shift, 0), y))

    return make


@pytest.mark.parametrize("fails", [2, 3])
def test_storage_that_fails_and_comes_back(
    bench: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch, fails: int
) -> None:
    """Twice for each image, and it is as if nothing had been; more often, and
    the error travels on, for another job to try.
    """
    waits: list[float] = []
    calls: dict[str, int] = {}

    def flaky(path: str) -> Any:
        calls[path] = calls.get(path, 0) + 1
        if calls[path] <= fails:
            raise OSError(errno.EIO, os.strerror(errno.EIO), path)
        return open_image(path)

    monkeypatch.setattr(extract_task, "open_image", flaky)
    monkeypatch.setattr(extract_task.time, "sleep", waits.append)
    if fails == 2:
        with bench().cut() as dataset:
            assert (dataset.read(SIZE, "band_status") == BAND_OK).all()
        assert sorted(calls.values()) == [3, 3]
        assert waits == [extract_task.RETRY_WAIT_S, 2 * extract_task.RETRY_WAIT_S] * 2
    else:
        with pytest.raises(OSError, match="Input/output error"):
            bench().cut()


def test_projection_of_the_image_decides(bench: Callable[..., Bench]) -> None:
    """It agrees with discovery to a hundredth of a pixel, or all stops."""
    with bench(0.009).cut() as dataset:
        exact = dataset.read(SIZE, "x")
    with bench(0.0).cut() as dataset:
        np.testing.assert_array_equal(dataset.read(SIZE, "x"), exact)
    with pytest.raises(
        InternalError,
        match=r"^1 targets are elsewhere .* sky map's formula; the first is row 5: \(.*\) px\.$",
    ):
        bench(0.011).cut()


def test_projections_of_the_bands_agree(bench: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch) -> None:
    """An image of another place under the name of this one."""

    def other(path: str) -> Any:
        reader = open_image(path)
        if "_r_" in Path(path).name:
            crpix = (reader.wcs.crpix[0] + 0.02, reader.wcs.crpix[1])
            reader.wcs = dataclasses.replace(reader.wcs, crpix=crpix)
        return reader

    monkeypatch.setattr(extract_task, "open_image", other)
    with pytest.raises(InternalError, match=r"12 targets are elsewhere .* that of the image in r; "):
        bench().cut()


def test_plan_and_targets_are_those_of_the_graph(bench: Callable[..., Bench]) -> None:
    made = bench()
    made.cut().close()
    plan = made.campaign.plan.read_text()
    made.campaign.plan.write_text(plan + " ")
    with pytest.raises(
        InternalError, match=r"Plan .*plan\.json is not the one that this graph was built for"
    ):
        made.cut()
    made.campaign.plan.write_text(plan)
    (targets,) = made.campaign.targets.iterdir()
    with targets.open("ab") as stream:
        stream.write(b"x")
    with pytest.raises(InternalError, match=r"Target file .*tract=3\.parquet is not the one"):
        made.cut()


def test_error_of_the_task_is_told_as_it_is(
    tiny_repo: SkyRepository, catalog: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The Butler wraps what happens while it writes: not for the reader of
    the log.
    """
    request = write_request(tmp_path, tiny_repo, catalog, size=SIZE)
    campaign, graph = prepare_here(request), tmp_path / "graph.qg"
    build_graph(campaign, graph, output_run="u/x/1", request_file=request)
    campaign.plan.write_text(campaign.plan.read_text() + "\n")
    with pytest.raises(MPGraphExecutorError):
        run_graph(campaign, graph)
    assert caplog.text.count("failed. Exception InternalError: Plan file://") == 3
    assert not list(campaign.datastore.glob("**/*_bulk_cutouts/**/*.hdf5"))
    assert not list(campaign.datastore.glob("**/*_metadata/**/*.json"))


class BigImage:
    """An image of zeros of any size, made as it is read."""

    tile_shape = cell_shape = (100, 100)
    n_cells = (12, 10)
    bbox = Box(y0=-50, y1=1150, x0=700, x1=1700)
    wcs = TangentWcs((10.0, 0.0), (1200.0, 600.0), ((-0.2 / 3600, 0.0), (0.0, 0.2 / 3600)))
    planes = frozenset(("image", "variance", "mask", "psf"))
    mask_planes = (MaskPlane("NO_DATA", 0, ""), MaskPlane("INEXACT_PSF", 3, ""))
    has_psf = True
    psf_shape = (41, 41)
    missing_cells: frozenset[tuple[int, int]] = frozenset()
    background = None
    backgrounds: dict[str, object] = {}
    extra_planes = ("noise/0",)
    unit = "nJy"
    psf_note = ""
    mask_tells_nothing = False
    tile_edges = TileGrid(bbox, tile_shape).edges

    def __enter__(self) -> BigImage:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def load_tiles(
        self, plane: str, tiles: Sequence[tuple[int, int]], canvas: np.ndarray, within: Box, **kwargs: Any
    ) -> list[CorruptInputError]:
        for iy, ix in tiles:
            y0, x0 = 100 * iy - 50, 100 * ix + 700
            if (part := Box(y0=y0, y1=y0 + 100, x0=x0, x1=x0 + 100).intersection(within)) is not None:
                canvas[part.slices(within)] = 0
        return []

    def cell_of(self, y: Any, x: Any) -> np.ndarray:
        return np.stack([(np.asarray(y) + 50) // 100, (np.asarray(x) - 700) // 100], axis=1)

    def psf_kernels(self, cells: Any) -> np.ndarray:
        return np.ones((len(cells), *self.psf_shape), dtype=np.float32)


@pytest.mark.parametrize(("n", "size"), [(8000, 24), (60, 400)])
def test_memory_is_bounded_however_many_targets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, n: int, size: int
) -> None:
    """64 MB, where kernels or cutouts of all targets at once would take 50 MB
    and more for each of the planes.
    """
    rng = np.random.default_rng(8)
    x, y = rng.uniform(700, 1699, n), rng.uniform(-50, 1149, n)
    targets = targets_at(*BigImage.wcs.pixel_to_sky(x, y), x, y, size)
    (tmp_path / "image.fits").touch()
    image = SourceImage("g", "id", ResourcePath(str(tmp_path / "image.fits")))
    bench = set_up(tmp_path, [image], targets, bands=("g",))
    bench.config.max_memory_mb = 64
    monkeypatch.setattr(extract_task, "open_image", lambda path: BigImage())
    # What is imported and compiled is none of the targets' memory.
    set_up(tmp_path / "warm", [image], targets.slice(0, 2), bands=("g",)).cut().close()
    tracemalloc.start()
    try:
        with bench.cut() as dataset:
            assert dataset.count(size) == n
            peak = tracemalloc.get_traced_memory()[1]
            assert (dataset.read(size, "band_status") == BAND_OK).all()
            assert (dataset.read(size, "psf", slice(n - 3, n)) == 1).all()
    finally:
        tracemalloc.stop()
    assert peak < 64 * 1024**2
