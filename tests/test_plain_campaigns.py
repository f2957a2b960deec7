# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Plain images with all that a request can want of them at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import astropy.io.fits
import galsim
import galsim.des
import numpy as np
from plain_files import coded, header, sky, write
from test_header_wcs import TPV
from test_ingest import CODES, make_companions, write_request

from lsst.dax.bulkcutout import open_cutouts
from lsst.dax.bulkcutout.campaign import Campaign
from lsst.dax.bulkcutout.estimate.forecast import estimate_request
from lsst.dax.bulkcutout.finish import COMPLETE, finish
from lsst.dax.bulkcutout.ingest.repository import ingest
from lsst.dax.bulkcutout.manifest import read_manifest
from lsst.dax.bulkcutout.tests.campaigns import run_here
from lsst.dax.bulkcutout.top_up import top_up
from lsst.dax.bulkcutout.verify.product import verify_product

KERNEL = 13
"""Side of the kernels of `write_psfex`: 25 mask pixels of half a pixel."""


def write_psfex(path: Path) -> Path:
    """Write a PSF that gets wider to the right and narrower to the top."""
    y, x = np.mgrid[-12:13, -12:13]
    wide, usual, narrow = (np.exp(-(x**2 + y**2) / 2 / s**2) / s**2 for s in (4.4, 3.2, 2.6))
    masks = np.stack([usual, 0.6 * (wide - usual), 0.5 * (narrow - usual)]).astype("f4")
    column = astropy.io.fits.Column("PSF_MASK", f"{masks.size}E", dim="(25, 25, 3)", array=masks[np.newaxis])
    table = astropy.io.fits.BinTableHDU.from_columns([column], name="PSF_DATA")
    cards: dict[str, Any] = {"POLNAXIS": 2, "POLNGRP": 1, "POLDEG1": 1, "PSF_SAMP": 0.5, "PSFNAXIS": 3}
    for axis, (name, n) in enumerate((("X_IMAGE", 90), ("Y_IMAGE", 70)), start=1):
        cards |= {f"POLGRP{axis}": 1, f"POLNAME{axis}": name, f"PSFAXIS{axis}": 25}
        cards |= {f"POLZERO{axis}": n / 2, f"POLSCAL{axis}": float(n)}
    table.header.update(cards | {"PSFAXIS3": 3, "LOADED": 40, "ACCEPTED": 33, "CHI2": 1.1, "PSF_FWHM": 3.8})
    path.parent.mkdir(parents=True, exist_ok=True)
    astropy.io.fits.HDUList([astropy.io.fits.PrimaryHDU(), table]).writeto(path)
    return path


PLANES = ["image", "variance", "mask"]
PATTERNS = {"weight": "*_wht.fits", "mask": "*_msk.fits"}


def test_other_companions_are_cut_anew(tmp_path: Path) -> None:
    """More of them, and other meanings of a mask's codes; but not the same
    again.
    """
    folder = tmp_path / "in"
    make_companions(folder)
    report = ingest([folder], tmp_path / "repo", companions=PATTERNS)
    position = tuple(map(float, sky(folder / "a_g_sci.fits", 42.0, 33.0)))
    part = np.s_[25:41, 34:50]
    codes = astropy.io.fits.getdata(folder / "a_g_msk.fits")[part]
    steps: list[tuple[dict[str, Any], int]] = [
        ({"mask": "image_mask", "mask_codes": CODES}, 1),
        ({"mask": "image_mask", "mask_codes": CODES}, 0),
        ({"mask": "image_mask", "mask_codes": {"CR": 1}}, 1),
        ({"mask": "image_mask", "mask_codes": {"CR": 1}, "weight": "image_weight"}, 1),
    ]
    campaign = Campaign(tmp_path / "run" / "campaign")
    for number, (companions, to_cut) in enumerate(steps):
        request = write_request(tmp_path / "run", report, [position], planes=PLANES, companions=companions)
        if number:
            assert top_up(campaign, request) == to_cut
        if to_cut:
            status = run_here(request)[1]
        else:
            status = finish(campaign)
        assert status == COMPLETE
        with open_cutouts(tmp_path / "run" / "out") as cutouts:
            code = companions["mask_codes"]["CR"]
            assert np.array_equal(cutouts[0].mask_plane("CR", "g"), codes == code)
            assert np.isfinite(cutouts[0].variance("g")).any() == ("weight" in companions)
        verified = verify_product(tmp_path / "run" / "out")
        assert verified.ok, str(verified)


