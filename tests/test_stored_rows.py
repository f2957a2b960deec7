# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Rows of pixels that are moved from file to file without being decoded."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest

from lsst.dax.bulkcutout import stored_rows
from lsst.dax.bulkcutout.cutout_dataset import CutoutDataset
from lsst.dax.bulkcutout.cutout_dataset_writer import CutoutDatasetWriter
from lsst.dax.bulkcutout.errors import CorruptInputError
from lsst.dax.bulkcutout.stored_rows import FloatRows, runs, write_all
from lsst.dax.bulkcutout.tables import MaskPlane

PLANES = (MaskPlane("NO_DATA", 0, ""), MaskPlane("DETECTED", 5, ""))
N, SIZE = 7, 12


def make(path: Path, *, bands: str = "gr", precision: str = "exact") -> tuple[np.ndarray, np.ndarray]:
    """A cutout dataset whose last row, and third in r, is never written."""
    rng = np.random.default_rng(8)
    image = rng.normal(size=(N, len(bands), SIZE, SIZE)).astype("f4")
    mask = rng.integers(0, 2, image.shape, dtype="i4") << 5
    writer = CutoutDatasetWriter(
        path,
        tract=1,
        patch=2,
        bands=tuple(bands),
        mask_planes=PLANES,
        inputs=[""] * len(bands),
        backgrounds=[""] * len(bands),
        wcs=[None] * len(bands),
        precision=precision,
        extra_planes={"noise": ("0", "1")},
    )
    writer.add_size(SIZE, N, planes={"image": np.dtype("f4"), "mask": np.dtype("i4")}, psf_shape=(SIZE, SIZE))
    image[-1], mask[-1] = np.nan, 1
    image[2, 1:], mask[2, 1:] = np.nan, 1
    for band in range(len(bands)):
        for index in (np.array([0, 1, 4]), np.array([2, 5]), np.array([3])):
            some = index[index != 2] if band else index
            pixels = {"image": image[some, band], "mask": mask[some, band]}
            pixels |= {"noise/0": image[some, band], "noise/1": -image[some, band]}
            writer.write_cutouts(SIZE, some, pixels, band=band)
        writer.write(SIZE, "psf", slice(0, N), image[:, band], band=band)
    writer.write(SIZE, "row", slice(0, N), np.arange(N))
    writer.close()
    return image, mask


@pytest.mark.parametrize("bands", ["g", "gr"])
def test_what_is_written_past_hdf5_is_what_h5py_reads(tmp_path: Path, bands: str) -> None:
    image, mask = make(tmp_path / "a.hdf5", bands=bands)
    with h5py.File(tmp_path / "a.hdf5") as file:
        group = file[f"size={SIZE}"]
        np.testing.assert_array_equal(group["image"], image)
        np.testing.assert_array_equal(group["mask"], mask)
        np.testing.assert_array_equal(group["psf"], image)
        np.testing.assert_array_equal(group["noise"][:, :, 0], image)
        np.testing.assert_array_equal(group["noise"][:, :, 1], -image)
        assert group["columns"]["row"].tolist() == list(range(N))
        assert group["image"].chunks is None and group["mask"].chunks == (1, 1, SIZE, SIZE)


