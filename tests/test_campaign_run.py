# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""The whole way of the data in one process: pixels, rows, failures."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import astropy.io.fits
import astropy.wcs
import h5py
import numpy as np
import pyarrow.parquet as pq
import pytest
from coded_sky import MISSING_CELL, MISSING_IMAGE

from lsst.dax.bulkcutout import open_cutouts
from lsst.dax.bulkcutout.campaign import Campaign
from lsst.dax.bulkcutout.errors import UserError
from lsst.dax.bulkcutout.finish import COMPLETE, PARTIAL, TRY_AGAIN, finish
from lsst.dax.bulkcutout.manifest import read_manifest
from lsst.dax.bulkcutout.tests import SkyRepository
from lsst.dax.bulkcutout.tests.campaigns import init_and_run, run_here, write_request
from lsst.dax.bulkcutout.verify.product import verify_product
from lsst.dax.bulkcutout.watch.status import read_status
from lsst.images import BoundsError

SIZE = 24


def digests(directory: Path) -> dict[str, str]:
    """Checksums of all data files of a product."""
    return {
        path.relative_to(directory).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(directory.glob("size=*/*"))
    }


@pytest.fixture(scope="module")
def product(
    tmp_path_factory: pytest.TempPathFactory, coded_repo: SkyRepository, coded_catalog: Path
) -> Iterator[Path]:
    """An undisturbed run of the coded request."""
    directory = tmp_path_factory.mktemp("run")
    request = write_request(
        directory,
        coded_repo,
        coded_catalog,
        catalog={"uri": str(coded_catalog), "carry": ["weight", "flag"]},
        partition={"max_rows_per_file": 50},
    )
    campaign, status = run_here(request)
    assert status == COMPLETE and read_status(campaign).state == "complete"
    yield directory / "out"


def images_of(repo: SkyRepository) -> dict[tuple[int, int, str], dict[str, object]]:
    """All planes as astropy reads them, with the WCS and the first pixel."""
    images = {}
    for key, path in repo.paths.items():
        with astropy.io.fits.open(path) as hdus:
            header = hdus["IMAGE"].header
            bits = {
                header_name: int(np.log2(hdus["MASK"].header[card.replace("MSKN", "MSKM")]))
                for card, header_name in hdus["MASK"].header.items()
                if card.startswith("MSKN")
            }
            images[key] = {
                "image": hdus["IMAGE"].data.copy(),
                "variance": hdus["VARIANCE"].data.copy(),
                "mask": hdus["MASK"].data.copy(),
                "bits": bits,
                "wcs": astropy.wcs.WCS(header),
                "origin": (int(header["CRVAL2A"]), int(header["CRVAL1A"])),
            }
    return images


def pixels_by_rule(
    images: dict[tuple[int, int, str], dict[str, object]], home: tuple[int, int, str], y0: int, x0: int
) -> tuple[dict[str, np.ndarray], set[int]]:
    """All planes of a box: what the home patch's image has is the home
    patch's, the rest the lowest patch's that has it; and who gave pixels.
    """
    tract, patch, band = home
    others = sorted((p for t, p, b in images if (t, b) == (tract, band) and p != patch), reverse=True)
    planes: dict[str, np.ndarray] = {name: np.full((SIZE, SIZE), np.nan) for name in ("image", "variance")}
    # Masks differ in what planes they have.
    names = {name for t, p, b in images if (t, b) == (tract, band) for name in images[t, p, b]["bits"]}
    planes |= {name: np.full((SIZE, SIZE), name == "NO_DATA") for name in names}
    givers = np.full((SIZE, SIZE), -1)
    for giver in (*others, patch):
        image = images[tract, giver, band]
        rows, columns = np.mgrid[y0 : y0 + SIZE, x0 : x0 + SIZE]
        rows, columns = rows - image["origin"][0], columns - image["origin"][1]
        ny, nx = image["image"].shape
        inside = (rows >= 0) & (rows < ny) & (columns >= 0) & (columns < nx)
        rows, columns = rows[inside], columns[inside]
        for name in ("image", "variance"):
            planes[name][inside] = image[name][rows, columns]
        for name in names:
            bit = image["bits"].get(name)
            planes[name][inside] = False if bit is None else (image["mask"][rows, columns] >> bit) & 1
        givers[inside] = giver
    return planes, set(np.unique(givers).tolist())


