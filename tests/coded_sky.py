# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Repositories and catalogs that several test modules share."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lsst.dax.bulkcutout.tests import SkyRepository, make_repo, tangent_layout, tangent_tract
from lsst.dax.bulkcutout.tests.campaigns import write_request

BANDS = ("g", "r", "i")

# Patch 1 of tract 3 has no i; patch 0 of tract 8 has masks of other bits.
MISSING_IMAGE = (3, 1, "i")
MISSING_CELL = (3, 0, "r")
OTHER_MASKS = (8, 0)


@pytest.fixture(scope="session")
def coded_repo(tmp_path_factory: pytest.TempPathFactory) -> SkyRepository:
    """Two tracts of two patches, 250 x 300 px, whose pixel values tell band,
    plane, patch and place.
    """
    layout = tangent_layout(
        [
            tangent_tract(3, center=(150.0, 2.2), rotation_deg=20.0),
            tangent_tract(8, center=(150.1, 2.2), n_patches=(2, 1), origin=(-70, 4000)),
        ]
    )
    other = ("CLIPPED", "NO_DATA", "SATURATED", "VIGNETTED", "INEXACT_PSF")
    return make_repo(
        tmp_path_factory.mktemp("coded") / "repo",
        layout=layout,
        bands=BANDS,
        pixels="coordinates",
        missing=[MISSING_IMAGE],
        missing_cells={MISSING_CELL: [(1, 2)]},
        mask_planes={(*OTHER_MASKS, band): other for band in BANDS},
    )


@pytest.fixture(scope="session")
def coded_catalog(coded_repo: SkyRepository, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some 240 targets all over the images, over their edges and beyond, and
    rows that are bad; ids are text.
    """
    rng = np.random.default_rng(11)
    ra, dec = [], []
    for tract in coded_repo.layout.tracts.values():
        for patch in tract.patches.values():
            box = patch.outer
            x = rng.uniform(box.x0 - 8, box.x1 + 8, 60)
            y = rng.uniform(box.y0 - 8, box.y1 + 8, 60)
            sky = tract.pixel_to_sky(x, y)
            ra += sky[0].tolist()
            dec += sky[1].tolist()
    # On borders of pixels and cells, where rounding decides.
    tract = coded_repo.layout.tracts[3]
    box = tract.patches[0].outer
    sky = tract.pixel_to_sky(
        np.array([box.x0 + 50.0, box.x0 + 99.5]), np.array([box.y0 + 50.0, box.y0 + 20.5])
    )
    ra += [*sky[0].tolist(), float("nan"), 10.0, 150.0]
    dec += [*sky[1].tolist(), 2.2, -80.0, 91.0]
    n = len(ra)
    weight = pa.array(rng.normal(size=n).astype(np.float32), mask=np.arange(n) % 7 == 0)
    table = pa.table(
        {
            "id": pa.array([f"α-{row}" for row in range(n)]),
            "ra": ra,
            "dec": dec,
            "weight": weight,
            "flag": pa.array(rng.integers(0, 2, n).astype(bool), mask=np.arange(n) % 5 == 0),
        }
    )
    field = table.schema.field("weight").with_metadata({"unit": "mag", "description": "Weight of a row."})
    table = table.set_column(3, field, table["weight"])
    path = tmp_path_factory.mktemp("catalog") / "coded.parquet"
    pq.write_table(table, path)
    return path


@pytest.fixture
def coded_request(tmp_path: Path, coded_repo: SkyRepository, coded_catalog: Path) -> Path:
    """A request for all bands and planes of 24 px, in files of 50 rows."""
    return write_request(
        tmp_path,
        coded_repo,
        coded_catalog,
        catalog={"uri": str(coded_catalog), "carry": ["weight", "flag"]},
        partition={"max_rows_per_file": 50},
    )
