# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later
"""The test pool for the tests of this directory; all are marked `cluster`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).parent
# pytest does it by itself in one of its import modes only.
sys.path.insert(0, str(HERE))
pytest.register_assert_rewrite("campaign_check")

from campaign_check import CheckedSky, Stage, make_sky  # noqa: E402 (needs the line above)
from pool import Pool  # noqa: E402
from pool_setup import PoolUnavailableError, hold, install, tests_directory  # noqa: E402

# As long as another session with the same checkout may take.
WAIT_FOR_OTHERS_S = 1800.0


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of this directory."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker("cluster")


@pytest.fixture(scope="session")
def installed_pool_programs() -> None:
    """SLURM and HTCondor; where they cannot be had, the tests are skipped."""
    try:
        install()
    except PoolUnavailableError as reason:
        pytest.skip(f"no test pool: {reason}")


@pytest.fixture(scope="session")
def pool(installed_pool_programs: None) -> Iterator[Pool]:
    """A running pool without glideins; `glideins` brings some."""
    directory = tests_directory()
    with hold(directory, deadline_s=WAIT_FOR_OTHERS_S):
        pool = Pool(directory)
        try:
            pool.start()
            yield pool
        finally:
            pool.stop()


@pytest.fixture
def glideins(pool: Pool) -> list[str]:
    """SLURM's ids of two glideins, whatever a test before did to them."""
    return pool.need_glideins(2)


@pytest.fixture(scope="session")
def checked_sky(tmp_path_factory: pytest.TempPathFactory) -> CheckedSky:
    """44 patches in two tracts, and a catalog; see `Stage`."""
    return make_sky(tmp_path_factory.mktemp("sky"))


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, checked_sky: CheckedSky) -> dict[str, str]:
    """Checksums of the product that ``bps submit`` makes of it on Parsl."""
    stage = Stage(tmp_path_factory.mktemp("parsl"), checked_sky, None)
    stage.bulkcutout("submit", stage.request, "--prepare-only")
    stage.run("bps", "submit", stage.campaign / "bps.yaml")
    stage.check()
    return stage.digests()


@pytest.fixture
def stage(tmp_path: Path, checked_sky: CheckedSky, pool: Pool, glideins: list[str]) -> Stage:
    """The place of a campaign on that sky, on the pool with two glideins."""
    # A test that has failed leaves its jobs to nobody.
    pool.exec("condor_rm", "-all", check=False)
    return Stage(tmp_path / "stage", checked_sky, pool)
