# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Cutouts that leave their patch's image.

Pixel values tell patch and place; expected cutouts are composed here, from
the files as astropy reads them: a pixel inside the home image's box is the
home image's, any other the lowest patch's that has it.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import json
import math
import shutil
import tracemalloc
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import astropy.io.fits
import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lsst.dax.bulkcutout import open_cutouts
from lsst.dax.bulkcutout.boxes import Box, first_pixel, hull, visible_parts
from lsst.dax.bulkcutout.campaign import Campaign, Plan
from lsst.dax.bulkcutout.cutout_dataset import CutoutDataset
from lsst.dax.bulkcutout.discovery.neighbors import reached_patches
from lsst.dax.bulkcutout.extract.ahead import ahead
from lsst.dax.bulkcutout.extract.band_cut import BandCut, empty_columns
from lsst.dax.bulkcutout.extract.patch_cut import NeighborImage, PatchCut
from lsst.dax.bulkcutout.extract.place import Place
from lsst.dax.bulkcutout.extract.stitch import Neighbor, find_shift
from lsst.dax.bulkcutout.extract_task import ExtractCutoutsConfig, ExtractCutoutsTask, SourceImage
from lsst.dax.bulkcutout.finish import COMPLETE
from lsst.dax.bulkcutout.manifest import read_manifest
from lsst.dax.bulkcutout.masks import merge_mask_planes
from lsst.dax.bulkcutout.readers import ImageReader, open_image
from lsst.dax.bulkcutout.readers.tiles import TileGrid
from lsst.dax.bulkcutout.tables import (
    BAND_NO_DATA,
    BAND_NO_DATASET,
    BAND_OK,
    BAND_READ_FAILED,
    MaskPlane,
    NeighborInput,
)
from lsst.dax.bulkcutout.target_table import TargetTableWriter, sha256_of
from lsst.dax.bulkcutout.tests import SkyRepository, make_repo, make_targets, tangent_layout, tangent_tract
from lsst.dax.bulkcutout.tests.campaigns import run_here, write_request
from lsst.dax.bulkcutout.tests.products import seal
from lsst.dax.bulkcutout.top_up import top_up
from lsst.dax.bulkcutout.verify.product import verify_product
from lsst.dax.bulkcutout.wcs import TangentWcs
from lsst.pipe.base.quantum_graph import PredictedQuantumGraph
from lsst.resources import ResourcePath

TRACT = 6
BANDS = ("g", "r")
MISSING = (TRACT, 5, "r")
HOLE = (TRACT, 4, "g")
PERMUTED = ("CLIPPED", "NO_DATA", "SATURATED", "VIGNETTED", "INEXACT_PSF", "DETECTED")


@pytest.fixture(scope="module")
def repo(tmp_path_factory: pytest.TempPathFactory) -> SkyRepository:
    """Nine patches of 60 x 70 px that overlap by 20 px.  Patch 5 has no r,
    patch 4 has a hole in its corner, patches 1 and 4 have other mask bits.
    """
    tract = tangent_tract(
        TRACT,
        center=(211.3, -47.0),
        n_patches=(3, 3),
        inner=(40, 50),
        border=(10, 10),
        cell=(10, 10),
        rotation_deg=33.0,
    )
    return make_repo(
        tmp_path_factory.mktemp("stitch") / "repo",
        layout=tangent_layout([tract]),
        bands=BANDS,
        pixels="coordinates",
        missing=[MISSING],
        missing_cells={HOLE: [(0, 0)]},
        mask_planes={(TRACT, patch, band): PERMUTED for patch in (1, 4) for band in BANDS},
        psf_shape=(5, 7),
    )


@dataclasses.dataclass(frozen=True)
class Pixels:
    """A file, as astropy reads it."""

    box: Box
    floats: Mapping[str, np.ndarray]
    masks: Mapping[str, np.ndarray]


@functools.lru_cache(maxsize=64)
def read_pixels(path: Path) -> Pixels:
    with astropy.io.fits.open(path) as hdus:
        header = hdus["IMAGE"].header
        x0, y0 = (round(header[f"CRVAL{n}A"] - header[f"CRPIX{n}A"] + 1) for n in (1, 2))
        ny, nx = hdus["IMAGE"].shape
        floats = {name.lower(): np.array(hdus[name].data) for name in ("IMAGE", "VARIANCE")}
        masks = {}
        for hdu in hdus:
            if hdu.name == "MASK":
                cards = [key for key in hdu.header if key.startswith("MSKN")]
                for key in cards:
                    value = int(hdu.header[f"MSKM{key[4:]}"])
                    masks[str(hdu.header[key])] = (hdu.data.astype(np.int64) & value) != 0
    return Pixels(Box(y0=y0, y1=y0 + ny, x0=x0, x1=x0 + nx), floats, masks)


