# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from lsst.dax.bulkcutout.errors import CorruptInputError, InternalError, UserError
from lsst.dax.bulkcutout.manifest import (
    Manifest,
    ProductFile,
    describe_file,
    read_checksums,
    read_manifest,
    write_checksums,
    write_manifest,
)

# Of the three bytes "abc": FIPS 180-2, appendix B.1.
SHA256_OF_ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def make_manifest(**fields: Any) -> Manifest:
    values: dict[str, Any] = {
        "request_id": "m31",
        "request": {"size": 64},
        "bands": ("g", "r"),
        "rows": 5,
        "counts": {"delivered": 3, "no_dataset": 2},
        "complete": True,
        "files": (ProductFile(path="size=64/a.hdf5", sha256="0" * 64, bytes=7, rows=3, size=64, tract=5063),),
        "execution": {"run": "u/x/1"},
    }
    return Manifest(**(values | fields))


def test_manifest_reads_back_the_same(tmp_path: Path) -> None:
    manifest = make_manifest()
    write_manifest(tmp_path, manifest)
    assert read_manifest(tmp_path) == manifest


def test_manifest_is_the_only_file_that_writing_leaves(tmp_path: Path) -> None:
    write_manifest(tmp_path, make_manifest())
    assert [path.name for path in tmp_path.iterdir()] == ["manifest.json"]


@pytest.mark.parametrize(
    "fields",
    [
        {"rows": 6},
        {"counts": {"delivered": 7, "no_dataset": -2}},
        {"counts": {"delivered": 3, "lost": 2}},
        {"files": make_manifest().files * 2},
    ],
)
def test_manifest_that_does_not_add_up_is_not_written(tmp_path: Path, fields: dict[str, Any]) -> None:
    """Every row of the catalog is answered once, or we have made an error."""
    with pytest.raises(InternalError):
        write_manifest(tmp_path, make_manifest(**fields))
    assert not list(tmp_path.iterdir())


def test_empty_product_has_a_manifest(tmp_path: Path) -> None:
    write_manifest(tmp_path, make_manifest(rows=0, counts={}, files=()))
    assert read_manifest(tmp_path).files == ()


@pytest.mark.parametrize("path", ["/etc/x", "../x", "a/../../x", "a//b", "a\nb"])
def test_manifest_names_only_files_of_its_product(path: str) -> None:
    with pytest.raises(ValueError, match="inside the product"):
        ProductFile(path=path, sha256="0" * 64, bytes=0)


def test_directory_without_manifest_is_no_finished_product(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no manifest\.json"):
        read_manifest(tmp_path)
    with pytest.raises(UserError, match="no SHA256SUMS"):
        read_checksums(tmp_path)


def test_manifest_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(json.dumps({"schema_version": 3}))
    with pytest.raises(UserError, match="newer version"):
        read_manifest(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"schema_version": 1, "rows": "many"}', "\ud800"])
def test_damaged_manifest_is_called_so(tmp_path: Path, text: str) -> None:
    (tmp_path / "manifest.json").write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(CorruptInputError, match=r"manifest\.json is damaged"):
        read_manifest(tmp_path)


def make_files(directory: Path) -> list[ProductFile]:
    (directory / "size=64").mkdir()
    (directory / "size=64" / "b.hdf5").write_bytes(b"abc")
    (directory / "README.md").write_bytes(b"")
    return [
        describe_file(directory, "size=64/b.hdf5", rows=1, size=64, tract=2),
        describe_file(directory, "README.md"),
    ]


def test_file_is_described_by_checksum_and_length(tmp_path: Path) -> None:
    hdf5, readme = make_files(tmp_path)
    assert (hdf5.sha256, hdf5.bytes, hdf5.rows, hdf5.tract) == (SHA256_OF_ABC, 3, 1, 2)
    assert (readme.bytes, readme.rows, readme.size) == (0, None, None)


def test_checksums_are_sorted_and_read_back(tmp_path: Path) -> None:
    write_checksums(tmp_path, make_files(tmp_path))
    checksums = read_checksums(tmp_path)
    assert list(checksums) == ["README.md", "size=64/b.hdf5"]
    assert checksums["size=64/b.hdf5"] == SHA256_OF_ABC


def test_checksums_are_what_sha256sum_checks(tmp_path: Path) -> None:
    program = shutil.which("sha256sum")
    if program is None:
        pytest.skip("sha256sum is not installed")
    write_checksums(tmp_path, make_files(tmp_path))
    command = [program, "--strict", "-c", "SHA256SUMS"]
    assert subprocess.run(command, cwd=tmp_path, capture_output=True).returncode == 0
    (tmp_path / "README.md").write_text("changed")
    assert subprocess.run(command, cwd=tmp_path, capture_output=True).returncode == 1


def test_damaged_checksums_are_called_so(tmp_path: Path) -> None:
    (tmp_path / "SHA256SUMS").write_text(f"{'0' * 64}  a\nxyz\n")
    with pytest.raises(CorruptInputError, match="line 2"):
        read_checksums(tmp_path)