def test_images_that_lack_a_companion_are_named(tmp_path: Path) -> None:
    """In the plan, the manifest and the data card; the others have theirs."""
    folder = tmp_path / "in"
    make_companions(folder)
    write_psfex(folder / "a_r.psf")
    (folder / "a_r_wht.fits").unlink()
    report = ingest([folder], tmp_path / "repo", companions={**PATTERNS, "psf": "*.psf"})
    position = tuple(map(float, sky(folder / "a_g_sci.fits", 42.0, 33.0)))
    request = write_request(tmp_path / "run", report, [position], planes=[*PLANES, "psf"])
    campaign, status = run_here(request)
    assert status == COMPLETE
    weight, psf = campaign.read_plan().warnings
    assert "Of 2 images 1 have no weight (dataset type 'image_weight')" in weight
    assert "tract 0, patch 0, band r" in weight
    assert "Of 2 images 1 have no psf" in psf and "band g" in psf
    out = tmp_path / "run" / "out"
    assert read_manifest(out).execution["warnings"] == [weight, psf]
    card = (out / "README.md").read_text()
    assert "- Of 2 images 1 have no weight (`image_weight`), 1 in r: the variance" in card
    assert "- Of 2 images 1 have no psf (`image_psf`), 1 in g: " in card
    assert "have no mask" not in card
    with open_cutouts(out) as cutouts:
        assert np.isnan(cutouts[0].variance("r")).all() and np.isfinite(cutouts[0].variance("g")).any()
        assert np.isnan(cutouts[0].psf("g")).all() and np.isfinite(cutouts[0].psf("r")).all()


def test_variances_that_no_image_has_are_warned_of(tmp_path: Path) -> None:
    write(tmp_path / "in" / "a.fits", coded(), FILTER="g")
    report = ingest([tmp_path / "in"], tmp_path / "repo")
    position = tuple(map(float, sky(tmp_path / "in" / "a.fits", 42.0, 33.0)))
    request = write_request(tmp_path / "run", report, [position], planes=PLANES)
    campaign, _ = run_here(request)
    (warning,) = campaign.read_plan().warnings
    assert "Plane 'variance' is asked for, but the images have none" in warning


def test_estimate_counts_companions(tmp_path: Path) -> None:
    """The kernels of a PSF file, and the bytes of all files."""
    folder = tmp_path / "in"
    make_companions(folder)
    write_psfex(folder / "a_r.psf")
    report = ingest([folder], tmp_path / "repo", companions={**PATTERNS, "psf": "*.psf"})
    position = tuple(map(float, sky(folder / "a_g_sci.fits", 42.0, 33.0)))
    request = write_request(tmp_path / "run", report, [position], planes=[*PLANES, "psf"])
    estimate = estimate_request(request)
    (psf,) = (price for price in estimate.output if price.plane == "psf")
    assert psf.bytes == 2 * 4 * KERNEL**2
    assert estimate.image_bytes == sum(path.stat().st_size for path in folder.iterdir())
    assert estimate.images == 2


def test_psfex_kernels_are_those_of_galsim(tmp_path: Path) -> None:
    """From the files to the product, at places far apart in the image."""
    folder = tmp_path / "in"
    write(folder / "a.fits", coded(), header("TPV", **TPV), FILTER="g")
    path = write_psfex(folder / "a.psf")
    report = ingest([folder], tmp_path / "repo", companions={"psf": "*.psf"})
    pixels = np.array([[5.2, 8.4], [80.7, 11.1], [44.0, 63.6], [86.3, 66.9]])
    positions = list(zip(*(each.tolist() for each in sky(folder / "a.fits", *pixels.T)), strict=True))
    request = write_request(tmp_path / "run", report, positions, planes=["image", "psf"])
    assert run_here(request)[1] == COMPLETE
    model = galsim.des.DES_PSFEx(str(path))
    with open_cutouts(tmp_path / "run" / "out") as cutouts:
        kernels = [cutouts.by_row(row).psf("g") for row in range(len(pixels))]
    for kernel, (x, y) in zip(kernels, pixels.tolist(), strict=True):
        # The kernel is that of the target's pixel; GalSim counts from one.
        place = galsim.PositionD(round(x) + 1, round(y) + 1)
        image = model.getPSF(place).drawImage(nx=KERNEL, ny=KERNEL, scale=1.0, method="no_pixel").array
        assert kernel.shape == image.shape == (KERNEL, KERNEL)
        assert np.abs(kernel - image / image.sum()).max() < 2e-4 * image.max()
    assert np.abs(kernels[0] - kernels[1]).max() > 0.1 * kernels[0].max()
    verified = verify_product(tmp_path / "run" / "out")
    assert verified.ok, str(verified)
