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

from pool import Pool  # noqa: E402 (needs the line above)
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


# Not of the session: where several processes test, the pool goes on from one
# to the other when the first has done with its module.
@pytest.fixture(scope="module")
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