@pytest.fixture(params=["kernel", "no kernel", "kernel that copies nothing"])
def copying(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """File systems between which the kernel copies, and others."""

    def refuse(*_: object) -> int:
        if request.param == "no kernel":
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        return 0

    if request.param != "kernel":
        monkeypatch.setattr(os, "copy_file_range", refuse)
    yield


@pytest.mark.usefixtures("copying")
@pytest.mark.parametrize("rows", [[0, 1, 2, 3, 4, 5, 6], [1, 2, 5], [6], []])
def test_rows_are_copied_to_their_place(tmp_path: Path, rows: list[int]) -> None:
    image, mask = make(tmp_path / "a.hdf5")
    (tmp_path / "target").write_bytes(b"before")
    with CutoutDataset(tmp_path / "a.hdf5") as dataset, open(tmp_path / "target", "r+b") as target:
        found = dataset.rows(SIZE, "image", np.array(rows, dtype=int))
        assert isinstance(found, FloatRows) and len(found) == len(rows)
        np.testing.assert_array_equal(np.asarray(found), image[rows])
        found.copy_to(target.fileno(), 6)
        masks = dataset.rows(SIZE, "mask", np.array(rows, dtype=int))
        np.testing.assert_array_equal(np.asarray(masks), mask[rows])
    assert (tmp_path / "target").read_bytes() == b"before" + image[rows].tobytes()


def test_half_a_write_goes_on_and_a_full_disk_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system may write a part, and say only the next time why."""
    true_write, written = os.pwrite, 0

    def half(descriptor: int, view: memoryview, position: int) -> int:
        nonlocal written
        if written >= 60:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written += true_write(descriptor, view[:20], position)
        return min(20, len(view))

    monkeypatch.setattr(os, "pwrite", half)
    with open(tmp_path / "a", "w+b") as file:
        write_all(file.fileno(), memoryview(bytes(range(50))), 3)
        assert file.read() == bytes(3) + bytes(range(50))
        with pytest.raises(OSError, match="No space left"):
            write_all(file.fileno(), memoryview(bytes(50)), 0)


def test_cut_off_file_is_corrupt_not_a_hole(tmp_path: Path) -> None:
    make(tmp_path / "a.hdf5")
    with (
        CutoutDataset(tmp_path / "a.hdf5") as dataset,
        open(tmp_path / "target", "w+b") as target,
    ):
        floats, chunks = (dataset.rows(SIZE, name, np.arange(N)) for name in ("image", "mask"))
        os.truncate(tmp_path / "a.hdf5", 3000)
        with pytest.raises(CorruptInputError, match="ends before"):
            floats.copy_to(target.fileno(), 0)
        with pytest.raises(CorruptInputError, match="ends before"):
            np.asarray(floats)
        with pytest.raises(CorruptInputError, match="ends before"):
            list(chunks.streams())


def test_chunks_are_the_same_bytes_however_they_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One reading for all that lie together, or one for each."""
    make(tmp_path / "a.hdf5")
    found = []
    for span in (1 << 24, 0):
        monkeypatch.setattr(stored_rows, "_SPAN_BYTES", span)
        with CutoutDataset(tmp_path / "a.hdf5") as dataset:
            rows = dataset.rows(SIZE, "mask", np.array([0, 3, 6]))
            found.append([bytes(stream) for stream in rows.streams()])
    with h5py.File(tmp_path / "a.hdf5") as file:
        chunk = file[f"size={SIZE}/mask"].id.read_direct_chunk
        expected = [chunk((row, band, 0, 0))[1] for row in (0, 3, 6) for band in (0, 1)]
    assert found == [expected, expected]


def test_full_disk_in_the_middle_of_a_quantum_is_said(tmp_path: Path) -> None:
    """A limit on the size of files stands for a full disk; on the way out
    nothing hides the reason.
    """
    code = f"""
        import resource, sys
        from pathlib import Path
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        from test_stored_rows import make
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), resource.RLIM_INFINITY))
        try:
            make(Path({str(tmp_path)!r}) / "full.hdf5")
        except OSError as error:
            print("OSError", error.errno)
    """
    for limit in (4000, 12_000, 25_000):
        run = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(code), str(limit)],
            check=True,
            capture_output=True,
            text=True,
        )
        assert run.stdout.split() == ["OSError", str(errno.EFBIG)], run.stderr


def test_runs_are_found() -> None:
    assert list(runs(np.array([1, 2, 5, 7, 8, 9]))) == [(1, 2), (5, 1), (7, 3)]
    assert list(runs(np.array([], dtype=int))) == []
