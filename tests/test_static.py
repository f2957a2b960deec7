# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""The checks that need no run of our code: ruff and mypy."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    "command",
    [
        pytest.param("ruff check --no-cache --quiet --output-format=concise", id="ruff-check"),
        pytest.param("ruff format --no-cache --quiet --diff", id="ruff-format"),
        pytest.param("mypy", id="mypy"),
    ],
)
def test_code_passes(command: str) -> None:
    """Settings are in pyproject.toml; `ruff format` repairs the layout."""
    tool = command.split()[0]
    if importlib.util.find_spec(tool) is None:
        pytest.skip(f"{tool} is not installed")
    run = subprocess.run(
        [sys.executable, "-m", *command.split()], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if run.returncode != 0:
        pytest.fail(f"{command}:\n{run.stdout}{run.stderr}", pytrace=False)
