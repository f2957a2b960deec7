# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""The README.md of a product."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

import h5py
import numpy as np
import pytest

from lsst.dax.bulkcutout.data_card.card import data_card, write_data_card
from lsst.dax.bulkcutout.manifest import ProductFile, read_manifest
from lsst.dax.bulkcutout.tests.products import SmallProduct


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> SmallProduct:
    return SmallProduct(tmp_path_factory.mktemp("product")).make()


@pytest.fixture(scope="module")
def card(product: SmallProduct) -> str:
    return data_card(product.out, read_manifest(product.out))


def snippet(card: str) -> str:
    (code,) = re.findall(r"```python\n(.*?)```", card, flags=re.DOTALL)
    return code


@pytest.mark.parametrize("planes", [("image", "variance", "mask", "psf"), ("mask",), ("psf",)])
def test_snippet_opens_the_product(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, planes: tuple[str, ...]
) -> None:
    """It is run where the card lies, as a reader would."""
    out = SmallProduct(tmp_path, planes=planes).make().out
    code = snippet(write_data_card(out, read_manifest(out)).read_text())
    assert len(code.splitlines()) == 3
    monkeypatch.chdir(out)
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(code, {})
    assert "RA---TAN" in printed.getvalue()


def test_snippet_works_where_nothing_was_delivered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    product = SmallProduct(tmp_path, empty=True).make()
    monkeypatch.chdir(product.out)
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(snippet(data_card(product.out, read_manifest(product.out))), {})
    assert printed.getvalue() == "0\n"


@pytest.mark.parametrize(
    "said",
    [
        "nJy",
        "zero point is 31.4",
        "0.2 arcsec",
        "zero-based",
        "`RA---TAN`",
        "no covariance",
        "some input image had it",
        "`object` has been subtracted",
        "bands g, r, i",
        "| `outside_footprint` | 2 | The position lies outside",
        "| all | 9 |",
        "| `size=16/cutouts_size16_tract7_0000.hdf5` | 7 |",
        "| `SATURATED` | 3 | At least one input was saturated here. |",
        "| `carried/flux_r` | float32 | nJy | Flux in the catalog. |",
        "| `images/flux` | float32 (3, 16, 16) | nJy |",
        "`[2, 3]`",
        "Cite LSST DP9",
    ],
)
def test_card_says(card: str, said: str) -> None:
    assert said in card


def test_card_depends_on_the_contents_alone(card: str, tmp_path: Path) -> None:
    """Another directory, another run, another host: the same text."""
    product = SmallProduct(tmp_path / "some" / "where").make()
    manifest = read_manifest(product.out).model_copy(update={"execution": {"host": "elsewhere"}})
    assert data_card(product.out, manifest) == card
    assert "/" + tmp_path.name not in card


def test_incomplete_product_says_so_at_the_top(product: SmallProduct) -> None:
    manifest = read_manifest(product.out).model_copy(update={"complete": False})
    assert "incomplete" in data_card(product.out, manifest)[:500]


def test_files_with_other_backgrounds_are_named(tmp_path: Path) -> None:
    product = SmallProduct(tmp_path, sizes=(9, 16)).make()
    with h5py.File(next(product.out.glob("size=9/*")), "r+") as file:
        del file["meta/background"]
        file["meta/background"] = ""
    card = data_card(product.out, read_manifest(product.out))
    assert "- `size=9/cutouts_size9_tract7_0000.hdf5`: the input images do not say" in card
    assert "- `size=16/cutouts_size16_tract7_0000.hdf5`: the background model `object`" in card


def test_images_that_do_not_tell_their_background_are_not_said_to_have_the_others(tmp_path: Path) -> None:
    """As where some bands have images of another layout."""
    product = SmallProduct(tmp_path).make()
    sentence = "images in i do not say which background model was subtracted"
    assert sentence not in data_card(product.out, read_manifest(product.out))
    with h5py.File(next(product.out.glob("size=16/*")), "r+") as file:
        (place,) = np.argwhere(file["provenance/dataset_uuid"][:, 2] != b"")[:1]
        file["provenance/background"][int(place[0]), 2] = b""
    card = data_card(product.out, read_manifest(product.out))
    assert f"`object` has been subtracted.\n- Some or all {sentence}.\n" in card


def test_files_for_aladin_and_topcat_are_named_where_they_are(product: SmallProduct) -> None:
    manifest = read_manifest(product.out)
    moc = ProductFile(path="coverage.moc.fits", sha256="0" * 64, bytes=2880)
    assert "coverage.moc.fits" not in data_card(product.out, manifest)
    card = data_card(product.out, manifest.model_copy(update={"files": (*manifest.files, moc)}))
    assert "- `coverage.moc.fits`: what the cutouts cover" in card
    assert "status.vot" not in card


def test_absent_planes_are_not_described(tmp_path: Path) -> None:
    product = SmallProduct(tmp_path, planes=("image",)).make()
    card = data_card(product.out, read_manifest(product.out))
    assert "images/variance" not in card
    assert "## PSF" not in card
    assert "| plane |" not in card
    assert "Noise" not in card


def test_noise_and_mask_fractions_are_described_where_they_were_asked_for(tmp_path: Path) -> None:
    """One image of i is made not to have them."""
    product = SmallProduct(tmp_path, planes=("image", "noise", "mask_fraction")).make()
    card = data_card(product.out, read_manifest(product.out))
    assert (
        "`images/noise` holds 6 noise realizations: pictures of noise alone, in the image's unit.\n" in card
    )
    assert "(`clipped`, `odd`, `rejected`, `spotty`), the weight of the inputs" in card
    assert "have none" not in card
    with h5py.File(next(product.out.glob("size=16/*")), "r+") as file:
        (place,) = np.argwhere(file["provenance/extra_planes"][:, 2] != b"")
        file["provenance/extra_planes"][int(place[0]), 2] = b"mask_fraction/odd"
    card = data_card(product.out, read_manifest(product.out))
    assert "in the image's unit. Some or all images in i have none: it is NaN there.\n" in card
    assert card.count("have none") == 1


def test_planes_that_no_image_has_are_said_to_be_missing(tmp_path: Path) -> None:
    product = SmallProduct(tmp_path, planes=("image",)).make()
    manifest = read_manifest(product.out)
    manifest = manifest.model_copy(update={"request": {**manifest.request, "planes": ["image", "noise"]}})
    with h5py.File(next(product.out.glob("size=16/*")), "r+") as file:
        file["provenance/extra_planes"] = np.full((2, 3), b"", dtype="S1")
    assert "- `noise` was asked for, but none of the input images has it.\n" in data_card(
        product.out, manifest
    )


@pytest.mark.parametrize(
    ("state", "requested", "said"),
    [
        ("none", "none", "none of the background models of the input images is subtracted."),
        ("pretty", "Pretty", "the background model `pretty` has been subtracted."),
    ],
)
def test_background_that_is_not_the_stored_one_is_said(
    tmp_path: Path, state: str, requested: str, said: str
) -> None:
    product = SmallProduct(tmp_path).make()
    with h5py.File(next(product.out.glob("size=16/*")), "r+") as file:
        for name, text in (("background", state), ("background_requested", requested)):
            del file[f"meta/{name}"]
            file[f"meta/{name}"] = text
    card = data_card(product.out, read_manifest(product.out))
    assert f"- All files: {said}\n- The request asked for `{requested}`" in card
