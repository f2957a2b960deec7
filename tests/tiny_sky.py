# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""The smallest sky on which a campaign can go wrong: tests that run many of
them share it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lsst.dax.bulkcutout.tests import SkyRepository, make_repo, tangent_layout, tangent_tract

TRACT = 3
BANDS = ("g", "r")
ONE_BAND = (TRACT, 2, "r")
"""This image does not exist."""

SIZE = 9


@pytest.fixture(scope="session")
def tiny_repo(tmp_path_factory: pytest.TempPathFactory) -> SkyRepository:
    """Three patches of 100 x 125 px in a row, at a place whose degrees could
    be radians; the last one has one band only.
    """
    layout = tangent_layout(
        [
            tangent_tract(
                TRACT, center=(1.0, 0.5), n_patches=(1, 3), inner=(50, 75), border=(25, 25), cell=(25, 25)
            )
        ]
    )
    return make_repo(
        tmp_path_factory.mktemp("tiny") / "repo",
        layout=layout,
        bands=BANDS,
        pixels="coordinates",
        missing=[ONE_BAND],
        psf_shape=(5, 7),
    )


def tiny_positions(
    repo: SkyRepository, patch: int, n: int, *, seed: int = 5
) -> tuple[np.ndarray, np.ndarray]:
    """Random positions in the inner region of a patch, degrees."""
    rng = np.random.default_rng((seed, patch))
    box = repo.layout.patch(TRACT, patch).inner
    x, y = rng.uniform(box.x0, box.x1 - 1, n), rng.uniform(box.y0, box.y1 - 1, n)
    ra, dec = repo.layout.tracts[TRACT].pixel_to_sky(x, y)
    return ra, dec


def tiny_table(repo: SkyRepository, n: int = 6, **columns: Any) -> pa.Table:
    """A catalog of some targets in each patch; columns can be replaced."""
    ra, dec = np.concatenate([tiny_positions(repo, patch, n) for patch in range(3)], axis=1)
    return pa.table({"id": np.arange(100, 100 + len(ra)), "ra": ra, "dec": dec, **columns})


@pytest.fixture
def tiny_catalog(tiny_repo: SkyRepository, tmp_path: Path) -> Path:
    """18 good targets."""
    path = tmp_path / "catalog.parquet"
    pq.write_table(tiny_table(tiny_repo), path)
    return path