def test_every_delivered_pixel_is_that_of_the_image(product: Path, coded_repo: SkyRepository) -> None:
    """All cutouts, all bands, all planes, against astropy's reading of the
    images and astropy's rule for the box; masks by name of the plane.
    """
    images = images_of(coded_repo)
    seen = Counter()
    cutouts = open_cutouts(product)
    status = pq.read_table(product / "status.parquet").to_pylist()
    for answer in (row for row in status if row["status"] == "delivered"):
        cutout = cutouts.by_row(answer["row"])
        assert cutout.object_id == answer["target_id"]
        for band in cutouts.bands:
            home = (answer["tract"], answer["patch"], band)
            if home not in images:
                seen["no image"] += 1
                assert np.isnan(cutout.image(band)).all() and np.isnan(cutout.variance(band)).all()
                assert cutout.mask_plane("NO_DATA", band).all()
                continue
            origin = images[home]["origin"]
            x, y = images[home]["wcs"].all_world2pix(answer["ra"], answer["dec"], 0)
            x, y = float(x) + origin[1], float(y) + origin[0]
            y0, x0 = (int(np.ceil(round(position, 6) - SIZE / 2)) for position in (y, x))
            expected, givers = pixels_by_rule(images, home, y0, x0)
            for name in ("image", "variance"):
                np.testing.assert_array_equal(getattr(cutout, name)(band), expected.pop(name))
            for name, plane in expected.items():
                np.testing.assert_array_equal(cutout.mask_plane(name, band), plane)
            # The projection of the product sends the target to its place.
            place = cutout.wcs.all_world2pix(answer["ra"], answer["dec"], 0)
            np.testing.assert_allclose(place, (x - x0, y - y0), atol=1e-6)
            np.testing.assert_allclose(cutout.target_xy, (x - x0, y - y0), atol=1e-6)
            assert cutout.n_patches(band) == len(givers - {-1})
            seen["stitched" if len(givers - {-1}) > 1 else "of one patch"] += 1
            seen["over an edge" if -1 in givers else "whole"] += 1
    assert seen["whole"] > 300 and seen["over an edge"] > 20 and seen["no image"] > 20
    assert seen["stitched"] >= 3


def test_psf_is_that_of_the_cell(product: Path, coded_repo: SkyRepository) -> None:
    """Kernels as lsst.images gives them; missing cells have none."""
    butler = coded_repo.butler()
    coadds = {key: butler.get(ref) for key, ref in coded_repo.refs.items()}
    found = Counter()
    cutouts = open_cutouts(product)
    for row in range(len(cutouts)):
        cutout = cutouts[row]
        for band in cutouts.bands:
            coadd = coadds.get((cutout.tract, cutout.patch, band))
            kernel = cutout.psf(band)
            if coadd is None:
                assert np.isnan(kernel).all()
                continue
            with h5py.File(product / cutout.file) as file:
                x, y = file["catalog/x"][cutout.index], file["catalog/y"][cutout.index]
            own_x, own_y = int(np.floor(x + 0.5)), int(np.floor(y + 0.5))
            try:
                expected = coadd.psf.compute_kernel_image(x=own_x, y=own_y).array
            except BoundsError:
                assert np.isnan(kernel).all()
                found["missing"] += 1
                continue
            np.testing.assert_array_equal(kernel, expected.astype(np.float32))
            found["kernel"] += 1
    assert found["kernel"] > 300 and found["missing"] > 0


def test_every_row_of_the_catalog_is_answered_once(product: Path, coded_catalog: Path) -> None:
    catalog = pq.read_table(coded_catalog)
    status = pq.read_table(product / "status.parquet")
    assert status["row"].to_pylist() == list(range(len(catalog)))
    assert status["target_id"].to_pylist() == catalog["id"].to_pylist()
    assert status["weight"].to_pylist() == catalog["weight"].to_pylist()
    assert status.schema.field("weight").metadata[b"unit"] == b"mag"
    answers = Counter(status["status"].to_pylist())
    assert answers == read_manifest(product).counts
    assert answers["invalid_position"] == 2 and answers["outside_footprint"] >= 1
    # Every refused row says why, and no delivered one does.
    for row in status.to_pylist():
        assert (row["reason"] is None) == (row["status"] == "delivered")
        assert (row["file"] is None) == (row["status"] != "delivered")
    # Each delivered row is where the table says.
    for row in status.filter(np.equal(status["status"], "delivered")).to_pylist()[::17]:
        with h5py.File(product / row["file"]) as file:
            assert file["catalog/row"][row["index"]] == row["row"]


