# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""The PSF at a target's place, against profiles that are known everywhere."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lsst.dax.bulkcutout import open_cutouts
from lsst.dax.bulkcutout.errors import UserError
from lsst.dax.bulkcutout.psf_shift import pixel_and_rest, shift_kernel
from lsst.dax.bulkcutout.tests.products import SmallProduct

# Not square, and its middle is not that of a square.
SHAPE = (21, 25)

type Profile = Callable[[float, float], np.ndarray]


def grid() -> tuple[np.ndarray, np.ndarray]:
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    return y - SHAPE[0] // 2, x - SHAPE[1] // 2


def sampled_gaussian(sigma: float) -> Profile:
    def star(dy: float, dx: float) -> np.ndarray:
        y, x = grid()
        return np.exp(-((y - dy) ** 2 + (x - dx) ** 2) / (2 * sigma**2)) / (2 * np.pi * sigma**2)

    return star


def integrated_gaussian(sigma: float) -> Profile:
    """Light that falls into each pixel, by the error function."""

    def edges(place: np.ndarray) -> np.ndarray:
        return np.vectorize(math.erf)(place / (sigma * math.sqrt(2)))

    def star(dy: float, dx: float) -> np.ndarray:
        y, x = grid()
        across = [edges(p + 0.5) - edges(p - 0.5) for p in (y - dy, x - dx)]
        return across[0] * across[1] / 4

    return star


def moffat(fwhm: float) -> Profile:
    beta = 3.0
    alpha = fwhm / (2 * math.sqrt(2 ** (1 / beta) - 1))

    def star(dy: float, dx: float) -> np.ndarray:
        y, x = grid()
        r2 = (y - dy) ** 2 + (x - dx) ** 2
        return (beta - 1) / (np.pi * alpha**2) * (1 + r2 / alpha**2) ** -beta

    return star


# Full widths from 3 px (0.6 arcsec on Rubin's maps) to 5.9 px.
PROFILES = {
    "narrow Gaussian": sampled_gaussian(1.3),
    "wide Gaussian": sampled_gaussian(2.5),
    "integrated Gaussian": integrated_gaussian(1.4),
    "narrow Moffat": moffat(3.0),
    "wide Moffat": moffat(4.75),
}


def centroid(picture: np.ndarray) -> tuple[float, float]:
    """Gaussian-weighted centre, (y, x) from the middle, as SDSS had it."""
    y, x = grid()
    cy = cx = 0.0
    for _ in range(60):
        weight = picture * np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / (2 * 2.0**2))
        # Twice the step: the product of two equal Gaussians is half as far.
        cy += 2 * ((weight * y).sum() / weight.sum() - cy)
        cx += 2 * ((weight * x).sum() / weight.sum() - cx)
    return cy, cx


offsets = st.floats(-0.5, 0.5, exclude_max=True)


@pytest.mark.parametrize("name", PROFILES)
@given(dy=offsets, dx=offsets)
def test_centroid_of_the_shifted_kernel_is_the_target(name: str, dy: float, dx: float) -> None:
    """Within 0.02 px, and the flux within 1e-3 of what it was."""
    kernel = PROFILES[name](0.0, 0.0)
    shifted = shift_kernel(kernel, dy=dy, dx=dx)
    assert shifted.shape == SHAPE
    assert centroid(shifted) == pytest.approx((dy, dx), abs=0.02)
    assert shifted.sum() == pytest.approx(kernel.sum(), rel=1e-12)
    if "Gaussian" in name:  # which has no wings that end at the edge
        y, x = grid()
        moments = (shifted * y).sum() / shifted.sum(), (shifted * x).sum() / shifted.sum()
        assert moments == pytest.approx((dy, dx), abs=0.02)


@pytest.mark.parametrize("name", PROFILES)
@given(dy=offsets, dx=offsets)
def test_shifted_kernel_is_the_star_at_that_place(name: str, dy: float, dx: float) -> None:
    """Every pixel, to 3e-4 of the flux; a shift the wrong way is far off."""
    star = PROFILES[name]
    shifted = shift_kernel(star(0.0, 0.0), dy=dy, dx=dx)
    expected = star(dy, dx)
    assert np.abs(shifted - expected).max() < 3e-4 * expected.sum()
    assert shifted.sum() == pytest.approx(expected.sum(), rel=2e-3)
    for wrong_y, wrong_x in ((-dy, dx), (dy, -dx)):
        if abs(wrong_y - dy) + abs(wrong_x - dx) > 0.4:
            assert np.abs(shifted - star(wrong_y, wrong_x)).max() > 2e-3 * expected.sum()


@pytest.mark.parametrize("name", PROFILES)
def test_flux_in_a_fit_is_conserved(name: str) -> None:
    """What photometry weighs, sum(model * star) / sum(model**2), to the
    quarter of a percent that the filter takes at half a pixel.
    """
    star = PROFILES[name]
    for dy, dx in ((0.5, -0.5), (0.25, 0.4), (-0.1, 0.45)):
        shifted, truth = shift_kernel(star(0.0, 0.0), dy=dy, dx=dx), star(dy, dx)
        assert (shifted * truth).sum() / (shifted**2).sum() == pytest.approx(1.0, abs=2.5e-3)


