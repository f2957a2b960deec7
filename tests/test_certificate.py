# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""A product that certifies itself, and faults that it must not certify.

The product comes the whole way from a sky with stars and galaxies, as that of
the demonstration; each fault is put into a copy of its file.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click.testing
import h5py
import numpy as np
import pytest
from PIL import Image

from lsst.dax.bulkcutout import cli
from lsst.dax.bulkcutout.certificate.certify import Certificate, certify, write_certificate
from lsst.dax.bulkcutout.certificate.star_selection import Condition, parse_condition
from lsst.dax.bulkcutout.errors import UserError
from lsst.dax.bulkcutout.manifest import read_manifest
from lsst.dax.bulkcutout.psf_shift import shift_kernel
from lsst.dax.bulkcutout.tests import Sky, make_repo, make_targets, tangent_layout, tangent_tract
from lsst.dax.bulkcutout.tests.campaigns import run_here, write_request
from lsst.dax.bulkcutout.tests.products import SmallProduct, seal
from lsst.dax.bulkcutout.tests.stars import add_isolated_stars
from lsst.dax.bulkcutout.verify.product import verify_product

BANDS = ("g", "r")


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stars")
    tract = tangent_tract(5, n_patches=(1, 2), inner=(400, 350), border=(50, 50), rotation_deg=20.0)
    layout = tangent_layout([tract])
    sky = Sky(seed=4, stars_per_arcmin2=8.0, galaxies_per_arcmin2=30.0)
    repo = make_repo(
        folder / "repo",
        layout=layout,
        bands=BANDS,
        sky=add_isolated_stars(sky, layout, 260, mag_i=(20.5, 23.0)),
        compression="rice",
    )
    targets = make_targets(repo, n_sources=10_000, n_near=20, n_random=10, size=33)
    catalog = targets.write(folder / "catalog.parquet")
    request = write_request(folder, repo, catalog, catalog={"uri": str(catalog), "carry": "all"}, size=33)
    _, status = run_here(request)
    assert status == 0
    return folder / "out"


@pytest.fixture
def copy(product: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(product, tmp_path / "out"))


def change(out: Path, fault: Callable[[h5py.File], Any]) -> Certificate:
    """Put a fault into the files of a product, and judge some of its stars."""
    for path in out.glob("size=*/*.hdf5"):
        with h5py.File(path, "r+") as file:
            fault(file)
    return certify(out, most_stars=50)


def replace(file: h5py.File, path: str, made: Callable[[np.ndarray], Any]) -> None:
    file[path][...] = made(file[path][...])


def failed(certificate: Certificate) -> set[str]:
    """Names of the quantities that are out of limits in any band."""
    return {name for band in certificate.bands for name, value in band.quantities.items() if not value.passed}


def test_product_of_the_pipeline_is_certified(product: Path) -> None:
    """With all stars, and the figures themselves, not their errors."""
    certificate = certify(product)
    assert certificate.passed, str(certificate)
    assert [band.band for band in certificate.bands] == list(BANDS)
    for band in certificate.bands:
        assert band.stars > 200
        quantities = {name: quantity.value for name, quantity in band.quantities.items()}
        assert abs(quantities["flux_ratio"] - 1) < 0.01
        for axis in "xy":
            assert abs(quantities[f"offset_{axis}_px"]) < 0.05
        assert math.hypot(quantities["offset_ra_arcsec"], quantities["offset_dec_arcsec"]) < 0.05 * 0.2
        assert quantities["offset_scatter_px"] < 0.05 and quantities["sky_scatter_arcsec"] < 0.01
        assert 0.9 < quantities["pull_width"] < 1.1
    assert certificate.settings["conditions"] == ["refExtendedness < 0.5", "detect_isIsolated"]


def transposed(file: h5py.File) -> None:
    """Rows and columns are taken for each other."""
    for plane in ("flux", "variance", "mask"):
        replace(file, f"images/{plane}", lambda values: values.swapaxes(-1, -2))


def mirrored(file: h5py.File) -> None:
    """Columns are counted from the other side."""
    for plane in ("flux", "variance", "mask"):
        replace(file, f"images/{plane}", lambda values: values[..., ::-1])


def wcs_mirrored(file: h5py.File) -> None:
    """The projection counts right ascension the wrong way."""
    replace(file, "wcs/cd", lambda values: values * [[-1.0], [1.0]])


def bands_swapped(file: h5py.File) -> None:
    for plane in ("flux", "variance", "mask", "psf"):
        replace(file, f"images/{plane}", lambda values: values[:, ::-1])


def psf_shifted(file: h5py.File) -> None:
    """Half a pixel to the right, as of a kernel with its centre at an edge."""
    replace(
        file,
        "images/psf",
        lambda kernels: np.array([[shift_kernel(one, dy=0.0, dx=0.5) for one in row] for row in kernels]),
    )


def zero_point_wrong(file: h5py.File) -> None:
    """By 0.03 mag; image and variance agree with each other."""
    replace(file, "images/flux", lambda values: values * 10**0.012)
    replace(file, "images/variance", lambda values: values * 10**0.024)