def test_carried_columns_come_through(product: Path, coded_catalog: Path) -> None:
    catalog = pq.read_table(coded_catalog).to_pylist()
    cutouts = open_cutouts(product)
    assert len(cutouts) > 200
    for n in range(0, len(cutouts), 13):
        cutout = cutouts[n]
        expected = catalog[cutout.row]
        assert {name: cutout.carried[name] for name in ("weight", "flag")} == {
            name: expected[name] for name in ("weight", "flag")
        }


def test_missing_band_and_hole_are_told_apart(product: Path) -> None:
    """A band without an image, and a cell without data in one that exists."""
    tract, patch, band = MISSING_IMAGE
    status = [row for row in pq.read_table(product / "status.parquet").to_pylist() if row["file"]]
    lacking = [row for row in status if (row["tract"], row["patch"]) == (tract, patch)]
    assert lacking and all(band not in row["bands"].split(",") for row in lacking)
    number = read_manifest(product).bands.index(band)
    with h5py.File(product / lacking[0]["file"]) as file:
        assert not file["images/band_present"][lacking[0]["index"], number]
    hole = [row for row in status if (row["tract"], row["patch"]) == MISSING_CELL[:2]]
    number = read_manifest(product).bands.index(MISSING_CELL[2])
    holed = 0
    for row in hole:
        with h5py.File(product / row["file"]) as file:
            assert file["images/band_present"][row["index"], number]
            holed += file["images/center_valid"][row["index"], number] == 0
    assert holed > 0


def test_masks_of_the_product_have_one_table(product: Path) -> None:
    """Though one patch has other bits, and a plane that the others lack."""
    tables = set()
    for path in product.glob("size=*/*"):
        with h5py.File(path) as file:
            planes = file["meta/mask_planes"]
            names = [name.decode() for name in planes["name"][:]]
            tables.add(tuple(zip(names, planes["bit"][:].tolist(), strict=True)))
    assert len(tables) == 1
    (table,) = tables
    assert {"NO_DATA", "VIGNETTED", "SATURATED"} <= {name for name, _ in table}


def test_verify_finds_nothing_wrong(product: Path) -> None:
    report = verify_product(product, sample=60)
    assert report.ok, str(report)


def test_files_are_split_by_rows_of_the_target_table(product: Path) -> None:
    """Never more than 50 rows, never two tracts in a file, unique names."""
    files = [file for file in read_manifest(product).files if file.tract is not None]
    assert len(files) >= 6 and max(file.rows for file in files) <= 50
    assert len({Path(file.path).name for file in files}) == len(files)


def test_another_run_gives_the_same_bytes(product: Path, coded_request: Path) -> None:
    """At another time, in another place, under another run name."""
    _, status = run_here(coded_request)
    assert status == COMPLETE
    assert digests(coded_request.parent / "out") == digests(product)


@pytest.mark.parametrize("place", ["before", "after_cutouts"])
def test_failed_quanta_and_restart(product: Path, coded_request: Path, place: str) -> None:
    """What is lost is said, and after a restart nothing tells of it."""
    out = coded_request.parent / "out"
    lost = [(3, 0), (8, 1)]
    campaign, status = run_here(coded_request, fail=lost, place=place)
    assert status == PARTIAL and read_status(campaign).state == "partial"
    answers = pq.read_table(out / "status.parquet").to_pylist()
    assert [row["row"] for row in answers] == list(range(len(answers)))
    unprocessed = [row for row in answers if row["status"] == "not_processed"]
    assert unprocessed and {(row["tract"], row["patch"]) for row in unprocessed} == set(lost)
    assert verify_product(out, sample=20).ok
    assert not read_manifest(out).complete
    _, status = run_here(coded_request)
    assert status == COMPLETE
    assert digests(out) == digests(product)
    assert verify_product(out, sample=20).ok


def test_cutouts_without_metadata_are_not_used(coded_request: Path) -> None:
    """A job that was killed between the two has left a file that nobody
    vouches for; and metadata alone is no result either.
    """
    campaign = init_and_run(coded_request, fail=[(3, 0)], place="after_cutouts")
    left = list(campaign.datastore.glob("**/*_bulk_cutouts/3/0/*.hdf5"))
    assert len(left) == 1
    (metadata,) = campaign.datastore.glob("**/*_metadata/3/1/*.json")
    (cutouts,) = campaign.datastore.glob("**/*_bulk_cutouts/3/1/*.hdf5")
    cutouts.unlink()
    assert metadata.exists()
    assert finish(campaign) == PARTIAL
    counts = Counter(
        (row["tract"], row["patch"])
        for row in pq.read_table(coded_request.parent / "out" / "status.parquet").to_pylist()
        if row["status"] == "not_processed"
    )
    assert set(counts) == {(3, 0), (3, 1)}


