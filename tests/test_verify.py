# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Faults of a product, each put in on purpose, and found."""

from __future__ import annotations

import ast
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import astropy.io.fits
import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lsst.dax.bulkcutout.errors import UserError
from lsst.dax.bulkcutout.manifest import read_manifest, write_manifest
from lsst.dax.bulkcutout.tests.products import SmallProduct, seal
from lsst.dax.bulkcutout.verify import input_hdus, pixel_check, pixel_extras, pixel_inputs
from lsst.dax.bulkcutout.verify.product import VerifyReport, verify_product

NAME = "size=16/cutouts_size16_tract7_0000.hdf5"


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> SmallProduct:
    return SmallProduct(tmp_path_factory.mktemp("product")).make()


@pytest.fixture
def out(pristine: SmallProduct, tmp_path: Path) -> Path:
    return Path(shutil.copytree(pristine.out, tmp_path / "out"))


def checks(report: VerifyReport) -> set[str]:
    return {problem.check for problem in report.problems}


def change_file(out: Path, change: Callable[[h5py.File], Any]) -> VerifyReport:
    """Verify after a change that all checksums know of."""
    with h5py.File(out / NAME, "r+") as file:
        change(file)
    seal(out, read_manifest(out))
    return verify_product(out)


def change_status(out: Path, change: Callable[[dict[str, list[Any]]], Any]) -> VerifyReport:
    """Verify after a change of status.parquet that all checksums know of."""
    table = pq.read_table(out / "status.parquet")
    columns = table.to_pydict()
    change(columns)
    pq.write_table(pa.Table.from_pydict(columns, table.schema), out / "status.parquet")
    seal(out, read_manifest(out))
    return verify_product(out, sample=0)


def swap(values: Any, first: int, second: int) -> None:
    values[first], values[second] = values[second], values[first]


@pytest.mark.parametrize(
    "variant",
    [
        {},
        {"sizes": (9, 16), "text_ids": True},
        {"planes": ("image",)},
        {"planes": ("mask", "psf")},
        {"planes": ("image", "noise", "mask_fraction")},
        {"empty": True},
        {"bands": ("r",)},
    ],
)
def test_right_product_passes(tmp_path: Path, variant: dict[str, Any]) -> None:
    report = verify_product(SmallProduct(tmp_path, **variant).make().out)
    assert report.ok, str(report)
    assert [name for name, _ in report.checked] == ["checksums", "rows", "pixels"]
    assert "All is well" in str(report)


def test_report_says_how_much_was_compared(pristine: SmallProduct) -> None:
    """Seven cutouts, four of them in patch 4, which has no image in i."""
    report = verify_product(pristine.out)
    assert dict(report.checked)["pixels"].startswith(f"7 cutouts, {(4 * 3 + 3 * 2) * 3 * 256} pixels")
    assert dict(report.checked)["rows"] == "9 rows, 7 delivered, 2 refused"
    assert dict(verify_product(pristine.out, sample=3).checked)["pixels"].startswith("3 cutouts")


@pytest.mark.parametrize("name", [NAME, "status.parquet"])
@pytest.mark.parametrize("part", [0.0, 0.01, 0.2, 0.5, 0.9, 0.9999])
def test_flipped_bit_is_found_wherever_it_is(out: Path, name: str, part: float) -> None:
    contents = bytearray((out / name).read_bytes())
    contents[int(part * len(contents))] ^= 4
    (out / name).write_bytes(contents)
    report = verify_product(out, sample=0)
    assert not report.ok
    assert any(problem.check == "checksums" and problem.file == name for problem in report.problems)
    assert name in str(report)


def test_truncated_file_is_found_and_the_rest_is_checked(tmp_path: Path) -> None:
    out = SmallProduct(tmp_path, sizes=(9, 16)).make().out
    os.truncate(out / NAME, 3000)
    report = verify_product(out)
    assert checks(report) == {"checksums", "rows"}
    assert {problem.file for problem in report.problems} == {NAME}
    assert dict(report.checked)["pixels"].startswith("4 cutouts")


def test_missing_and_extra_files_are_found(out: Path) -> None:
    (out / NAME).unlink()
    (out / "size=16" / "mine.txt").write_text("?")
    (out / "preview.png").write_text("made later")
    messages = [str(problem) for problem in verify_product(out).problems if problem.check == "checksums"]
    assert messages == [f"{NAME}: the file is missing", "size=16/mine.txt: does not belong to the product"]