@dataclasses.dataclass(frozen=True)
class Expected:
    """A cutout as it should be."""

    floats: Mapping[str, np.ndarray]
    masks: Mapping[str, np.ndarray]
    owner: np.ndarray
    """Patch of each pixel, -1 for none."""

    @property
    def valid(self) -> np.ndarray:
        return np.isfinite(self.floats["image"]) & ~self.masks["NO_DATA"]

    @property
    def n_patches(self) -> int:
        return len(set(self.owner.ravel().tolist()) - {-1})


def compose(repo: SkyRepository, patch: int, band: str, box: Box) -> Expected:
    """Compose a cutout pixel by pixel, in the order of the rule."""
    others = [p for p in range(9) if p != patch and (TRACT, p, band) in repo.paths]
    owner = np.full(box.shape, -1)
    floats = {name: np.full(box.shape, np.nan, dtype=np.float32) for name in ("image", "variance")}
    masks: dict[str, np.ndarray] = {"NO_DATA": np.ones(box.shape, dtype=bool)}
    for source in [patch, *others]:
        pixels = read_pixels(repo.paths[TRACT, source, band])
        y, x = np.mgrid[box.y0 : box.y1, box.x0 : box.x1]
        inside = (y >= pixels.box.y0) & (y < pixels.box.y1) & (x >= pixels.box.x0) & (x < pixels.box.x1)
        inside &= owner < 0
        there = (y[inside] - pixels.box.y0, x[inside] - pixels.box.x0)
        owner[inside] = source
        for name, plane in floats.items():
            plane[inside] = pixels.floats[name][there]
        for name in masks.keys() | pixels.masks.keys():
            plane = masks.setdefault(name, np.zeros(box.shape, dtype=bool))
            plane[inside] = pixels.masks[name][there] if name in pixels.masks else False
    return Expected(floats, masks, owner)


def assert_same(expected: Expected, floats: Mapping[str, np.ndarray], mask: np.ndarray, planes: Any) -> None:
    for name, plane in expected.floats.items():
        np.testing.assert_array_equal(floats[name], plane, err_msg=name)
    bits = {plane.name: plane.bit for plane in planes}
    assert expected.masks.keys() <= bits.keys()
    for name, bit in bits.items():
        nothing = np.zeros(mask.shape, dtype=bool)
        np.testing.assert_array_equal((mask >> bit) & 1 != 0, expected.masks.get(name, nothing), name)


@pytest.fixture(scope="module")
def images(repo: SkyRepository) -> Iterator[dict[tuple[int, str], ImageReader]]:
    found = {(patch, band): open_image(str(path)) for (_, patch, band), path in repo.paths.items()}
    yield found
    for image in found.values():
        image.close()


positions = st.tuples(st.floats(-12, 12), st.floats(-12, 12))
corners = st.tuples(st.integers(0, 3), st.integers(0, 3))


@settings(max_examples=60, deadline=None)
@given(
    corner=corners,
    offsets=st.lists(positions, min_size=1, max_size=6),
    size=st.one_of(st.integers(1, 30), st.integers(1, 170)),
    home=st.integers(0, 8),
    band=st.sampled_from(BANDS),
    memory=st.sampled_from([1, 60_000, 5_000_000]),
    threads=st.integers(1, 2),
)
def test_every_pixel_is_of_the_patch_that_the_rule_names(
    repo: SkyRepository,
    images: dict[tuple[int, str], ImageReader],
    corner: tuple[int, int],
    offsets: list[tuple[float, float]],
    size: int,
    home: int,
    band: str,
    memory: int,
    threads: int,
) -> None:
    """Around corners where four inner regions meet, on edges of the tract,
    from whichever patch, also one that the target is not in.
    """
    if (home, band) not in images:
        return
    y = np.array([1200 + 40 * corner[0] + dy for dy, _ in offsets])
    x = np.array([300 + 50 * corner[1] + dx for _, dx in offsets])
    place = Place(x=x, y=y, first_x=first_pixel(x, size), first_y=first_pixel(y, size), size=size)
    others = [p for p in range(9) if p != home and (p, band) in images]
    table = merge_mask_planes(images[p, band].mask_planes for p in (home, *others))
    damage: list[str] = []
    band_cut = BandCut(
        band,
        images[home, band],
        [Neighbor(p, images[p, band], images[p, band].bbox) for p in others],
        planes=("image", "variance", "mask"),
        mask_planes=table,
        memory_bytes=memory,
        retry=lambda action: action(),
        damage=damage,
        threads=threads,
    )
    columns = empty_columns(len(x))
    seen: list[int] = []
    blocks = band_cut.cut(place, columns, np.zeros(len(x), dtype=bool))
    for block in ahead(blocks, threads=threads):
        for k, index in enumerate(block.index.tolist()):
            seen.append(index)
            y0, x0 = int(place.first_y[index]), int(place.first_x[index])
            expected = compose(repo, home, band, Box(y0=y0, y1=y0 + size, x0=x0, x1=x0 + size))
            pixels = {name: plane[k] for name, plane in block.pixels.items()}
            assert_same(expected, pixels, pixels["mask"], table)
            assert columns["n_patches"][index] == expected.n_patches
            assert columns["stitched"][index] == (set(np.unique(expected.owner)) - {-1, home} != set())
            assert columns["valid_fraction"][index] == np.float32(expected.valid.mean())
            status = BAND_OK if expected.valid.any() else BAND_NO_DATA
            assert columns["band_status"][index] == status
    assert sorted(seen) == list(range(len(x))) and not damage


