# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Plain images with all that a request can want of them at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import astropy.io.fits
import numpy as np
from plain_files import sky
from test_ingest import CODES, make_companions, write_request

from lsst.dax.bulkcutout import open_cutouts
from lsst.dax.bulkcutout.campaign import Campaign
from lsst.dax.bulkcutout.finish import COMPLETE, finish
from lsst.dax.bulkcutout.ingest.repository import ingest
from lsst.dax.bulkcutout.tests.campaigns import run_here
from lsst.dax.bulkcutout.top_up import top_up
from lsst.dax.bulkcutout.verify.product import verify_product

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