def test_nothing_is_done_twice(coded_request: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    campaign, _ = run_here(coded_request)
    out = coded_request.parent / "out"
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    assert finish(campaign) == COMPLETE
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before
    # A file that went bad is made again, and no other.
    bad, *others = sorted(out.glob("size=*/*"))
    digest = digests(out)
    with bad.open("r+b") as stream:
        stream.seek(5000)
        stream.write(b"\xff\xff\xff\xff")
    assert finish(campaign) == COMPLETE
    assert digests(out) == digest
    assert all(path.stat().st_mtime_ns == before[path] for path in others)


def test_disk_full_leaves_no_manifest(coded_request: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The third data file meets a full disk; a second finish completes."""
    from lsst.dax.bulkcutout.formats.hdf5 import HDF5Writer

    campaign = init_and_run(coded_request)
    written = []
    original = HDF5Writer._write_rows

    def write_rows(self: HDF5Writer, column: object, start: int, values: object) -> None:
        written.append(self._path)
        if len(set(written)) >= 3:
            raise OSError(28, "No space left on device")
        original(self, column, start, values)

    monkeypatch.setattr(HDF5Writer, "_write_rows", write_rows)
    assert finish(campaign) == TRY_AGAIN
    out = coded_request.parent / "out"
    assert not (out / "manifest.json").exists() and not (out / "SHA256SUMS").exists()
    assert "No space left" in read_status(campaign).message
    monkeypatch.undo()
    assert finish(campaign) == COMPLETE
    assert verify_product(out, sample=20).ok


def test_source_repository_is_not_written(
    tmp_path: Path, coded_repo: SkyRepository, coded_catalog: Path
) -> None:
    """Made read-only, and its whole tree compared before and after."""
    repository = tmp_path / "repo"
    shutil.copytree(coded_repo.root, repository)

    def tree() -> dict[str, tuple[int, str]]:
        return {
            path.relative_to(repository).as_posix(): (
                path.stat().st_mtime_ns,
                hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "",
            )
            for path in repository.rglob("*")
        }

    for path in [repository, *repository.rglob("*")]:
        path.chmod(path.stat().st_mode & ~(stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH))
    before = tree()
    try:
        request = write_request(tmp_path / "run", coded_repo, coded_catalog, butler=str(repository))
        _, status = run_here(request)
        assert status == COMPLETE
        assert tree() == before
    finally:
        for path in [repository, *repository.rglob("*")]:
            path.chmod(path.stat().st_mode | stat.S_IWUSR)


def test_one_size_a_directory(tmp_path: Path, coded_repo: SkyRepository, coded_catalog: Path) -> None:
    """Sizes from a column; a bad one costs its row alone."""
    table = pq.read_table(coded_catalog)
    sizes = [(16, 31, 48)[row % 3] for row in range(len(table))]
    sizes[5], sizes[6] = -3, None
    path = tmp_path / "sizes.parquet"
    pq.write_table(table.append_column("box", [sizes]), path)
    request = write_request(tmp_path, coded_repo, path, size={"column": "box"}, planes=["image", "psf"])
    _, status = run_here(request)
    assert status == COMPLETE
    out = tmp_path / "out"
    assert sorted(p.name for p in out.glob("size=*")) == ["size=16", "size=31", "size=48"]
    assert read_manifest(out).counts["invalid_size"] == 2
    for row in pq.read_table(out / "status.parquet").to_pylist():
        if row["file"]:
            with h5py.File(out / row["file"]) as file:
                side = (16, 31, 48)[row["row"] % 3]
                assert file["images/flux"].shape[1:] == (3, side, side)
                assert "mask" not in file["images"] and "variance" not in file["images"]
    assert verify_product(out, sample=40).ok


def test_output_of_another_campaign_is_in_the_way(
    product: Path, tmp_path: Path, coded_repo: SkyRepository, coded_catalog: Path
) -> None:
    request = write_request(tmp_path, coded_repo, coded_catalog, output=str(product))
    with pytest.raises(UserError, match=r"'output'.*holds the product of campaign .* Name another"):
        init_and_run(request)
    assert verify_product(product, sample=5).ok


def test_status_before_and_between(coded_request: Path) -> None:
    campaign = init_and_run(coded_request, fail=[(3, 0)])
    status = read_status(campaign)
    assert (status.state, status.quanta, status.done) == ("running", 4, 3)
    assert isinstance(campaign, Campaign) and os.path.isdir(status.output)
