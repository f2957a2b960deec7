# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""PSF photometry: stars of known flux at known places, and an independent
least-squares fit of the same pixels.
"""

from __future__ import annotations

import math

import numpy as np
import pytest

from lsst.dax.bulkcutout.certificate.photometry import fit_star
from lsst.dax.bulkcutout.certificate.star_statistics import Quantity, describe, judge_band

# Elliptical, so that x and y cannot be taken for each other.
SIGMA_Y, SIGMA_X = 1.5, 1.9
SHAPE = (38, 44)


def star(y: float, x: float, shape: tuple[int, int] = SHAPE) -> np.ndarray:
    """Analytic star of unit flux."""
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    exponent = ((rows - y) / SIGMA_Y) ** 2 + ((columns - x) / SIGMA_X) ** 2
    return np.exp(-exponent / 2) / (2 * np.pi * SIGMA_Y * SIGMA_X)


KERNEL = star(10, 12, (21, 25))
NOTHING_BAD = np.zeros(SHAPE, dtype=bool)


def test_star_without_noise_comes_out_exactly() -> None:
    """Flux at the known place, and the place of a star that is elsewhere."""
    image = 5000.0 * star(17.3, 22.8) + 7.5
    fit = fit_star(image, np.full(SHAPE, 9.0), NOTHING_BAD, KERNEL, y=17.3, x=22.8)
    assert fit is not None
    # The shifted model is that of Lanczos-5, right to a quarter of a percent.
    assert fit.flux == pytest.approx(5000, rel=2.5e-3)
    assert fit.background == pytest.approx(7.5, abs=0.1)
    assert (fit.dx, fit.dy) == pytest.approx((0, 0), abs=2e-3)
    assert fit.light == pytest.approx(1.0, abs=1e-3)
    fit = fit_star(image, np.full(SHAPE, 9.0), NOTHING_BAD, KERNEL, y=16.7, x=23.9)
    assert fit is not None
    assert (fit.dx, fit.dy) == pytest.approx((-1.1, 0.6), abs=4e-3)
    assert fit.flux < 4900


def test_fit_is_that_of_numpy_least_squares() -> None:
    """At a pixel's centre the model is the kernel as it is: flux, background
    and their covariance by numpy's own solution of the weighted problem.
    """
    rng = np.random.default_rng(3)
    variance = rng.uniform(4, 20, SHAPE)
    image = 900 * star(18, 21) + 3 + rng.normal(0, np.sqrt(variance))
    bad = rng.random(SHAPE) < 0.1
    image[20, 24] = np.nan
    variance[16, 19] = np.nan
    variance[15, 22] = 0.0
    fit = fit_star(image, variance, bad, KERNEL, y=18.0, x=21.0)
    assert fit is not None
    window = np.s_[18 - 10 : 18 + 11, 21 - 12 : 21 + 13]
    good = ~bad[window]
    for row, column in ((20, 24), (16, 19), (15, 22)):
        good[row - 8, column - 9] = False
    terms = np.stack([KERNEL[good], np.ones(good.sum())], axis=1)
    root = 1 / np.sqrt(variance[window][good])
    values, *_ = np.linalg.lstsq(terms * root[:, None], image[window][good] * root)
    covariance = np.linalg.pinv(terms * root[:, None]) @ np.linalg.pinv(terms * root[:, None]).T
    assert fit.flux == pytest.approx(values[0], rel=1e-9)
    assert fit.background == pytest.approx(values[1], rel=1e-9)
    assert fit.flux_sigma == pytest.approx(math.sqrt(covariance[0, 0]), rel=1e-9)
    assert fit.light == pytest.approx(KERNEL[good].sum() / KERNEL.sum(), rel=1e-9)


def test_errors_are_what_the_noise_makes() -> None:
    """Pulls of flux and place over many stars have a width of 1."""
    rng = np.random.default_rng(8)
    pulls = []
    for _ in range(400):
        y, x = rng.uniform(17, 20), rng.uniform(20, 23)
        truth = 10 ** rng.uniform(3, 4)
        clean = truth * star(y, x)
        variance = 25 + 0.1 * clean
        fit = fit_star(clean - 4 + rng.normal(0, np.sqrt(variance)), variance, NOTHING_BAD, KERNEL, y=y, x=x)
        assert fit is not None
        pulls.append(
            ((fit.flux - truth) / fit.flux_sigma, fit.dx / fit.offset_sigma, fit.dy / fit.offset_sigma)
        )
    # The axes of the star differ, and the error of its place is their mean.
    assert np.std(pulls, axis=0) == pytest.approx([1, 1, 1], abs=0.2)
    assert np.mean(np.square(np.array(pulls)[:, 1:])) == pytest.approx(1, abs=0.15)
    assert np.std(np.array(pulls)[:, 0]) == pytest.approx(1, abs=0.1)
    assert np.mean(pulls, axis=0) == pytest.approx([0, 0, 0], abs=0.2)


def test_star_on_an_edge_is_fitted_with_what_there_is() -> None:
    image = 800.0 * star(3.2, 41.6)
    fit = fit_star(image, np.ones(SHAPE), NOTHING_BAD, KERNEL, y=3.2, x=41.6)
    assert fit is not None
    assert fit.flux == pytest.approx(800, rel=5e-3)
    assert 0.7 < fit.light < 0.9


def test_without_background_none_is_taken_off() -> None:
    image = 800.0 * star(18, 21) + 2
    with_background = fit_star(image, np.ones(SHAPE), NOTHING_BAD, KERNEL, y=18, x=21)
    without = fit_star(image, np.ones(SHAPE), NOTHING_BAD, KERNEL, y=18, x=21, fit_background=False)
    assert with_background is not None and without is not None
    assert with_background.flux == pytest.approx(800)
    assert without.flux > 820 and without.background == 0


def test_what_cannot_be_measured_is_none() -> None:
    image, variance = star(18, 21), np.ones(SHAPE)
    assert fit_star(image, variance, ~NOTHING_BAD, KERNEL, y=18, x=21) is None
    assert fit_star(image, variance * np.nan, NOTHING_BAD, KERNEL, y=18, x=21) is None
    assert fit_star(image, variance, NOTHING_BAD, KERNEL * np.nan, y=18, x=21) is None
    assert fit_star(image, variance, NOTHING_BAD, KERNEL, y=180, x=21) is None


def test_place_without_a_star_has_a_flux_and_no_offset() -> None:
    fit = fit_star(-500 * star(18, 21), np.ones(SHAPE), NOTHING_BAD, KERNEL, y=18, x=21)
    assert fit is not None and fit.flux == pytest.approx(-500) and math.isnan(fit.dx)
    fit = fit_star(500 * star(18, 28), np.ones(SHAPE), NOTHING_BAD, KERNEL, y=18, x=21)
    assert fit is not None and math.isnan(fit.dx)


def made_up(n: int = 400, **change: np.ndarray | float) -> dict[str, np.ndarray]:
    """Stars as a perfect product has them, or with some columns changed."""
    rng = np.random.default_rng(12)
    truth = 10 ** rng.uniform(2.5, 4.5, n)
    sigma = np.sqrt(900 + 0.1 * truth)
    noise = 2.5 * sigma / truth
    stars = {
        "number": np.arange(n, dtype=float),
        "truth": truth,
        "flux": truth + sigma * rng.standard_normal(n),
        "sigma": sigma,
        "dx": noise * rng.standard_normal(n),
        "dy": noise * rng.standard_normal(n),
        "offset_sigma": noise,
    }
    stars["d_ra"], stars["d_dec"] = -0.2 * stars["dx"], 0.2 * stars["dy"]
    return stars | change


def test_perfect_stars_pass() -> None:
    result = judge_band("r", made_up(), 0.2)
    assert result.passed and result.stars == 400
    assert result.quantities["pull_width"].value == pytest.approx(1, abs=0.1)
    assert result.quantities["offset_scatter_px"].value < 0.02
    assert "OUT OF LIMITS" not in " ".join(value for _, value in describe(result))


@pytest.mark.parametrize(
    ("quantity", "change"),
    [
        ("flux_ratio", lambda s: {"flux": s["flux"] * 1.02}),
        ("flux_ratio", lambda s: {"flux": s["flux"] * 0.98}),
        ("offset_x_px", lambda s: {"dx": s["dx"] + 0.07}),
        ("offset_y_px", lambda s: {"dy": s["dy"] - 0.07}),
        ("offset_y_px", lambda s: {"dy": s["dy"] * np.nan}),
        ("offset_ra_arcsec", lambda s: {"d_ra": s["d_ra"] + 0.014}),
        ("offset_dec_arcsec", lambda s: {"d_dec": s["d_dec"] - 0.014}),
        ("offset_scatter_px", lambda s: {"dx": s["dx"] + np.resize([0.12, -0.12], len(s["dx"]))}),
        ("sky_scatter_arcsec", lambda s: {"d_dec": s["d_dec"] + np.resize([0.1, -0.1], len(s["dx"]))}),
        ("pull_width", lambda s: {"sigma": s["sigma"] * 1.3}),
        ("pull_width", lambda s: {"sigma": s["sigma"] / 1.3}),
    ],
)
def test_each_quantity_fails_by_itself(quantity: str, change: object) -> None:
    stars = made_up()
    assert callable(change)
    result = judge_band("r", stars | change(stars), 0.2)
    assert not result.quantities[quantity].passed
    assert not result.passed
    assert "OUT OF LIMITS" in " ".join(value for _, value in describe(result))


def test_few_stars_are_not_enough() -> None:
    few = {name: values[:29] for name, values in made_up().items()}
    assert not judge_band("r", few, 0.2).passed
    assert not judge_band("r", {name: values[:0] for name, values in few.items()}, 0.2).passed


def test_outliers_change_nothing() -> None:
    """Five percent of the stars are something else."""
    stars = made_up()
    stars["flux"][::20] *= 3
    stars["dx"][::20] += 2
    assert judge_band("r", stars, 0.2).passed


def test_pulls_may_be_narrow_for_fluxes_of_the_same_images() -> None:
    stars = made_up()
    stars["flux"] = stars["truth"] + 0.2 * (stars["flux"] - stars["truth"])
    assert not judge_band("r", stars, 0.2).passed
    assert judge_band("r", stars, 0.2, same_images=True).passed
    stars["flux"] = stars["truth"] + 7.0 * (stars["flux"] - stars["truth"])
    assert not judge_band("r", stars, 0.2, same_images=True).passed


def test_limit_is_widened_by_twice_the_error_and_no_more_than_doubled() -> None:
    assert Quantity(1.018, 0.006, 1.0, 0.01).passed
    assert not Quantity(1.019, 0.004, 1.0, 0.01).passed
    assert not Quantity(math.nan, 0.004, 1.0, 0.01).passed
    # A fault that makes the error large is no excuse.
    assert not Quantity(1.03, 0.5, 1.0, 0.01).passed
    assert Quantity(0.2, 0.0, 1.0, 0.1, one_sided=True).passed