def test_block_stays_while_another_thread_makes_the_next(images: dict[tuple[int, str], ImageReader]) -> None:
    """Also where cutouts between the two wait to be completed."""
    size, first_y, first_x = 8, np.array([1231, 1255, 1281]), np.array([360, 336, 370])
    place = Place(x=first_x + 4.0, y=first_y + 4.0, first_x=first_x, first_y=first_y, size=size)
    assert place.inside(images[4, "g"].bbox).tolist() == [True, False, True]
    band_cut = BandCut(
        "g",
        images[4, "g"],
        [Neighbor(3, images[3, "g"], images[3, "g"].bbox)],
        planes=("image", "variance", "mask"),
        mask_planes=merge_mask_planes(images[p, "g"].mask_planes for p in (4, 3)),
        # For a strip of 18 rows, and two cutouts at a time.
        memory_bytes=12_000,
        retry=lambda action: action(),
        damage=[],
        threads=2,
    )
    former: list[tuple[np.ndarray, np.ndarray]] = []
    seen: list[int] = []
    for block in band_cut.cut(place, empty_columns(3), np.zeros(3, dtype=bool)):
        for pixels, copy in former:
            np.testing.assert_array_equal(pixels, copy)
        former = [(pixels, pixels.copy()) for pixels in block.pixels.values()]
        seen += block.index.tolist()
    assert seen == [0, 2, 1]


@given(data=st.data())
def test_parts_of_a_box_are_those_of_the_first_image_that_has_them(data: st.DataObject) -> None:
    """Against a picture that is painted from the last image to the first."""
    edges = st.tuples(st.integers(0, 20), st.integers(0, 20)).filter(lambda ab: ab[0] != ab[1]).map(sorted)
    boxes = st.builds(lambda y, x: Box(y0=y[0], y1=y[1], x0=x[0], x1=x[1]), edges, edges)
    box, others = data.draw(boxes), data.draw(st.lists(boxes, max_size=5))
    canvas, whole = np.full((20, 20), -1), Box(y0=0, y1=20, x0=0, x1=20)
    for number, other in reversed(list(enumerate(others))):
        canvas[other.slices(whole)] = number
    counts = np.zeros((20, 20), dtype=int)
    for number, parts in enumerate(visible_parts(box, others)):
        for part in parts:
            assert part.intersection(box) == part
            counts[part.slices(whole)] += 1
            assert (canvas[part.slices(whole)] == number).all()
    inside = np.zeros((20, 20), dtype=bool)
    inside[box.slices(whole)] = True
    np.testing.assert_array_equal(counts, inside & (canvas >= 0))
    assert hull([None]) is None and hull([box, None]) == box