def test_checksum_file_is_compared_with_the_manifest(out: Path) -> None:
    sums = (out / "SHA256SUMS").read_text()
    (out / "SHA256SUMS").write_text(sums.replace(sums[:8], "0" * 8, 1) + f"{'1' * 64}  other\n")
    messages = [str(problem) for problem in verify_product(out).problems]
    assert messages == [
        f"{NAME}: SHA256SUMS and the manifest differ",
        "other: is in SHA256SUMS, not in the manifest",
    ]
    (out / "SHA256SUMS").unlink()
    assert "SHA256SUMS" in str(verify_product(out))


def test_directory_without_manifest_is_no_product(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no product, or one that was not finished"):
        verify_product(tmp_path)


def test_broken_manifest_is_a_fault(out: Path) -> None:
    (out / "manifest.json").write_text("{")
    assert "manifest.json" in str(verify_product(out))


def test_swapped_rows_are_found(out: Path) -> None:
    """Two whole records change places, and all checksums are made anew."""

    def change(file: h5py.File) -> None:
        for group in ("catalog", "images", "wcs", "carried", "carried_null"):
            for dataset in file[group].values():
                values = dataset[...]
                values[[1, 2]] = values[[2, 1]]
                dataset[...] = values

    report = change_file(out, change)
    assert checks(report) == {"rows"}
    problem = next(problem for problem in report.problems if problem.dataset == "catalog/row")
    assert (problem.file, problem.row) == (NAME, 1)
    assert "row 1 of the file has 5, status.parquet says 1" in problem.message
    assert any("not in the order" in problem.message for problem in report.problems)


@pytest.mark.parametrize("column", ["row", "object_id", "ra", "dec", "patch", "fallback"])
def test_swapped_values_of_a_column_are_found(out: Path, column: str) -> None:
    def change(file: h5py.File) -> None:
        values = file[f"catalog/{column}"][...]
        swap(values, 1, 5)
        file[f"catalog/{column}"][...] = values

    report = change_file(out, change)
    assert any(
        problem.check == "rows" and problem.dataset == f"catalog/{column}" for problem in report.problems
    )


def test_status_that_names_other_rows_is_found(out: Path) -> None:
    report = change_status(out, lambda columns: swap(columns["index"], 0, 6))
    assert "rows" in checks(report)
    assert any(problem.dataset == "catalog/row" for problem in report.problems)


def test_row_that_is_answered_twice_is_found(out: Path) -> None:
    def change(columns: dict[str, list[Any]]) -> None:
        columns["row"][4] = 3

    report = change_status(out, change)
    assert any(problem.message.startswith("rows are not numbered one by one") for problem in report.problems)


def test_lost_row_is_found(out: Path) -> None:
    def change(columns: dict[str, list[Any]]) -> None:
        for values in columns.values():
            del values[-1]

    messages = str(change_status(out, change))
    assert "has 8 rows, the catalog 9" in messages
    assert "6 rows are delivered, the manifest says 7" in messages
    assert "has 7 rows, status.parquet says 6" in messages


@pytest.mark.parametrize(
    ("column", "row", "value", "message"),
    [
        ("status", 2, "lost", "unknown status"),
        ("status", 2, "no_data", "2 rows are outside_footprint|1 rows are no_data, the manifest says 0"),
        ("reason", 2, None, "refused without a reason"),
        ("file", 0, None, "delivered, but in no file"),
        ("file", 2, NAME, "refused, but in a file"),
        ("file", 0, "size=16/other.hdf5", "names it, the manifest does not"),
        ("index", 0, 77, "does not name each of its rows once"),
        ("size_pixels", 0, 17, "other sizes than 16 px"),
        ("bands", 3, "g,r,i", "has data in g,r, status.parquet says g,r,i"),
    ],
)
def test_wrong_answer_is_found(out: Path, column: str, row: int, value: Any, message: str) -> None:
    def change(columns: dict[str, list[Any]]) -> None:
        columns[column][row] = value

    report = change_status(out, change)
    assert any(part in str(report) for part in message.split("|")), str(report)


def test_counts_of_the_manifest_are_compared(out: Path) -> None:
    manifest = read_manifest(out)
    write_manifest(
        out, manifest.model_copy(update={"rows": 10, "counts": {"delivered": 8, "outside_footprint": 2}})
    )
    messages = str(verify_product(out))
    assert "has 9 rows, the catalog 10" in messages
    assert "7 rows are delivered, the manifest says 8" in messages


@pytest.mark.parametrize("name", ["flux", "variance"])
@pytest.mark.parametrize("value", [0.0, np.nan])
def test_changed_pixel_is_found(out: Path, name: str, value: float) -> None:
    """Checksums made anew do not hide it; the finding names the place."""

    def change(file: h5py.File) -> None:
        file[f"images/{name}"][0, 1, 4, 7] = value

    report = change_file(out, change)
    assert checks(report) == {"pixels"}
    (problem,) = report.problems
    assert (problem.file, problem.dataset, problem.row) == (NAME, f"images/{name} in r", 0)
    assert "differs in 1 pixels, first [4, 7]" in problem.message


def test_smallest_change_of_a_pixel_is_found(out: Path) -> None:
    def change(file: h5py.File) -> None:
        file["images/flux"][0, 0, 0, 0] = np.nextafter(file["images/flux"][0, 0, 0, 0], np.float32(np.inf))

    assert "images/flux in g" in str(change_file(out, change))


def test_number_where_no_image_reaches_is_found(out: Path) -> None:
    """Catalog row 1 leaves its patch at the lower left."""

    def change(file: h5py.File) -> None:
        assert np.isnan(file["images/flux"][1, 0, 0, 0])
        file["images/flux"][1, 0, 0, 0] = 0.0

    assert "first [0, 0]: 0.0, in the input nan" in str(change_file(out, change))


def test_changed_mask_bit_is_found_by_its_name(out: Path) -> None:
    def change(file: h5py.File) -> None:
        file["images/mask"][2, 0, 5, 5] ^= 1 << 3

    report = change_file(out, change)
    (problem,) = report.problems
    assert (problem.dataset, problem.row) == ("images/mask in g", 5)
    assert problem.message.startswith("plane SATURATED differs in 1 pixels")


def test_masks_are_compared_by_name_not_by_bit(out: Path) -> None:
    """The same planes at other bits are right."""

    def change(file: h5py.File) -> None:
        mask = file["images/mask"][...]
        new = np.zeros_like(mask)
        for old, bit in {0: 20, 2: 1, 3: 0, 7: 2}.items():
            new |= ((mask >> old) & 1) << bit
        file["images/mask"][...] = new
        file["meta/mask_planes/bit"][...] = [20, 1, 0, 2]

    assert change_file(out, change).ok

    def exchange_names(file: h5py.File) -> None:
        file["meta/mask_planes/bit"][...] = [20, 0, 1, 2]

    assert "plane COSMIC_RAY" in str(change_file(out, exchange_names))


def test_pixels_where_there_is_no_image_are_found(out: Path) -> None:
    """Patch 4 has none in i."""

    def change(file: h5py.File) -> None:
        file["images/flux"][5, 2, 0, 0] = 1.0
        file["images/mask"][6, 2, 0, 0] = 4

    messages = str(change_file(out, change))
    assert "images/flux in i, row 4: has pixels, though there is no input image" in messages
    assert "images/mask in i, row 8: is wrong in NO_DATA" in messages


def test_box_that_breaks_the_rule_is_found(out: Path) -> None:
    """Everything in the file agrees, but the box is one pixel off."""

    def change(file: h5py.File) -> None:
        for name in ("flux", "variance", "mask"):
            pixels = file[f"images/{name}"][0]
            file[f"images/{name}"][0] = np.roll(pixels, 1, axis=2)
        file["catalog/x_cutout"][0] += 1
        file["wcs/crpix"][0, 0] += 1

    messages = str(change_file(out, change))
    assert "x_cutout and y_cutout in g, row 0: say that the first pixel is" in messages


@pytest.mark.parametrize(
    ("path", "index", "by", "message"),
    [
        ("wcs/crpix", (0, 1), 2e-6, "sends the target to"),
        ("wcs/cd", (0, 0, 1), 1e-9, "differs from the input image's"),
        ("catalog/x", (0,), 1e-5, "by the input image"),
        ("catalog/y_cutout", (0,), 1e-5, "sends the target to"),
    ],
)
def test_projection_is_right_to_a_millionth_of_a_pixel(
    out: Path, path: str, index: tuple[int, ...], by: float, message: str
) -> None:
    def change(file: h5py.File) -> None:
        file[path][index] = file[path][index] + by

    assert message in str(change_file(out, change))


def test_band_that_could_not_be_read_is_not_compared(out: Path) -> None:
    def change(file: h5py.File) -> None:
        file["images/band_status"][0, 2] = 3
        file["images/flux"][0, 2] = np.nan

    report = change_file(out, change)
    assert checks(report) == {"rows"}
    assert "status.parquet says g,r,i" in str(report)


def test_absent_input_images_are_said(tmp_path: Path) -> None:
    """Without them a pixel check that passes would be a lie."""
    product = SmallProduct(tmp_path).make()
    gone = product.images[3, "g"]
    gone.path.unlink()
    report = verify_product(product.out)
    (problem,) = report.problems
    assert (problem.check, problem.dataset) == ("pixels", str(gone.path))
    assert "cannot be compared" in problem.message
    assert verify_product(product.out, sample=0).ok
    manifest = read_manifest(product.out)
    write_manifest(product.out, manifest.model_copy(update={"execution": {"inputs": {}}}))
    assert gone.uuid in str(verify_product(product.out))
    write_manifest(product.out, manifest.model_copy(update={"execution": {}}))
    assert "does not say where the input images are" in str(verify_product(product.out))


def test_wrong_input_image_is_found(tmp_path: Path) -> None:
    """The manifest leads to the image of the other patch."""
    product = SmallProduct(tmp_path).make()
    shutil.copy(product.images[4, "g"].path, product.images[3, "g"].path)
    report = verify_product(product.out)
    assert checks(report) == {"pixels"}
    assert "images/flux in g" in str(report)


def test_old_mask_cards_are_known() -> None:
    header = astropy.io.fits.Header({"MP_SAT": 1, "HIERARCH MP_NO_DATA": 8, "MSKN0002": "CR", "MSKM0002": 4})
    assert input_hdus.mask_values(header) == {"SAT": 2, "NO_DATA": 256, "CR": 4}


def test_long_reports_are_cut(out: Path) -> None:
    def change(file: h5py.File) -> None:
        file["images/flux"][...] = 0.0
        file["images/variance"][...] = 0.0

    report = change_file(out, change)
    assert len(report.problems) == 2 * (4 * 3 + 3 * 3)
    assert "and 22 more" in str(report)


@pytest.mark.parametrize("place", [("noise", 0, 1), ("noise", 5, 2), ("mask_fraction", 3, 0)])
def test_wrong_noise_and_mask_fractions_are_found(tmp_path: Path, place: tuple[str, int, int]) -> None:
    """The first band has one realization less than the others."""
    kind, number, band = place
    out = SmallProduct(tmp_path, planes=("image", "noise", "mask_fraction")).make().out
    report = change_file(out, lambda file: file[f"images/{kind}"].__setitem__((2, band, number, 7, 5), 0.25))
    (problem,) = report.problems
    name = ("clipped", "odd", "rejected", "spotty")[number] if kind == "mask_fraction" else number
    assert problem.dataset == f"images/{kind}/{name} in {'gri'[band]}"
    assert "differs in 1 pixels, first [7, 5]: 0.25" in problem.message


def test_noise_that_the_image_does_not_have_is_found(tmp_path: Path) -> None:
    out = SmallProduct(tmp_path, planes=("image", "noise")).make().out
    report = change_file(out, lambda file: file["images/noise"].__setitem__((0, 0, 5), 1.0))
    assert [problem.dataset for problem in report.problems] == ["images/noise/5 in g"]


def test_pixel_check_is_a_second_opinion() -> None:
    """It and its helpers import nothing else of ours, anywhere."""
    names, helpers = set(), ("input_hdus", "pixel_inputs", "pixel_extras")
    for module in (pixel_check, pixel_inputs, pixel_extras, input_hdus):
        for node in ast.walk(ast.parse(Path(module.__file__).read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module not in helpers:
                assert node.level == 0 and not str(node.module).startswith("lsst.dax")
                names.add(str(node.module).split(".")[0])
    assert names <= {
        "__future__", "astropy", "collections", "contextlib", "dataclasses", "h5py", "json", "lsst", "math",
        "numpy", "typing", "warnings",
    }  # fmt: skip
