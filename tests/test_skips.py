# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""The account of skips that ends each session (see conftest.py)."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CONFTEST = Path(__file__).with_name("conftest.py")

TESTS = """
import pytest

def test_that_runs():
    pass

@pytest.mark.parametrize("case", ["a b"])
def test_that_needs_a_camera(case):
    pytest.skip("no camera here")
"""


def run_session(directory: Path, allowed: str, *, ci: str) -> subprocess.CompletedProcess[str]:
    """Run pytest on two tests of which one is skipped."""
    for path in (CONFTEST, *CONFTEST.parent.glob("*_sky.py")):
        if not path.name.startswith("test_"):
            shutil.copy(path, directory)
    directory.joinpath("test_camera.py").write_text(TESTS)
    directory.joinpath("allowed_skips.txt").write_text(allowed)
    environment = os.environ | {"CI": ci, "PYTEST_ADDOPTS": "", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--rootdir", directory, directory],
        cwd=directory,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("allowed", "ci", "code"),
    [
        pytest.param("", "false", 0, id="anything-goes-at-home"),
        pytest.param("", "true", 1, id="nothing-allowed"),
        pytest.param("*camera*|no camera*|machines of CI have none", "true", 0, id="allowed"),
        pytest.param("*camera*|broken lens|we wait for a new one", "true", 1, id="another-reason"),
        pytest.param("*camera*|no camera*", "true", 4, id="does-not-say-why"),
    ],
)
def test_skip_that_is_not_allowed_fails_ci(tmp_path: Path, allowed: str, ci: str, code: int) -> None:
    """Test, reason and why are all needed; the table is there either way."""
    run = run_session(tmp_path, allowed, ci=ci)
    assert run.returncode == code, run.stdout + run.stderr
    if code != 4:
        assert "test_camera.py::test_that_needs_a_camera[a b]  no camera here" in run.stdout
        assert "1 passed, 1 skipped" in run.stdout.splitlines()[-1]


def test_list_of_this_package_can_be_read(tmp_path: Path) -> None:
    """A mistake in allowed_skips.txt shows here, not at the first skip."""
    run = run_session(tmp_path, CONFTEST.with_name("allowed_skips.txt").read_text(), ci="false")
    assert run.returncode == 0, run.stdout + run.stderr
