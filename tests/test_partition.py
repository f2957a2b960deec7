# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Files by tract, patch and HEALPix: each row in the file where it belongs."""

from __future__ import annotations

import hashlib
import re
import shutil
from pathlib import Path
from typing import Any
from unittest import mock

import astropy.units as u
import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy_healpix import HEALPix
from hypothesis import given, settings
from hypothesis import strategies as st

from lsst.dax.bulkcutout import cutout_dataset, open_cutouts, target_table
from lsst.dax.bulkcutout.campaign import Campaign
from lsst.dax.bulkcutout.cutout_dataset_writer import CutoutDatasetWriter
from lsst.dax.bulkcutout.errors import UserError
from lsst.dax.bulkcutout.finish import COMPLETE, PARTIAL, finish
from lsst.dax.bulkcutout.manifest import read_manifest
from lsst.dax.bulkcutout.preview import write_preview
from lsst.dax.bulkcutout.repackage import product_files
from lsst.dax.bulkcutout.repackage.product_files import ProductFiles, healpix_directory
from lsst.dax.bulkcutout.request import load_request
from lsst.dax.bulkcutout.tables import MaskPlane
from lsst.dax.bulkcutout.tests import SkyRepository
from lsst.dax.bulkcutout.tests.campaigns import run_here, write_request
from lsst.dax.bulkcutout.top_up import top_up
from lsst.dax.bulkcutout.verify.product import verify_product
from lsst.dax.bulkcutout.wcs import TangentWcs

LOST = (8, 1)
"""The quantum that fails at first."""