def test_no_shift_changes_nothing() -> None:
    kernel = np.random.default_rng(4).normal(0.1, 1.0, (5, 8))
    np.testing.assert_allclose(shift_kernel(kernel, dy=0.0, dx=0.0), kernel, rtol=0, atol=1e-13)
    np.testing.assert_allclose(
        shift_kernel(kernel, dy=0.0, dx=1.0)[:, 1:] / shift_kernel(kernel, dy=0.0, dx=1.0)[0, 1],
        kernel[:, :-1] / kernel[0, 0],
        atol=1e-12,
    )


def test_weights_are_those_of_lanczos_5() -> None:
    """One bright pixel shows the filter itself, divided by its sum."""
    kernel = np.zeros((1, 31))
    kernel[0, 15] = 1.0
    shifted = shift_kernel(kernel, dy=0.0, dx=0.3)[0]
    t = np.arange(31) - 15 - 0.3
    filtered = np.where(np.abs(t) < 5, 5 * np.sin(np.pi * t) * np.sin(np.pi * t / 5) / (np.pi**2 * t**2), 0.0)
    np.testing.assert_allclose(shifted, filtered / filtered.sum(), atol=1e-14)
    assert np.count_nonzero(shifted) == 10


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_kernel_with_a_hole_is_none(bad: float) -> None:
    kernel = PROFILES["wide Moffat"](0.0, 0.0)
    kernel[3, 4] = bad
    assert np.isnan(shift_kernel(kernel, dy=0.2, dx=0.1)).all()


def test_kernel_without_flux_is_not_blown_up() -> None:
    """The sum cannot be kept where there is none."""
    assert not shift_kernel(np.zeros((5, 5)), dy=0.3, dx=0.3).any()
    dipole = np.zeros((9, 9))
    dipole[4, 3], dipole[4, 5] = 1.0, -1.0
    assert np.abs(shift_kernel(dipole, dy=0.3, dx=0.2)).max() < 2


@given(x=st.floats(-1e4, 1e4))
def test_nearest_pixel_and_rest_make_the_place(x: float) -> None:
    pixel, rest = pixel_and_rest(x)
    assert pixel + rest == pytest.approx(x, abs=1e-9)
    assert -0.5 <= rest <= 0.5
    assert abs(rest) <= min(abs(x - whole) for whole in (math.floor(x), math.ceil(x))) + 1e-9


def test_pixel_halfway_is_the_upper_one() -> None:
    assert pixel_and_rest(7.5) == (8, -0.5)
    assert pixel_and_rest(-0.5) == (0, -0.5)


def test_product_gives_the_psf_at_its_targets(tmp_path: Path) -> None:
    """Stars are put on the targets of a product with the kernel that it
    gives; their centroids, measured on the cutouts, are `target_xy`.
    """
    product = SmallProduct(tmp_path).make()
    out = Path(shutil.copytree(product.out, tmp_path / "copy"))
    y, x = np.mgrid[:5, :7]
    kernel = np.exp(-((y - 2) ** 2 + (x - 3) ** 2) / (2 * 0.8**2)).astype("f4")
    with h5py.File(next(out.glob("size=*/*.hdf5")), "r+") as file:
        file["images/psf"][:, 0] = kernel / kernel.sum()
        file["images/psf"][2, 0] = np.nan
    rests = set()
    with open_cutouts(out) as cutouts:
        np.testing.assert_array_equal(cutouts[0].psf("g"), cutouts[0].psf("g", at="cell"))
        assert np.isnan(cutouts.psf(2, "g", at="target")).all()
        for index in (0, 1, 3, 4, 5, 6):
            cutout = cutouts[index]
            at_target = cutouts.psf(index, "g", at="target")
            assert at_target.dtype == np.float32 and at_target.shape == (5, 7)
            np.testing.assert_array_equal(at_target, cutout.psf("g", at="target"))
            picture = np.zeros((30, 30))
            place_x, place_y = cutout.target_xy
            column, row = (int(np.floor(p + 0.5)) for p in (place_x, place_y))
            picture[row : row + 5, column : column + 7] = at_target  # its own (0, 0) is at (-2, -3)
            mean_y, mean_x = (
                (np.arange(30) * picture.sum(axis=axis)).sum() / picture.sum() for axis in (1, 0)
            )
            assert (mean_x - 3, mean_y - 2) == pytest.approx((place_x, place_y), abs=0.05)
            rests.add((round(place_x - column, 2), round(place_y - row, 2)))
        assert len(rests) >= 5
        with pytest.raises(UserError, match="did you mean 'target'.*at is cell or target"):
            cutouts[0].psf("g", at="targt")
