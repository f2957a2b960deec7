# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Float planes that are rounded to a part of the noise."""

from __future__ import annotations

import dataclasses
import math
import warnings
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_repackage import request

from lsst.dax.bulkcutout.data_card.pixel_sections import pixel_sections
from lsst.dax.bulkcutout.errors import InternalError
from lsst.dax.bulkcutout.estimate.cost import Sample, prices
from lsst.dax.bulkcutout.finish import COMPLETE, finish
from lsst.dax.bulkcutout.formats.cutouts import open_cutouts
from lsst.dax.bulkcutout.formats.hdf5 import HDF5Writer
from lsst.dax.bulkcutout.manifest import read_manifest
from lsst.dax.bulkcutout.pixel_chunks import compress
from lsst.dax.bulkcutout.pixel_rounding import round_pixels
from lsst.dax.bulkcutout.precision import check_precision
from lsst.dax.bulkcutout.tests import SkyRepository
from lsst.dax.bulkcutout.tests.campaigns import run_here, write_request
from lsst.dax.bulkcutout.tests.products import SmallProduct, blank_columns
from lsst.dax.bulkcutout.verify.pixel_check import compare_pixels
from lsst.dax.bulkcutout.verify.product import verify_product


def sky(n: int = 120, size: int = 64) -> tuple[np.ndarray, np.ndarray]:
    """Noise whose level differs by cutout and, a little, by pixel, with a
    galaxy or star in each middle, from faint to bright; image and variance.
    """
    rng = np.random.default_rng(5)
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    level = rng.uniform(10, 400, n)[:, None, None]
    width = rng.uniform(1.5, 4, n)[:, None, None]
    profile = np.exp(-(x * x + y * y) / (2 * width**2)) / (2 * np.pi * width**2)
    signal = 10 ** rng.uniform(2, 5, n)[:, None, None] * profile
    variance = level * (1 + 0.03 * rng.normal(size=(n, size, size))) + signal / 40
    image = signal + np.sqrt(variance) * rng.normal(size=variance.shape)
    return image.astype("f4"), variance.astype("f4")


@pytest.mark.parametrize("value", ["exact", "sigma/2", "sigma/16", "sigma/256"])
def test_precision_of_a_request_is_kept(value: str) -> None:
    assert request(precision=value).precision == value and check_precision(value) == value


@pytest.mark.parametrize(
    "value", ["", "sigma", "sigma/1", "sigma/12", "sigma/512", "sigma/016", "sigma /16", "Sigma/16", 16, None]
)
def test_any_other_precision_is_refused_with_what_is_allowed(value: object) -> None:
    with pytest.raises(ValueError, match=r"exact, or sigma/N with N a power of two from 2 to 256"):
        request(precision=value)


@settings(max_examples=60, deadline=None)
@given(
    sigma=st.floats(1e-6, 1e6),
    n=st.sampled_from([2, 4, 16, 256]),
    seed=st.integers(0, 99),
)
def test_values_are_the_nearest_even_multiples_of_the_step(sigma: float, n: int, seed: int) -> None:
    """Expected: Python's own round, in exact arithmetic of powers of two."""
    rng = np.random.default_rng(seed)
    image = (sigma * rng.normal(size=(1, 6, 6))).astype("f4")
    variance = np.full_like(image, sigma**2)
    step = 2.0 ** math.floor(math.log2(math.sqrt(float(variance[0, 0, 0])) / n))
    image[0, 0] = [np.nan, np.inf, -np.inf, 2.5 * step, -1.5 * step, 3e38]
    rounded = round_pixels({"image": image, "variance": variance, "noise/0": -image}, f"sigma/{n}")
    assert rounded["image_step"].tolist() == [step] and step <= sigma / n * (1 + 1e-6)
    finite = np.isfinite(image)
    expected = [round(float(value) / step) * step for value in image[finite]]
    assert rounded["image"][finite].tolist() == expected
    assert rounded["image"][0, 0, 3] == 2 * step and rounded["image"][0, 0, 4] == -2 * step
    np.testing.assert_array_equal(rounded["image"][~finite], image[~finite])
    np.testing.assert_array_equal(rounded["noise/0"], -rounded["image"])


def test_steps_follow_the_noise_of_each_cutout() -> None:
    image, variance = sky(20)
    variance[3, :40] = np.nan
    variance[4, :20], variance[5, :20] = -1, np.inf
    variance[6] = np.nan
    steps = round_pixels({"image": image, "variance": variance}, "sigma/16")["image_step"]
    for number, plane in enumerate(variance.astype(float)):
        known = plane[(plane > 0) & np.isfinite(plane)]
        if known.size:
            assert steps[number] == 2.0 ** np.floor(np.log2(np.sqrt(np.median(known)) / 16))
    # From the pixels alone, as for the seventh above: within a factor of two.
    alone = round_pixels({"image": image}, "sigma/16")["image_step"]
    assert steps[6] == alone[6]
    variance = sky(20)[1]
    by_variance = round_pixels({"image": image, "variance": variance}, "sigma/16")["image_step"]
    assert (np.abs(np.log2(alone / by_variance)) <= 1).all()