@settings(max_examples=200)
@given(
    home=st.integers(0, 8),
    targets=st.lists(st.tuples(positions, corners, st.integers(1, 170)), min_size=1, max_size=3),
)
def test_neighbours_are_reached_where_they_have_pixels_that_home_has_not(
    repo: SkyRepository, home: int, targets: list[Any]
) -> None:
    """Against a count of pixels."""
    outer = {patch: repo.layout.patch(TRACT, patch).outer for patch in range(9)}
    y = np.array([1200 + 40 * corner[0] + offset[0] for offset, corner, _ in targets])
    x = np.array([300 + 50 * corner[1] + offset[1] for offset, corner, _ in targets])
    size = np.array([size for _, _, size in targets])
    expected = set()
    for x0, y0, n in zip(first_pixel(x, size).tolist(), first_pixel(y, size).tolist(), size, strict=True):
        rows, columns = np.mgrid[y0 : y0 + n, x0 : x0 + n]

        def held(box: Box, rows: np.ndarray = rows, columns: np.ndarray = columns) -> np.ndarray:
            return (rows >= box.y0) & (rows < box.y1) & (columns >= box.x0) & (columns < box.x1)

        expected |= {p for p, box in outer.items() if p != home and (held(box) & ~held(outer[home])).any()}
    assert reached_patches(home, x, y, size, outer) == expected


class Image:
    """As much of an image as its grid of pixels."""

    def __init__(self, box: Box, **terms: Any) -> None:
        plain = TangentWcs(crval=(10.0, -80.0), crpix=(500.0, 600.0), cd=((-5e-5, 0.0), (0.0, 5e-5)))
        self.bbox, self.wcs = box, dataclasses.replace(plain, **terms)


def test_grids_of_pixels_agree_to_a_hundredth_of_a_pixel_or_not_at_all() -> None:
    """A shift by whole pixels is one; half a pixel, a turn or another scale
    is none.
    """
    home: Any = Image(Box(y0=0, y1=300, x0=0, x1=200))
    box = Box(y0=250, y1=700, x0=100, x1=400)

    def shift(**terms: Any) -> tuple[int, int] | None:
        other: Any = Image(box, **terms)
        return find_shift(home, other)

    assert shift() == (0, 0)
    assert shift(crpix=(497.0, 640.0)) == (40, -3)
    assert shift(crpix=(497.004, 639.996)) == (40, -3)
    assert shift(crpix=(497.5, 640.0)) is None
    assert shift(crpix=(500.0, 600.02)) is None
    turned = ((-5e-5, 1e-8), (1e-8, 5e-5))
    assert shift(cd=turned) is None
    assert shift(cd=((-5e-5, 0.0), (0.0, 5.001e-5))) is None
    assert shift(crval=(190.0, 80.0)) is None


class Zeros:
    """An image of a map with patches of 3300 px, made as it is read."""

    mask_tells_nothing = False
    planes = frozenset(("image", "variance", "mask"))
    extra_planes = ()
    mask_planes = (MaskPlane("NO_DATA", 0), MaskPlane("SATURATED", 5))

    def __init__(self, row: int, column: int) -> None:
        y0, x0 = 3000 * row - 150, 3000 * column - 150
        self.bbox = Box(y0=y0, y1=y0 + 3300, x0=x0, x1=x0 + 3300)
        self.tile_edges = TileGrid(self.bbox, (150, 150)).edges

    def load_tiles(self, plane: str, tiles: Any, canvas: np.ndarray, within: Box, **kwargs: Any) -> list[Any]:
        for iy, ix in tiles:
            box = Box(y0=150 * iy, y1=150 * iy + 150, x0=150 * ix, x1=150 * ix + 150)
            if (part := box.shifted(self.bbox.y0, self.bbox.x0).intersection(within)) is not None:
                canvas[part.slices(within)] = 0
        return []


def test_memory_of_the_largest_cutouts_is_bounded() -> None:
    """Of 2,000 px, from four images each, within the default of a quantum."""
    images: dict[int, Any] = {3 * row + column: Zeros(row, column) for row in range(3) for column in range(3)}
    home = images.pop(4)
    offsets = np.array([0.2, 1.0, 300.5, 7.0])
    size, y, x = 2000, 3000 + offsets, 5999 - offsets[::-1]
    place = Place(x=x, y=y, first_x=first_pixel(x, size), first_y=first_pixel(y, size), size=size)
    neighbors = [Neighbor(patch, image, image.bbox) for patch, image in images.items()]
    memory = ExtractCutoutsConfig().max_memory_mb * 1024**2
    columns = empty_columns(len(x))
    tracemalloc.start()
    try:
        band_cut = BandCut(
            "g",
            home,
            neighbors,
            planes=("image", "variance", "mask"),
            mask_planes=home.mask_planes,
            memory_bytes=memory // 2,
            retry=lambda action: action(),
            damage=[],
        )
        for block in band_cut.cut(place, columns, np.zeros(len(x), dtype=bool)):
            assert not np.isnan(block.pixels["image"]).any() and not block.pixels["mask"].any()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert columns["n_patches"].tolist() == [4] * 4 and (columns["valid_fraction"] == 1).all()
    assert peak < memory