def variance_is_sigma(file: h5py.File) -> None:
    replace(file, "images/variance", np.sqrt)


def variance_is_weight(file: h5py.File) -> None:
    replace(file, "images/variance", lambda values: 1 / values)


@pytest.mark.parametrize(
    ("fault", "seen"),
    [
        (transposed, {"offset_scatter_px"}),
        (mirrored, {"offset_scatter_px"}),
        (wcs_mirrored, {"sky_scatter_arcsec"}),
        (bands_swapped, {"flux_ratio"}),
        (psf_shifted, {"offset_x_px"}),
        (zero_point_wrong, {"flux_ratio"}),
        (variance_is_sigma, {"pull_width"}),
        (variance_is_weight, {"pull_width"}),
    ],
)
def test_fault_is_not_certified(copy: Path, fault: Callable[[h5py.File], None], seen: set[str]) -> None:
    certificate = change(copy, fault)
    assert not certificate.passed
    assert seen & failed(certificate), str(certificate)


def test_unchanged_copy_passes_with_as_few_stars(copy: Path) -> None:
    """What fails the faults is the fault, not the number of stars."""
    assert change(copy, lambda file: None).passed


def test_certificate_lies_beside_the_manifest_and_changes_nothing(copy: Path) -> None:
    before = {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()}
    certificate = certify(copy, most_stars=40)
    document, picture = write_certificate(certificate)
    assert {path.name for path in copy.iterdir()} >= {"certificate.json", "certificate.png"}
    for path, content in before.items():
        assert path.read_bytes() == content
    assert verify_product(copy, sample=0).ok
    with Image.open(picture) as image:
        assert image.format == "PNG" and min(image.size) > 300
        assert len(set(np.asarray(image.convert("RGB")).reshape(-1, 3).sum(axis=1).tolist())) > 10
    assert picture.stat().st_size < 100_000
    written = json.loads(document.read_text())
    assert written["passed"] is True
    assert written["sha256_of_SHA256SUMS"] == certificate.checksums
    assert set(written["bands"]) == set(BANDS)
    ratio = written["bands"]["r"]["flux_ratio"]
    assert ratio["expected"] == 1 and ratio["limit"] == 0.01 and ratio["passed"] is True
    # The same product, the same certificate.
    write_certificate(certify(copy, most_stars=40))
    assert json.loads(document.read_text()) == written


def run(*arguments: str | Path) -> tuple[int, str]:
    result = click.testing.CliRunner().invoke(cli.cli, [str(argument) for argument in arguments])
    if isinstance(result.exception, UserError):
        return 1, str(result.exception)
    return result.exit_code, result.output


def test_command_ends_with_3_when_the_photometry_fails(copy: Path) -> None:
    few = ("verify", copy, "--sample", "0", "--photometry", "--stars", "40")
    status, said = run(*few)
    assert status == 0, said
    assert "The photometry is certified." in said and "certificate.png" in said
    change(copy, zero_point_wrong)
    (copy / "certificate.png").unlink()
    (copy / "certificate.json").unlink()
    seal(copy, read_manifest(copy))
    status, said = run(*few)
    assert status == 3
    assert "All is well." in said and "OUT OF LIMITS" in said and "NOT certified" in said
    assert json.loads((copy / "certificate.json").read_text())["passed"] is False
    status, said = run("verify", copy, "--sample", "0", "--flux-column", "x")
    assert status != 0 and "--flux-column is for --photometry" in said


def test_selection_by_conditions_of_the_user(copy: Path) -> None:
    """Random rows and galaxies are no stars; without conditions galaxies are
    measured, and are not what they should be as stars.
    """
    chosen = certify(copy, conditions=["kind == source", "refExtendedness = 0", "detect_isIsolated"])
    assert chosen.passed and chosen.settings["conditions"][0] == "kind == source"
    galaxies = certify(copy, conditions=["refExtendedness > 0.5"], most_stars=60)
    assert not galaxies.passed
    assert galaxies.bands[0].quantities["flux_ratio"].value < 0.95
    none = certify(copy, conditions=["kind == outside"])
    assert not none.passed and none.bands[0].stars == 0
    assert "too few" in str(none)
    write_certificate(none)


def test_saturated_stars_and_holes_are_left_out(copy: Path) -> None:
    """Each star is spoilt in one of two ways, so that none is left."""

    def spoil(file: h5py.File) -> None:
        names = file["meta/mask_planes/name"].asstr()[:].tolist()
        bit = file["meta/mask_planes/bit"][names.index("SATURATED")]
        file["images/mask"][::2, :, 14:19, 14:19] |= 1 << int(bit)
        file["images/flux"][1::2, :, 14:19, 14:19] = np.nan

    assert [band.stars for band in change(copy, spoil).bands] == [0, 0]