def test_what_has_no_noise_stays_as_it_is() -> None:
    image = np.full((3, 8, 8), 0.1, dtype="f4")
    image[1] = np.nan
    image[2, 3, 3] = 7.3
    for pixels in ({"image": image}, {"image": image, "variance": np.zeros_like(image)}):
        rounded = round_pixels(pixels, "sigma/16")
        assert rounded["image_step"].tolist() == [0, 0, 0]
        np.testing.assert_array_equal(rounded["image"], image)
    assert round_pixels({"image": image}, "exact").keys() == {"image"}


@pytest.mark.parametrize("n", [2, 16, 256])
def test_variances_are_off_by_a_part_of_themselves(n: int) -> None:
    rng = np.random.default_rng(1)
    variance = (10 ** rng.uniform(-30, 30, (4, 16, 16))).astype("f4")
    special = np.array([np.nan, np.inf, 0.0, 3.4028235e38], dtype="f4")
    variance[0, 0, :4] = special
    rounded = round_pixels({"image": variance, "variance": variance}, f"sigma/{n}")
    np.testing.assert_array_equal(rounded["variance"][0, 0, :4], special)
    normal = np.isfinite(variance) & (variance > 0)
    off = np.abs(rounded["variance"][normal].astype(float) / variance[normal] - 1)
    assert off.max() <= 1 / (4 * n) and off.max() > 1 / (8 * n)
    assert (rounded["variance_step"] == 1 / (2 * n)).all()
    # Half to even, as everywhere.
    assert abs((rounded["variance"][normal].astype(float) / variance[normal] - 1).mean()) < 1 / (40 * n)


@pytest.mark.parametrize(
    ("n", "image_bits", "variance_bits"), [(4, 6.0, 1.8), (16, 8.1, 3.2), (64, 10.3, 5.2)]
)
def test_bytes_noise_and_bias_are_bounded(n: int, image_bits: float, variance_bits: float) -> None:
    """What doc/request.rst says of it."""
    image, variance = sky()
    rounded = round_pixels({"image": image, "variance": variance}, f"sigma/{n}")
    for plane, most in (("image", image_bits), ("variance", variance_bits)):
        assert 8 * sum(map(len, compress(rounded[plane]))) / image.size < most
    sigma = np.sqrt(np.median(variance.reshape(len(variance), -1), axis=1))[:, None, None]
    error = (rounded["image"].astype(float) - image) / sigma
    # A uniform error of a step has a variance of a twelfth of its square.
    assert error.std() ** 2 <= 1.02 / (12 * n * n)
    assert abs(error.mean()) < 4 * error.std() / math.sqrt(error.size)
    y, x = np.mgrid[:64, :64] - 31.5
    inside = x * x + y * y < 36
    flux_error = np.sqrt(variance[:, inside].sum(axis=1, dtype=float))
    shift = error[:, inside].sum(axis=1) * sigma[:, 0, 0] / flux_error
    assert inside.sum() == 112
    assert shift.std() < 1 / (3 * n) and abs(shift.mean()) < 4 * shift.std() / math.sqrt(len(shift))


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> SmallProduct:
    return SmallProduct(tmp_path_factory.mktemp("rounded"), precision="sigma/16").make()


def test_product_says_how_it_was_rounded(product: SmallProduct) -> None:
    (path,) = product.out.glob("size=*/*.hdf5")
    with h5py.File(path) as file:
        assert file["meta/precision"].asstr()[()] == "sigma/16"
        for name in ("flux", "variance", "mask"):
            assert (file[f"images/{name}"].chunks, file[f"images/{name}"].compression) == (
                (1, 1, 16, 16),
                "gzip",
            )
        assert file["images/psf"].chunks is None
        flux, step = file["images/flux"][:], file["images/flux_step"][:]
    with open_cutouts(product.out) as cutouts:
        for number, cutout in enumerate(cutouts):
            assert cutout.flux_step("g") == step[number, 0] and cutout.variance_step("g") == 1 / 32
            np.testing.assert_array_equal(cutout.image("g"), flux[number, 0])
    card = "".join(pixel_sections(product.out, manifest := read_manifest(product.out), manifest.files[:1]))
    assert "`sigma/16`" in card and "0.016 % to the noise" in card and "rounded as said below" in card


