# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""The file between a quantum and the product."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from lsst.dax.bulkcutout.cutout_dataset import CutoutDataset
from lsst.dax.bulkcutout.cutout_dataset_writer import CutoutDatasetWriter
from lsst.dax.bulkcutout.errors import CorruptInputError
from lsst.dax.bulkcutout.tables import MaskPlane
from lsst.dax.bulkcutout.wcs import TangentWcs

PLANES = (MaskPlane("CLIPPED", 0, "clipped"), MaskPlane("NO_DATA", 5, ""))


def write(path: Path) -> None:
    writer = CutoutDatasetWriter(
        path,
        tract=12,
        patch=34,
        bands=["g", "y"],
        mask_planes=PLANES,
        inputs=["uuid-of-g", ""],
        backgrounds=["object", ""],
        wcs=[TangentWcs(crval=(10.0, -3.0), crpix=(100.0, 200.0), cd=((-1e-4, 0.0), (0.0, 1e-4))), None],
    )
    writer.add_size(5, 4, planes={"image": np.dtype("f4"), "mask": np.dtype("i4")}, psf_shape=(3, 7))
    writer.write(5, "row", slice(0, 4), np.array([3, 5, 8, 9]))
    pixels = np.arange(2 * 25, dtype=np.float32).reshape(2, 5, 5)
    # Scattered and neighbouring rows take different ways.
    writer.write(5, "image", np.array([0, 3]), pixels, band=0)
    writer.write(5, "image", np.array([1, 2]), pixels + 100, band=0)
    writer.write(5, "mask", np.array([2]), np.ones((1, 5, 5), np.int32), band=0)
    writer.close()


def test_what_is_written_is_read(tmp_path: Path) -> None:
    write(tmp_path / "a.hdf5")
    with CutoutDataset(tmp_path / "a.hdf5") as dataset:
        assert (dataset.tract, dataset.patch, dataset.bands) == (12, 34, ("g", "y"))
        assert dataset.mask_planes == PLANES and dataset.psf_shape == (3, 7)
        assert dataset.inputs == ("uuid-of-g", "") and dataset.backgrounds == ("object", "")
        assert dataset.wcs == TangentWcs((10.0, -3.0), (100.0, 200.0), ((-1e-4, 0.0), (0.0, 1e-4)))
        assert dataset.wcs_cards == ("", "")
        assert (dataset.count(5), dataset.count(6)) == (4, 0)
        assert dataset.read(5, "row", slice(1, 3)).tolist() == [5, 8]
        image = dataset.read(5, "image")
        assert image[:, 0, 0, 0].tolist() == [0, 100, 125, 25]
        # What was never written has no data.
        assert np.isnan(image[:, 1]).all()
        mask = dataset.read(5, "mask")
        assert (mask[2, 0] == 1).all() and (mask[:2] == 1 << 5).all() and (mask[2, 1] == 1 << 5).all()


def test_file_does_not_depend_on_the_time(tmp_path: Path) -> None:
    for name in "ab":
        write(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no HDF5 at all")
    with pytest.raises(CorruptInputError, match="cannot be opened"):
        CutoutDataset(tmp_path / "text")
    write(tmp_path / "newer")
    with h5py.File(tmp_path / "newer", "r+") as file:
        file.attrs["schema_version"] = 4
    with pytest.raises(CorruptInputError, match="not a cutout dataset of version 3"):
        CutoutDataset(tmp_path / "newer")
    with pytest.raises(FileNotFoundError):
        CutoutDataset(tmp_path / "absent")
