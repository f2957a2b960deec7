# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""What goes into which file, and the PSF kernels of different shapes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lsst.dax.bulkcutout.repackage.product_files import Piece, _divide, rows_per_file
from lsst.dax.bulkcutout.repackage.repackager import _pad_kernels
from lsst.dax.bulkcutout.repackage.shared_contents import SharedContents, read_shared, write_shared
from lsst.dax.bulkcutout.request import CutoutRequest
from lsst.dax.bulkcutout.tables import MaskPlane


def request(**fields: object) -> CutoutRequest:
    return CutoutRequest.model_validate(
        {
            "request_id": "r",
            "catalog": {"uri": str(Path("/catalog.parquet"))},
            "butler": "/repo",
            "collections": ["c"],
            "dataset_type": "deep_coadd",
            "size": 64,
            "planes": ["image", "variance", "mask", "psf"],
            "output": "/out",
            **fields,
        }
    )


def test_bytes_bound_the_rows_of_a_file() -> None:
    """For 64 px in six bands: three planes of four bytes, and a kernel."""
    row = 6 * 4 * (3 * 64 * 64 + 51 * 51)
    assert rows_per_file(request(), size=64, n_bands=6) == 2_000_000_000 // row
    small = request(partition={"max_bytes_per_file": 10 * row, "max_rows_per_file": 4})
    assert rows_per_file(small, size=64, n_bands=6) == 4
    assert rows_per_file(small, size=64, n_bands=600) == 1
    image_alone = request(planes=["image"], partition={"max_bytes_per_file": 64 * 64 * 4 * 7})
    assert rows_per_file(image_alone, size=64, n_bands=1) == 7


@given(
    patches=st.lists(
        st.tuples(st.tuples(st.integers(0, 3), st.integers(0, 99)), st.integers(1, 50)),
        max_size=8,
        unique_by=lambda p: p[0],
    ),
    limit=st.integers(1, 60),
)
def test_files_hold_all_targets_in_order_and_are_full(
    patches: list[tuple[tuple[int, int], int]], limit: int
) -> None:
    files = list(_divide(patches, limit))
    targets = [((p.tract, p.patch), n) for pieces in files for p in pieces for n in range(p.start, p.stop)]
    assert targets == [(patch, n) for patch, many in patches for n in range(many)]
    lengths = [sum(p.stop - p.start for p in pieces) for pieces in files]
    assert all(length == limit for length in lengths[:-1]) and all(0 < n <= limit for n in lengths[-1:])
    assert all(isinstance(p, Piece) for pieces in files for p in pieces)


@pytest.mark.parametrize(("small", "large"), [((21, 21), (25, 31)), ((20, 21), (25, 26)), ((4, 4), (4, 9))])
def test_padded_kernels_keep_their_centre(small: tuple[int, int], large: tuple[int, int]) -> None:
    kernels = np.zeros((2, 1, *small), dtype=np.float32)
    kernels[0, 0, small[0] // 2, small[1] // 2] = 1
    kernels[1] = np.nan
    padded = _pad_kernels(kernels, large)
    assert padded.shape == (2, 1, *large)
    assert padded[0, 0, large[0] // 2, large[1] // 2] == 1 and padded[0].sum() == 1
    assert np.isnan(padded[1]).all()


@pytest.mark.parametrize("shape", [None, (21, 25)])
def test_other_processes_are_told_what_files_share(tmp_path: Path, shape: tuple[int, int] | None) -> None:
    planes = (MaskPlane("NO_DATA", 3, "none"), MaskPlane("BAD", 40, ""))
    shared = SharedContents(planes, shape, n_noise=2, mask_fractions=("clipped",))
    write_shared(tmp_path / "shared.json", shared)
    assert read_shared(tmp_path / "shared.json") == shared
