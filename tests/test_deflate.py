# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Chunks that our kernel compresses, as zlib and HDF5 read them."""

from __future__ import annotations

import zlib
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lsst.dax.bulkcutout.pixel_chunks import FILTERS, compress


def shuffled(plane: np.ndarray) -> bytes:
    """The bytes that HDF5's first filter makes of a plane."""
    return plane.reshape(-1).view("u1").reshape(-1, plane.dtype.itemsize).T.tobytes()


def check(planes: np.ndarray) -> int:
    """Zlib finds the shuffled bytes in every chunk; the size of all."""
    n_bytes = n = 0
    for plane, stream in zip(planes, compress(planes), strict=True):
        assert zlib.decompress(stream) == shuffled(plane)
        n_bytes, n = n_bytes + len(stream), n + 1
    assert n == len(planes)
    return n_bytes


@settings(max_examples=80, deadline=None)
@given(
    hnp.arrays(
        st.sampled_from(["i4", "i8", "f4"]),
        hnp.array_shapes(min_dims=3, max_dims=3, max_side=24),
    )
)
def test_any_plane_is_what_zlib_reads(planes: np.ndarray) -> None:
    check(planes)


@pytest.mark.parametrize("dtype", ["i4", "i8"])
@pytest.mark.parametrize("size", [1, 2, 4, 5, 7, 8, 16, 63, 64, 100, 300])
def test_masks_of_all_kinds_are_what_zlib_reads(size: int, dtype: str) -> None:
    """Noise, blobs, rows that repeat, codes of very different frequency."""
    rng = np.random.default_rng(size)
    y, x = np.mgrid[:size, :size]
    planes = np.stack(
        [
            np.zeros((size, size)),
            np.full((size, size), 0x01020304),
            rng.integers(0, 2**31, (size, size)),
            32 * ((y - size / 3) ** 2 + (x - size / 2) ** 2 < size**2 / 9),
            32 * rng.integers(0, 2, (size, size)),
            np.broadcast_to(rng.integers(0, 256, size), (size, size)),
            np.broadcast_to(rng.integers(0, 256, (size, 1)), (size, size)),
            2.0 ** rng.geometric(0.05, (size, size)).clip(0, 30),
            2 * np.cumsum(rng.random((size, size)) < 0.01, axis=1),
        ]
    ).astype(dtype)
    check(planes)
    check(planes.view(f"f{planes.itemsize}"))


def test_codes_are_never_longer_than_deflate_allows() -> None:
    """Frequencies like Fibonacci numbers make the deepest trees there are."""
    numbers = [1, 1]
    while sum(numbers) < 1_000_000:
        numbers.append(numbers[-1] + numbers[-2])
    values = np.repeat(np.arange(len(numbers)), numbers)[: 1000 * 1000]
    values = np.random.default_rng(1).permutation(values).astype("f4").view("i4") >> 16
    check(values.reshape(1, 1000, 1000).view("f4"))


def test_sizes_are_those_of_the_best_of_zlib() -> None:
    """Masks no more than a quarter above its best level, noise below it."""
    rng = np.random.default_rng(2)
    y, x = np.mgrid[:64, :64]
    masks = np.zeros((200, 64, 64), dtype="i4")
    for mask in masks:
        for _ in range(rng.integers(1, 6)):
            at_y, at_x, radius = rng.uniform(0, 64), rng.uniform(0, 64), rng.uniform(2, 10)
            mask[(y - at_y) ** 2 + (x - at_x) ** 2 < radius**2] |= 32
    noise = np.round(rng.normal(0, 16, (50, 64, 64))).astype("f4")
    for planes, most in ((masks, 1.25), (noise, 0.9)):
        assert check(planes) <= most * sum(len(zlib.compress(shuffled(plane), 9)) for plane in planes)
    assert check(np.zeros((100, 64, 64), dtype="i4")) < 100 * 50


def test_hdf5_reads_chunks_through_its_own_filters(tmp_path: Path) -> None:
    planes = np.random.default_rng(3).integers(0, 9, (5, 33, 33)).astype("i4")
    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        dataset = file.create_dataset("mask", planes.shape, "i4", chunks=(1, 33, 33), **FILTERS)
        for number, stream in enumerate(compress(planes)):
            dataset.id.write_direct_chunk((number, 0, 0), stream)
    with h5py.File(tmp_path / "a.hdf5") as file:
        np.testing.assert_array_equal(file["mask"], planes)
        assert file["mask"].compression == "gzip" and file["mask"].shuffle


def test_bytes_do_not_depend_on_the_neighbours() -> None:
    """A chunk is the same alone, and among others that are all one value."""
    planes = np.random.default_rng(4).integers(0, 2, (6, 20, 20)).astype("i4")
    planes[[1, 4]] = 7
    together = [bytes(stream) for stream in compress(planes)]
    alone = [bytes(stream) for plane in planes for stream in compress(plane[np.newaxis])]
    assert together == alone
    assert list(compress(planes[:0])) == []