def test_answers_of_made_up_targets_know_of_neighbours(repo: SkyRepository) -> None:
    """The catalogs that other tests and the demonstration use."""
    targets = make_targets(repo, n_random=20, sizes=(5, 40, 150))
    n_changed = 0
    for row, size in zip(targets.expected.to_pylist(), targets.table["size"].to_pylist(), strict=True):
        if row["status"] not in ("delivered", "no_data") or row["tract"] is None:
            continue
        y0, x0 = (math.ceil(round(row[axis], 6) - size / 2) for axis in "yx")
        box = Box(y0=y0, y1=y0 + size, x0=x0, x1=x0 + size)
        seen = {}
        for band in BANDS:
            if (TRACT, row["patch"], band) in repo.paths:
                seen[band] = compose(repo, row["patch"], band, box)
        valid = [band for band, expected in seen.items() if expected.valid.any()]
        assert row["bands"] == ",".join(valid)
        assert row["status"] == ("delivered" if valid else "no_data")
        n_changed += any(expected.n_patches > 1 for expected in seen.values())
    assert n_changed > 10


# Whole campaigns.


def targets_of(repo: SkyRepository) -> pa.Table:
    """Targets all over, of four sizes; each size on the corners too."""
    rng = np.random.default_rng(3)
    tract = repo.layout.tracts[TRACT]
    x, y = rng.uniform(285, 465, 150), rng.uniform(1190, 1330, 150)
    near = [
        (300 + 50 * i + dx, 1200 + 40 * j) for i, j in itertools.product((1, 2), (1, 2)) for dx in (-1, 1)
    ]
    x, y = (np.concatenate([a, b]) for a, b in zip((x, y), zip(*near, strict=True), strict=True))
    ra, dec = tract.pixel_to_sky(x, y)
    sizes = np.resize([9, 30, 64, 150], len(x))
    return pa.table({"id": np.arange(len(x)), "ra": ra, "dec": dec, "pixels": sizes})