@pytest.mark.parametrize(
    ("text", "column", "compare", "value"),
    [
        ("refExtendedness < 0.5", "refExtendedness", "<", 0.5),
        (" {band}_flag!=true ", "{band}_flag", "!=", True),
        ("class == 'QSO'", "class", "==", "QSO"),
        ("n >= -3e2", "n", ">=", -300.0),
        ("is_star", "is_star", "==", True),
        ("not  {band}_psfFlux_flag", "{band}_psfFlux_flag", "==", False),
    ],
)
def test_conditions_are_understood(text: str, column: str, compare: str, value: object) -> None:
    assert parse_condition(text) == Condition(text, column, compare, value)


@pytest.mark.parametrize("text", ["", "a < ", "< 3", "a and b", "a < b < c <"])
def test_other_conditions_are_refused(text: str) -> None:
    if text == "a < b < c <":
        assert parse_condition(text).value == "b < c <"
        return
    with pytest.raises(UserError, match="not understood"):
        parse_condition(text)


def test_condition_holds_where_the_values_say_so() -> None:
    values = np.array([0.0, 0.5, 1.0, np.nan])
    assert parse_condition("x < 0.5").holds(values).tolist() == [True, False, False, False]
    assert parse_condition("x != 1").holds(values).tolist() == [True, True, False, False]
    assert parse_condition("not x").holds(np.array([True, False])).tolist() == [False, True]
    assert parse_condition("x == b").holds(np.array(["a", "b"])).tolist() == [False, True]
    with pytest.raises(UserError, match="holds text"):
        parse_condition("x < 3").holds(np.array(["a", "b"]))


class TestWhatIsMissing:
    """Messages for products that cannot be certified."""

    def test_planes(self, tmp_path: Path) -> None:
        out = SmallProduct(tmp_path, planes=("image", "mask")).make().out
        with pytest.raises(
            UserError, match=r"no variance and no psf.*planes: \[image, variance, mask, psf\]"
        ):
            certify(out)

    def test_psf_that_the_images_do_not_have(self, copy: Path) -> None:
        for path in copy.glob("size=*/*.hdf5"):
            with h5py.File(path, "r+") as file:
                del file["images/psf"]
        with pytest.raises(UserError, match="no psf.*the images have none"):
            certify(copy)

    def test_psf_with_the_reason_that_the_product_gives(self, copy: Path) -> None:
        for path in copy.glob("size=*/*.hdf5"):
            with h5py.File(path, "r+") as file:
                del file["images/psf"]
                shape = file["provenance/psf_note"].shape
                del file["provenance/psf_note"]
                file["provenance/psf_note"] = np.full(shape, b"it is Piff's")
        with pytest.raises(UserError, match="has no psf, which photometry needs: it is Piff's"):
            certify(copy)

    def test_unit_of_the_images(self, copy: Path) -> None:
        def count(file: h5py.File) -> None:
            file["images/flux"].attrs["unit"] = "adu"

        with pytest.raises(UserError, match="is 'adu', not nJy"):
            change(copy, count)

    def test_cutouts(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match="no cutouts"):
            certify(SmallProduct(tmp_path, empty=True).make().out)

    def test_column(self, copy: Path) -> None:
        with pytest.raises(UserError, match=r"no column g_psfFlx.*g_psfFlux.*--flux-column"):
            certify(copy, flux_column="{band}_psfFlx")
        with pytest.raises(UserError, match=r"write \{band\} in its place"):
            certify(copy, flux_column="g_psfFlux")
        with pytest.raises(UserError, match=r"no column extendedness.*refExtendedness.*`extendedness < 0.5`"):
            certify(copy, conditions=["extendedness < 0.5"])

    def test_unit(self, copy: Path) -> None:
        with pytest.raises(UserError, match="'mag' is no unit of flux.*--flux-unit"):
            certify(copy, flux_unit="mag")
        for path in copy.glob("size=*/*.hdf5"):
            with h5py.File(path, "r+") as file:
                del file["carried/r_psfFlux"].attrs["unit"]
        with pytest.raises(UserError, match="unit of the column r_psfFlux is not known: name it"):
            certify(copy)
        assert certify(copy, flux_unit="nJy", most_stars=40).passed

    def test_band(self, copy: Path) -> None:
        """A band that the catalog does not know is named, and not judged."""

        def forget(file: h5py.File) -> None:
            for group in ("carried", "carried_null"):
                del file[f"{group}/g_psfFlux"]

        certificate = change(copy, forget)
        assert certificate.without == ("g",) and certificate.passed
        assert "g  not checked" in str(certificate)


def test_fluxes_may_have_other_units(copy: Path) -> None:
    """Microjansky and AB magnitudes of the same stars."""

    def magnitudes(file: h5py.File) -> None:
        for band in BANDS:
            replace(file, f"carried/{band}_psfFlux", lambda flux: 31.4 - 2.5 * np.log10(flux))
            file[f"carried/{band}_psfFlux"].attrs["unit"] = "mag(AB)"

    def microjansky(file: h5py.File) -> None:
        for band in BANDS:
            replace(file, f"carried/{band}_psfFlux", lambda mag: 10 ** (0.4 * (23.9 - mag)))
            file[f"carried/{band}_psfFlux"].attrs["unit"] = "uJy"

    assert change(copy, magnitudes).passed
    assert change(copy, microjansky).passed