def test_verify_compares_within_half_a_step(product: SmallProduct, tmp_path: Path) -> None:
    (path,) = product.out.glob("size=*/*.hdf5")
    inputs = {image.uuid: str(image.path) for image in product.images.values()}
    assert compare_pixels(str(path), range(7), inputs).faults == ()
    copy = tmp_path / "a.hdf5"
    for dataset, change, said in (
        ("images/flux", lambda file: file["images/flux_step"][2, 0], "images/flux in g"),
        ("images/variance", lambda file: 0.02 * file["images/variance"][2, 0, 5, 5], "images/variance in g"),
        ("images/flux_step", lambda file: file["images/flux_step"][2, 0], "images/flux_step in g"),
    ):
        copy.write_bytes(path.read_bytes())
        with h5py.File(copy, "r+") as file:
            place = (2, 0) if dataset.endswith("step") else (2, 0, 5, 5)
            file[dataset][place] += change(file)
        (fault,) = compare_pixels(str(copy), [2], inputs).faults
        assert fault.dataset == said


def test_bytes_of_rounded_planes_do_not_depend_on_the_blocks(tmp_path: Path) -> None:
    product = SmallProduct(tmp_path, precision="sigma/16")
    layout = product.layout(16)
    columns = blank_columns(layout, 9)
    rng = np.random.default_rng(3)
    for name in ("flux", "variance"):
        columns[f"images/{name}"] = rng.integers(0, 99, columns[f"images/{name}"].shape).astype("f4")
    with HDF5Writer(tmp_path / "once.hdf5", layout, 9) as writer:
        writer.write(0, columns)
    planes = {path: columns.pop(path) for path in ("images/flux", "images/variance", "images/mask")}
    with HDF5Writer(tmp_path / "blocks.hdf5", layout, 9) as writer:
        for path, values in planes.items():
            for start, stop in ((0, 2), (2, 9)):
                writer.write(start, {path: values[start:stop]})
        writer.write(0, columns)
    assert (tmp_path / "once.hdf5").read_bytes() == (tmp_path / "blocks.hdf5").read_bytes()
    with (
        pytest.raises(InternalError, match="images/variance comes before images/flux is whole"),
        HDF5Writer(tmp_path / "mixed.hdf5", layout, 9) as writer,
    ):
        writer.write(0, {path: values[:2] for path, values in planes.items()})


def test_campaign_rounds_its_pixels(tmp_path: Path, coded_repo: SkyRepository, coded_catalog: Path) -> None:
    """From catalog to product and verify; the reference is the product of the
    same request without it, and numpy's median.
    """
    files = []
    for name in ("exact", "sigma/16"):
        fields: dict[str, Any] = {} if name == "exact" else {"precision": name}
        request_file = write_request(tmp_path / name.replace("/", ""), coded_repo, coded_catalog, **fields)
        campaign, status = run_here(request_file)
        assert status == COMPLETE
        out = request_file.parent / "out"
        assert verify_product(out, sample=20).ok
        files.append(sorted(out.glob("size=*/*.hdf5")))
        assert finish(campaign) == COMPLETE
    assert len(files[0]) == len(files[1]) > 0
    n_rounded = 0
    for exact_file, rounded_file in zip(*files, strict=True):
        with h5py.File(exact_file) as exact, h5py.File(rounded_file) as rounded:
            for same in ("catalog/row", "images/mask", "images/psf", "images/band_status"):
                np.testing.assert_array_equal(exact[same][()], rounded[same][()])
            for plane in ("flux", "variance"):
                true, found = (file[f"images/{plane}"][()].astype("f8") for file in (exact, rounded))
                step = rounded[f"images/{plane}_step"][()][..., None, None]
                assert set(np.frexp(step[step > 0])[0].tolist()) <= {0.5}
                np.testing.assert_array_equal(np.isfinite(true), np.isfinite(found))
                # Variances are rounded to a part of themselves.
                unit = np.abs(true) if plane == "variance" else 1.0
                with np.errstate(invalid="ignore"):
                    assert not (np.abs(found - true) > step / 2 * unit).any()
            with warnings.catch_warnings():
                # Cutouts outside all coverage have no median.
                warnings.simplefilter("ignore")
                sigma = np.sqrt(np.nanmedian(exact["images/variance"][()], axis=(2, 3)))
            step = rounded["images/flux_step"][()]
            assert (step[step > 0] <= sigma[step > 0] / 16).all()
            assert (step[step > 0] > sigma[step > 0] / 32).all()
            n_rounded += int((step > 0).sum())
    assert n_rounded > 20


def test_estimate_counts_fewer_bits() -> None:
    sample = dataclasses.replace(Sample(), n_noise=1)
    found = [
        {price.plane: price.bytes for price in prices((), {64: 1000}, n_bands=3, sample=sample, **more)}
        for more in ({}, {"precision": "sigma/16"})
    ]
    exact, rounded = found
    assert exact["image"] == 1000 * 3 * 64 * 64 * 4
    assert 0.2 < rounded["image"] / exact["image"] < 0.27
    assert rounded["noise"] == rounded["image"] and rounded["variance"] < rounded["image"]
    assert {name for name in exact if exact[name] == rounded[name]} == {"mask", "psf", "columns"}