@pytest.fixture(scope="module")
def run(repo: SkyRepository, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with request, campaign and product."""
    directory = tmp_path_factory.mktemp("run")
    pq.write_table(targets_of(repo), directory / "catalog.parquet")
    request = write_request(directory, repo, directory / "catalog.parquet", size={"column": "pixels"})
    assert run_here(request)[1] == COMPLETE
    return directory


def test_cutouts_of_a_product_are_completed_from_neighbours(repo: SkyRepository, run: Path) -> None:
    seen = {"stitched": 0, "alone": 0, "four": 0, "no home band": 0}
    with open_cutouts(run / "out") as cutouts:
        for cutout in cutouts:
            x, y = repo.layout.tracts[TRACT].sky_to_pixel(cutout.ra, cutout.dec)
            first_x, first_y = (int(np.ceil(round(float(v), 6) - cutout.size / 2)) for v in (x, y))
            box = Box(y0=first_y, y1=first_y + cutout.size, x0=first_x, x1=first_x + cutout.size)
            for band in cutout.bands:
                floats = {"image": cutout.image(band), "variance": cutout.variance(band)}
                if (cutout.patch, band) == MISSING[1:]:
                    # What is not there is not made up from others.
                    assert cutout.status[band] == "no_dataset" and np.isnan(floats["image"]).all()
                    assert cutout.n_patches(band) == 0 and not cutout.stitched(band)
                    seen["no home band"] += 1
                    continue
                expected = compose(repo, cutout.patch, band, box)
                assert_same(expected, floats, cutout.mask(band), cutout.mask_planes)
                assert cutout.n_patches(band) == expected.n_patches
                assert cutout.stitched(band) == (expected.n_patches > 1)
                assert cutout.valid_fraction(band) == pytest.approx(expected.valid.mean())
                seen["stitched" if cutout.stitched(band) else "alone"] += 1
                seen["four"] += expected.n_patches >= 4
    assert min(seen.values()) > 8, seen
    report = verify_product(run / "out", sample=1000)
    assert report.ok, str(report)


def test_only_quanta_that_need_them_have_neighbours(repo: SkyRepository, run: Path) -> None:
    """A second request, for small cutouts, has none at all."""
    graph = PredictedQuantumGraph.read_execution_quanta(str(run / "graph.qg"))
    found = {}
    for quantum in graph.build_execution_quanta().values():
        assert quantum.dataId is not None
        refs = [ref for refs in quantum.inputs.values() for ref in refs if "band" in ref.dataId]
        found[int(quantum.dataId["patch"])] = {(int(r.dataId["patch"]), str(r.dataId["band"])) for r in refs}
    status = pq.read_table(run / "out" / "status.parquet").to_pylist()
    for patch, inputs in found.items():
        expected = {(patch, band) for band in BANDS if (TRACT, patch, band) in repo.paths}
        bands = {band for _, band in expected}
        for row in status:
            if row["patch"] == patch:
                x, y = repo.layout.tracts[TRACT].sky_to_pixel(row["ra"], row["dec"])
                first = [int(np.ceil(round(float(v), 6) - row["size_pixels"] / 2)) for v in (y, x)]
                n = row["size_pixels"]
                box = Box(y0=first[0], y1=first[0] + n, x0=first[1], x1=first[1] + n)
                for band in bands:
                    for other in range(9):
                        if other != patch and (TRACT, other, band) in repo.paths:
                            outer = repo.layout.patch(TRACT, other).outer
                            if (common := box.intersection(outer)) is not None:
                                home = repo.layout.patch(TRACT, patch).outer
                                if common.minus(home):
                                    expected.add((other, band))
        assert inputs == expected
    with h5py.File(next((run / "out").glob("size=150/*.hdf5"))) as file:
        table = {name: values[()] for name, values in file["provenance/neighbors"].items()}
        listed = {
            (int(p), int(n), b.decode(), u.decode())
            for p, n, b, u in zip(
                table["patch"], table["neighbor"], table["band"], table["dataset_uuid"], strict=True
            )
        }
    assert listed == {
        (patch, other, band, str(repo.refs[TRACT, other, band].id))
        for patch, inputs in found.items()
        for other, band in inputs
        if other != patch
    }


def test_pixel_of_the_wrong_patch_is_found(repo: SkyRepository, run: Path, tmp_path: Path) -> None:
    """In a stitched cutout, one pixel from the second neighbour that has it;
    in another the count of patches.
    """
    out = tmp_path / "out"
    shutil.copytree(run / "out", out)
    path = next(out.glob("size=64/*.hdf5"))
    with h5py.File(path, "r+") as file:
        stitched = np.argwhere(file["images/stitched"][()])
        index, band = stitched[0].tolist()
        row, count = int(file["catalog/row"][index]), int(file["catalog/row"][stitched[-1][0]])
        x0, y0 = (
            round(float(file[f"catalog/{v}"][index] - file[f"catalog/{v}_cutout"][index])) for v in "xy"
        )
        patch = int(file["catalog/patch"][index])
        name = BANDS[band]
        expected = compose(repo, patch, name, Box(y0=y0, y1=y0 + 64, x0=x0, x1=x0 + 64))
        y, x = np.argwhere((expected.owner >= 0) & (expected.owner != patch))[0].tolist()
        file["images/flux"][index, band, y, x] += np.float32(1.0)
        file["images/n_patches"][tuple(stitched[-1])] += 1
    seal(out, read_manifest(out))
    problems = [problem for problem in verify_product(out, sample=1000).problems if problem.check == "pixels"]
    assert {(problem.row, problem.dataset.split(" ")[0]) for problem in problems} == {
        (row, "images/flux"),
        (count, "images/n_patches"),
    }


def test_same_request_needs_no_patch_anew(run: Path) -> None:
    """Images of neighbours are inputs like any other.  It is the last test of
    this campaign.
    """
    campaign = Campaign(run / "campaign")
    assert top_up(campaign, run / "request.json") == 0
    for path in campaign.datastore.glob("**/*_bulk_cutouts/**/*.h*5"):
        with h5py.File(path, "r+") as file:
            file.attrs["header"] = json.dumps(json.loads(file.attrs["header"]) | {"neighbors": []})
    assert top_up(campaign, run / "request.json") == 9


@pytest.mark.filterwarnings("ignore:File may have been truncated")
def test_product_beside_a_damaged_neighbour_is_whole_but_for_it(repo: SkyRepository, tmp_path: Path) -> None:
    """One quantum; verify does not stumble over the damaged image either."""
    shutil.copytree(repo.root, tmp_path / "repo")
    bad = tmp_path / "repo" / repo.paths[TRACT, 1, "g"].relative_to(repo.root)
    bad.write_bytes(bad.read_bytes()[:9000])
    rng = np.random.default_rng(9)
    x, y = rng.uniform(350, 399, 40), rng.uniform(1240, 1279, 40)
    ra, dec = repo.layout.tracts[TRACT].pixel_to_sky(x, y)
    table = pa.table({"id": np.arange(40), "ra": ra, "dec": dec, "tract": [TRACT] * 40, "patch": [4] * 40})
    pq.write_table(table, tmp_path / "catalog.parquet")
    columns = {"tract_column": "tract", "patch_column": "patch"}
    request = write_request(
        tmp_path,
        repo,
        tmp_path / "catalog.parquet",
        catalog={"uri": str(tmp_path / "catalog.parquet")} | columns,
        butler=str(tmp_path / "repo"),
        size=40,
    )
    assert run_here(request)[1] == COMPLETE
    seen = {"read_failed": 0, "ok": 0, "stitched": 0}
    with open_cutouts(tmp_path / "out") as cutouts:
        assert len(cutouts) == 40
        for cutout in cutouts:
            first = [math.ceil(round(float(v[cutout.row]), 6) - 20) for v in (y, x)]
            box = Box(y0=first[0], y1=first[0] + 40, x0=first[1], x1=first[1] + 40)
            needs = bool((compose(repo, 4, "g", box).owner == 1).any())
            assert cutout.status == {"g": "read_failed" if needs else "ok", "r": "ok"}
            seen[cutout.status["g"]] += 1
            seen["stitched"] += cutout.stitched("g")
    assert min(seen.values()) > 3, seen
    report = verify_product(tmp_path / "out")
    assert report.ok, str(report)


# The task by itself.


def cut_patch(directory: Path, repo: SkyRepository, images: list[SourceImage], targets: pa.Table) -> Any:
    """Cut targets of patch 4; gives the dataset and what was lost."""
    campaign = Campaign(directory)
    writer = TargetTableWriter(campaign.targets)
    writer.write(TRACT, 4, targets.to_batches())
    plan = Plan(
        request_fingerprint="0",
        skymap="tangent_test",
        bands=BANDS,
        catalog_rows=len(targets),
        refused={},
        tracts=writer.close(),
    )
    campaign.write_plan(plan)
    config = ExtractCutoutsConfig()
    config.plan = campaign.plan.as_uri()
    config.plan_sha256 = sha256_of(campaign.plan.read_bytes())
    task = ExtractCutoutsTask(config=config)
    task.extract(images, directory / "cutouts.hdf5", tract=TRACT, patch=4)
    return CutoutDataset(directory / "cutouts.hdf5"), list(task.metadata.getArray("damage"))


@pytest.mark.parametrize("known", [True, False])
def test_damaged_neighbour_costs_the_cutouts_that_need_it(
    repo: SkyRepository, tmp_path: Path, known: bool
) -> None:
    """Patch 1 is damaged in g: cutouts of patch 4 are lost in g where they
    have pixels of it.  Without a record of where it is, it could be anywhere
    around.
    """
    tract = repo.layout.tracts[TRACT]
    outer = {patch: repo.layout.patch(TRACT, patch).outer for patch in range(9)}
    rng = np.random.default_rng(5)
    home = repo.layout.patch(TRACT, 4).inner
    x, y = rng.uniform(home.x0, home.x1 - 1, 60), rng.uniform(home.y0, home.y1 - 1, 60)
    ra, dec = tract.pixel_to_sky(x, y)
    size = 40
    columns = {"row": np.arange(60), "ra": ra, "dec": dec, "x": x, "y": y}
    for name, value in (("size_pixels", size), ("tract", TRACT), ("patch", 4)):
        columns[name] = np.full(60, value, dtype=np.int32)
    bad = tmp_path / "bad.fits"
    bad.write_bytes(repo.paths[TRACT, 1, "g"].read_bytes()[:9000])
    images = []
    for (_, patch, band), path in repo.paths.items():
        box = outer[patch]
        edges_x = np.array([box.x0, box.x1, box.x1, box.x0]) - 0.5
        edges_y = np.array([box.y0, box.y0, box.y1, box.y1]) - 0.5
        images.append(
            SourceImage(
                band,
                f"id-{patch}-{band}",
                ResourcePath(str(bad if (patch, band) == (1, "g") else path)),
                neighbor=None if patch == 4 else patch,
                corners=tract.pixel_to_sky(edges_x, edges_y) if known else None,
            )
        )
    dataset, damage = cut_patch(tmp_path, repo, images, pa.table(columns))
    with dataset:
        status, counts = dataset.read(size, "band_status"), dataset.read(size, "n_patches")
        x0, y0 = dataset.read(size, "x0"), dataset.read(size, "y0")
        pixels = dataset.read(size, "image")
    hurt = 0
    for k in range(60):
        box = Box(y0=int(y0[k]), y1=int(y0[k]) + size, x0=int(x0[k]), x1=int(x0[k]) + size)
        for number, band in enumerate(BANDS):
            expected = compose(repo, 4, band, box)
            needs = (expected.owner == 1).any()
            if not known:
                # Patch 0 comes first; what neither it nor home has may be it.
                needs = (~np.isin(expected.owner, (0, 4))).any()
            if band == "g" and needs:
                hurt += 1
                assert status[k, number] == BAND_READ_FAILED and counts[k, number] == 0
                assert np.isnan(pixels[k, number]).all()
            else:
                assert status[k, number] == BAND_OK and counts[k, number] == expected.n_patches
                np.testing.assert_array_equal(pixels[k, number], expected.floats["image"])
    assert 5 < hurt < 55
    assert any("lie on damaged" in sentence for sentence in damage)


def test_memory_makes_no_difference(
    repo: SkyRepository, images: dict[tuple[int, str], ImageReader], tmp_path: Path
) -> None:
    """Not one value of the dataset, whatever fits into a block, however many
    threads there are.
    """
    rng = np.random.default_rng(2)
    x, y = rng.uniform(350, 399, 40), rng.uniform(1240, 1279, 40)
    ra, dec = repo.layout.tracts[TRACT].pixel_to_sky(x, y)
    columns = {"row": np.arange(40), "ra": ra, "dec": dec, "x": x, "y": y}
    for name, value in (("size_pixels", np.resize([12, 90], 40)), ("tract", TRACT), ("patch", 4)):
        columns[name] = np.broadcast_to(np.asarray(value, dtype=np.int32), 40)
    writer = TargetTableWriter(tmp_path)
    writer.write(TRACT, 4, pa.table(columns).to_batches())
    (targets,) = writer.close()
    for memory, threads in ((1_000, 1), (100_000, 3), (50_000_000, 2)):
        patch_cut = PatchCut(
            BANDS,
            {band: f"id-{band}" for band in BANDS},
            {band: images[4, band] for band in BANDS},
            planes=("image", "variance", "mask", "psf"),
            memory_bytes=memory,
            retry=lambda action: action(),
            threads=threads,
            neighbors=[
                NeighborImage(NeighborInput(patch, band, f"id-{patch}-{band}"), image)
                for (patch, band), image in images.items()
                if patch != 4
            ],
        )
        patch_cut.write(tmp_path / f"{memory}.hdf5", tmp_path / targets.path, tract=TRACT, patch=4)
    with h5py.File(tmp_path / "1000.hdf5") as first:
        names: list[str] = []
        first.visititems(lambda name, node: names.append(name) if isinstance(node, h5py.Dataset) else None)
        assert len(names) == 10 and first["size=90/columns"]["stitched"].all()
        for other in ("100000", "50000000"):
            with h5py.File(tmp_path / f"{other}.hdf5") as second:
                assert dict(second.attrs.items()).keys() == dict(first.attrs.items()).keys()
                for name in names:
                    one, two = first[name][()], second[name][()]
                    # NaN is equal to NaN by itself, not within a record.
                    for field in one.dtype.names or [()]:
                        np.testing.assert_array_equal(one[field], two[field], err_msg=f"{name} {field}")


def test_home_band_that_is_missing_stays_missing(repo: SkyRepository, tmp_path: Path) -> None:
    """Though a neighbour has it, the band of the patch has no dataset."""
    home = repo.layout.patch(TRACT, 4).inner
    x, y = np.array([home.x0 + 1.0]), np.array([home.y0 + 2.0])
    ra, dec = repo.layout.tracts[TRACT].pixel_to_sky(x, y)
    columns = {"row": np.arange(1), "ra": ra, "dec": dec, "x": x, "y": y}
    for name, value in (("size_pixels", 50), ("tract", TRACT), ("patch", 4)):
        columns[name] = np.full(1, value, dtype=np.int32)
    images = [
        SourceImage("g", "a", ResourcePath(str(repo.paths[TRACT, 4, "g"]))),
        SourceImage("r", "b", ResourcePath(str(repo.paths[TRACT, 3, "r"])), neighbor=3),
    ]
    with cut_patch(tmp_path, repo, images, pa.table(columns))[0] as dataset:
        assert dataset.read(50, "band_status").tolist() == [[BAND_OK, BAND_NO_DATASET]]
        assert dataset.read(50, "n_patches").tolist() == [[1, 0]]
        assert np.isnan(dataset.read(50, "image")[0, 1]).all()
        assert dataset.read(50, "valid_fraction")[0, 1] == 0
