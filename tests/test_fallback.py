# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Another patch stands in where that of the rule has no image: from the
request to the product.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import astropy.io.fits
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tiny_sky import SIZE, TRACT

from lsst.dax.bulkcutout import open_cutouts
from lsst.dax.bulkcutout.errors import UserError
from lsst.dax.bulkcutout.finish import COMPLETE, PARTIAL
from lsst.dax.bulkcutout.manifest import read_manifest
from lsst.dax.bulkcutout.tests import SkyRepository
from lsst.dax.bulkcutout.tests.campaigns import run_here, write_request
from lsst.dax.bulkcutout.top_up import top_up
from lsst.dax.bulkcutout.verify.product import verify_product

BESIDE, WITHOUT = 1, 2
"""Patch 2 has no image in r."""


@pytest.fixture
def catalog(tiny_repo: SkyRepository, tmp_path: Path) -> Path:
    """Four targets: where the image of patch 1 reaches over patch 2, deep in
    patch 2, in patch 1, and again the first.
    """
    tract = tiny_repo.layout.tracts[TRACT]
    box = tract.patches[WITHOUT].inner
    x = np.array([box.x0 + 9.25, box.x0 + 60.0, box.x0 - 20.5, box.x0 + 8.0])
    ra, dec = tract.pixel_to_sky(x, np.full(4, box.y0 + 20.0))
    path = tmp_path / "catalog.parquet"
    pq.write_table(pa.table({"id": np.arange(4), "ra": ra, "dec": dec}), path)
    return path


def digests(directory: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in directory.glob("size=*/*")}


def test_fallback_is_delivered_flagged_and_gone_when_the_image_is_there(
    tiny_repo: SkyRepository, catalog: Path, tmp_path: Path
) -> None:
    """In r patch 2 has no image, in g it has: with more bands the rows go
    back to their own patch, as if it had been so from the start.
    """
    request = write_request(tmp_path / "one", tiny_repo, catalog, size=SIZE, bands=["r"])
    out = tmp_path / "one" / "out"
    campaign, status = run_here(request, fail=[(TRACT, BESIDE)])
    assert status == PARTIAL and campaign.read_plan().fallback == 2
    campaign, status = run_here(request)
    assert status == COMPLETE
    answers = pq.read_table(out / "status.parquet").to_pylist()
    assert [(a["status"], a["patch"], a["fallback"]) for a in answers] == [
        ("delivered", BESIDE, True),
        ("no_dataset", WITHOUT, False),
        ("delivered", BESIDE, False),
        ("delivered", BESIDE, True),
    ]
    assert read_manifest(out).fallback == 2
    assert "Of the delivered rows 2 are cut from another patch" in " ".join(
        (out / "README.md").read_text().split()
    )
    assert verify_product(out, sample=4).ok
    cutouts = open_cutouts(out)
    assert [cutouts.by_row(row).fallback for row in (0, 2, 3)] == [True, False, True]
    with astropy.io.fits.open(tiny_repo.paths[TRACT, BESIDE, "r"]) as hdus:
        pixels, header = hdus["IMAGE"].data, hdus["IMAGE"].header
    cutout = cutouts.by_row(0)
    box = tiny_repo.layout.patch(TRACT, WITHOUT).inner
    first_x = int(np.ceil(box.x0 + 9.25 - SIZE / 2)) - int(header["CRVAL1A"])
    first_y = int(np.ceil(box.y0 + 20.0 - SIZE / 2)) - int(header["CRVAL2A"])
    np.testing.assert_array_equal(
        cutout.image("r"), pixels[first_y : first_y + SIZE, first_x : first_x + SIZE]
    )
    write_request(tmp_path / "one", tiny_repo, catalog, size=SIZE, bands=["g", "r"])
    assert top_up(campaign, request) == 2
    _, status = run_here(request)
    assert status == COMPLETE
    answers = pq.read_table(out / "status.parquet").to_pylist()
    assert [(a["patch"], a["fallback"]) for a in answers] == [
        (WITHOUT, False),
        (WITHOUT, False),
        (BESIDE, False),
        (WITHOUT, False),
    ]
    run_here(write_request(tmp_path / "two", tiny_repo, catalog, size=SIZE, bands=["g", "r"]))
    assert digests(out) == digests(tmp_path / "two" / "out")
    assert read_manifest(out).fallback == 0


def test_campaign_that_was_planned_before_there_were_fallbacks_is_refused(
    tiny_repo: SkyRepository, catalog: Path, tmp_path: Path
) -> None:
    """Its target table has no such column."""
    campaign, _ = run_here(write_request(tmp_path / "one", tiny_repo, catalog, size=SIZE))
    plan = json.loads(campaign.plan.read_text())
    campaign.plan.write_text(json.dumps(plan | {"plan_version": 1}))
    with pytest.raises(
        UserError, match=r"another version .* \(plan version 1, known is 2\): .* submit it anew"
    ):
        campaign.read_plan()