PARTITIONS: list[dict[str, Any]] = [
    {"by": "patch", "max_rows_per_file": 11},
    {"by": "healpix"},
    # Pixels of 26 arcsec: a patch has some, and some have several patches.
    {"by": "healpix", "order": 13, "max_rows_per_file": 9},
]
PIXELS = ("images/flux", "images/mask", "images/psf", "images/band_status", "wcs/crpix", "carried/weight")


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory, coded_catalog: Path) -> Path:
    """Rows of two sizes."""
    table = pq.read_table(coded_catalog)
    path = tmp_path_factory.mktemp("sizes") / "catalog.parquet"
    pq.write_table(table.append_column("size", pa.array(np.arange(len(table)) % 3 // 2 * 9 + 15)), path)
    return path


def write_it(directory: Path, repo: SkyRepository, catalog: Path, partition: dict[str, Any]) -> Path:
    return write_request(
        directory,
        repo,
        catalog,
        catalog={"uri": str(catalog), "carry": ["weight"]},
        size={"column": "size"},
        planes=["image", "mask", "psf"],
        partition=partition,
    )


@pytest.fixture(scope="module")
def lossy(tmp_path_factory: pytest.TempPathFactory, coded_repo: SkyRepository, catalog: Path) -> Path:
    """A campaign by tract that has lost a quantum."""
    directory = tmp_path_factory.mktemp("lossy")
    _, status = run_here(write_it(directory, coded_repo, catalog, {}), fail=[LOST])
    assert status == PARTIAL
    return directory


def digests(out: Path) -> dict[str, str]:
    files = sorted(out.glob("size=*/**/*.hdf5"))
    return {path.relative_to(out).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def rows_of(out: Path) -> dict[int, dict[str, np.ndarray]]:
    """What a product has for each row of the catalog."""
    found = {}
    for path in out.glob("size=*/**/*.hdf5"):
        with h5py.File(path) as file:
            columns = {name: file[name][()] for name in PIXELS}
            for index, row in enumerate(file["catalog/row"][()].tolist()):
                found[row] = {name: values[index] for name, values in columns.items()}
    return found


def expected_name(answer: dict[str, Any], partition: dict[str, Any]) -> str:
    """Name of a row's file, without its number; HEALPix by astropy."""
    size = f"size={answer['size_pixels']}"
    by_tract = f"{size}/cutouts_size{answer['size_pixels']}_tract{answer['tract']}"
    if partition["by"] == "tract":
        return by_tract
    if partition["by"] == "patch":
        return f"{by_tract}_patch{answer['patch']}"
    order = partition.get("order", 4)
    pixel = astropy_pixel(answer["ra"], answer["dec"], order)
    return f"{size}/healpix={str(int(pixel)).zfill({4: 4, 13: 9, 14: 10, 29: 19}[order])}/part"


def astropy_pixel(ra: Any, dec: Any, order: int) -> np.ndarray:
    return np.asarray(HEALPix(nside=2**order, order="nested").lonlat_to_healpix(ra * u.deg, dec * u.deg))


def check(out: Path, partition: dict[str, Any], *, lost: bool) -> None:
    answers = pq.read_table(out / "status.parquet").to_pylist()
    delivered = [answer for answer in answers if answer["status"] == "delivered"]
    assert {answer["size_pixels"] for answer in delivered} == {15, 24}
    assert lost == any(answer["status"] == "not_processed" for answer in answers)
    files = {file.path: file for file in read_manifest(out).files if file.size is not None}
    for answer in delivered:
        name, _, number = answer["file"].removesuffix(".hdf5").rpartition("_" if by_tract(partition) else "-")
        assert name == expected_name(answer, partition) and re.fullmatch(r"\d{4}", number)
    by_row = {answer["row"]: answer for answer in answers}
    order = partition.get("order", 4)
    n_rows = 0
    for path, entry in files.items():
        with h5py.File(out / path) as file:
            rows, tracts, patches, ra, dec, pixels = (
                file[f"catalog/{name}"][()] for name in ("row", "tract", "patch", "ra", "dec", "healpix")
            )
            n_rows += len(rows)
            assert entry.rows == len(rows) <= partition.get("max_rows_per_file", 10**9)
            assert [by_row[row]["file"] for row in rows.tolist()] == [path] * len(rows)
            assert [by_row[row]["index"] for row in rows.tolist()] == list(range(len(rows)))
            assert np.array_equal(np.lexsort([rows, patches, tracts]), np.arange(len(rows)))
            assert file["meta/healpix_nside_catalog"][()] == 2**order
            assert file["meta/healpix_ordering"].asstr()[()] == "nested"
            assert np.array_equal(pixels, astropy_pixel(ra, dec, order))
            assert {entry.healpix} == (set(pixels.tolist()) if partition["by"] == "healpix" else {None})
            assert entry.tract == (tracts[0] if by_tract(partition) else None)
            provenance = np.stack([file["provenance/tract"], file["provenance/patch"]], axis=1)
            assert np.array_equal(provenance, np.unique(np.stack([tracts, patches], axis=1), axis=0))
    assert n_rows == len(delivered)


def check_wrong_pixels_are_found(out: Path) -> None:
    path = sorted(digests(out))[0]
    whole = (out / path).read_bytes()
    with h5py.File(out / path, "r+") as file:
        file["catalog/healpix"][0] += 1
        row = file["catalog/row"][0]
    found = [each for each in verify_product(out, sample=0).problems if each.dataset == "catalog/healpix"]
    assert [(each.file, each.row) for each in found] == [(path, row)]
    (out / path).write_bytes(whole)


def by_tract(partition: dict[str, Any]) -> bool:
    return partition["by"] in ("tract", "patch")


def test_files_by_tract(lossy: Path) -> None:
    """What the other partitions are compared with."""
    check(lossy / "out", {"by": "tract"}, lost=True)
    assert verify_product(lossy / "out", sample=100).ok


@pytest.mark.parametrize("partition", PARTITIONS, ids=lambda p: "-".join(map(str, p.values())))
def test_every_row_is_in_its_file_with_the_pixels_that_it_has_by_tract(
    tmp_path: Path, lossy: Path, coded_repo: SkyRepository, catalog: Path, partition: dict[str, Any]
) -> None:
    """First without a quantum, then with it; the files are those that would
    have been made at once.
    """
    shutil.copytree(lossy / "campaign", tmp_path / "campaign")
    request = write_it(tmp_path, coded_repo, catalog, partition)
    campaign = Campaign(tmp_path / "campaign")
    out = tmp_path / "out"
    # The copy writes elsewhere.
    text = campaign.request.read_text()
    campaign.request.write_text(text.replace(str(lossy / "out"), str(out)))
    assert top_up(campaign, request) == 1
    assert finish(campaign) == PARTIAL
    check(out, partition, lost=True)
    by_row, expected = rows_of(out), rows_of(lossy / "out")
    assert by_row.keys() == expected.keys()
    for row, values in by_row.items():
        for name in PIXELS:
            np.testing.assert_array_equal(values[name], expected[row][name], err_msg=f"row {row}, {name}")
    assert verify_product(out, sample=30).ok
    with open_cutouts(out) as cutouts:
        assert len(cutouts) == len(by_row)
        for row in list(by_row)[::17]:
            np.testing.assert_array_equal(cutouts.by_row(row).image("r"), by_row[row]["images/flux"][1])
    assert write_preview(out).exists()
    if partition["by"] == "healpix":
        check_wrong_pixels_are_found(out)
    before = {path: (out / path).stat().st_mtime_ns for path in digests(out)}
    _, status = run_here(request)
    assert status == COMPLETE
    check(out, partition, lost=False)
    assert verify_product(out, sample=10).ok
    # Files that have nothing of the lost patch were left alone.
    with_lost = set()
    for path in digests(out):
        with h5py.File(out / path) as file:
            if LOST in zip(file["provenance/tract"][()], file["provenance/patch"][()], strict=True):
                with_lost.add(path)
    assert with_lost
    for path, time in before.items():
        assert ((out / path).stat().st_mtime_ns != time) == (path in with_lost)
    undisturbed = write_it(tmp_path / "calm", coded_repo, catalog, partition)
    shutil.copytree(tmp_path / "campaign", tmp_path / "calm" / "campaign")
    calm = Campaign(tmp_path / "calm" / "campaign")
    calm.request.write_text(calm.request.read_text().replace(str(out), str(tmp_path / "calm" / "out")))
    assert top_up(calm, undisturbed) == 0 and finish(calm) == COMPLETE
    assert digests(tmp_path / "calm" / "out") == digests(out)


def test_patches_in_several_row_groups_are_gathered_as_others(
    tmp_path: Path, lossy: Path, coded_repo: SkyRepository, catalog: Path
) -> None:
    """A patch of millions of targets is never in memory as a whole."""
    with mock.patch.object(target_table, "ROW_GROUP_ROWS", 7):
        _, status = run_here(write_it(tmp_path, coded_repo, catalog, {"by": "healpix", "order": 14}))
    assert status == COMPLETE
    check(tmp_path / "out", {"by": "healpix", "order": 14}, lost=False)
    found, expected = rows_of(tmp_path / "out"), rows_of(lossy / "out")
    assert found.keys() > expected.keys()
    for row, values in expected.items():
        for name in PIXELS:
            np.testing.assert_array_equal(values[name], found[row][name])


def test_too_many_pixels_are_refused_with_an_order_that_will_do(lossy: Path) -> None:
    campaign = Campaign(lossy / "campaign")
    request, plan = load_request(lossy / "request.json"), campaign.read_plan()
    partition = request.partition.model_copy(update={"by": "healpix", "order": 29})
    with mock.patch.object(product_files, "MAX_FILES", 25):
        with pytest.raises(UserError, match=r"partition\.order.*order 29 more than 25.*Order \d+") as refusal:
            ProductFiles(request.model_copy(update={"partition": partition}), plan, campaign)
        order = int(re.search(r"Order (\d+)", str(refusal.value))[1])
        partition = partition.model_copy(update={"order": order})
        files = ProductFiles(request.model_copy(update={"partition": partition}), plan, campaign)
        targets = pa.concat_tables(pq.read_table(path) for path in campaign.targets.glob("*.parquet"))
        used = {
            at: len(
                set(
                    zip(
                        targets["size_pixels"].to_pylist(),
                        astropy_pixel(targets["ra"].to_numpy(), targets["dec"].to_numpy(), at).tolist(),
                        strict=True,
                    )
                )
            )
            for at in (order, order + 1)
        }
        assert len(files) == len(list(files)) == used[order] <= 25 < used[order + 1]


def test_too_small_files_are_refused(lossy: Path) -> None:
    campaign = Campaign(lossy / "campaign")
    request, plan = load_request(lossy / "request.json"), campaign.read_plan()
    partition = request.partition.model_copy(update={"max_rows_per_file": 1})
    with (
        mock.patch.object(product_files, "MAX_FILES", 25),
        pytest.raises(UserError, match=r"'partition': \d+ data files.*Raise max_rows_per_file \(1\)"),
    ):
        ProductFiles(request.model_copy(update={"partition": partition}), plan, campaign)


def test_directories_of_pixels_sort_as_numbers() -> None:
    """As in DMTN-326: four digits, and more where numbers have more."""
    assert healpix_directory(7, 0) == "healpix=0007"
    assert healpix_directory(3071, 4) == "healpix=3071"
    assert healpix_directory(5, 6) == "healpix=00005"
    assert healpix_directory(12 * 4**29 - 1, 29) == "healpix=3458764513820540927"


@settings(max_examples=60, deadline=None)
@given(
    chosen=st.sets(st.integers(0, 79), max_size=80),
    gap=st.integers(0, 400),
    window=st.integers(1, 900),
)
def test_scattered_targets_are_read_as_numpy_would(
    tmp_path_factory: pytest.TempPathFactory, chosen: set[int], gap: int, window: int
) -> None:
    """Whatever is read together: planes that lie as they are, and masks."""
    path = tmp_path_factory.getbasetemp() / "scattered.hdf5"
    image = np.arange(80 * 2 * 3 * 3, dtype="f4").reshape(80, 2, 3, 3)
    mask = (np.arange(80 * 2 * 3 * 3) % 11).astype("i4").reshape(80, 2, 3, 3)
    if not path.exists():
        writer = CutoutDatasetWriter(
            path,
            tract=1,
            patch=2,
            bands=("g", "r"),
            mask_planes=[MaskPlane("NO_DATA", 0)],
            inputs=("", ""),
            backgrounds=("", ""),
            wcs=[TangentWcs((10.0, 2.0), (0.0, 0.0), ((1e-4, 0.0), (0.0, 1e-4)))] * 2,
        )
        writer.add_size(3, 80, planes={"image": np.dtype("f4"), "mask": np.dtype("i4")}, psf_shape=None)
        for band in range(2):
            writer.write(3, "image", slice(0, 80), image[:, band], band=band)
            writer.write(3, "mask", slice(0, 80), mask[:, band], band=band)
        writer.close()
    index = np.array(sorted(chosen), dtype=np.int64)
    with (
        mock.patch.object(cutout_dataset, "GAP_BYTES", gap),
        mock.patch.object(cutout_dataset, "WINDOW_BYTES", window),
        cutout_dataset.CutoutDataset(path) as dataset,
    ):
        np.testing.assert_array_equal(dataset.read(3, "image", index), image[index])
        np.testing.assert_array_equal(dataset.read(3, "mask", index), mask[index])
