# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""What holds for every test: settings of hypothesis, who runs it, and the
account of skips.

A skipped test proves nothing, so a session ends with a table of them. With
``CI=true`` a skip that `allowed_skips.txt` does not allow fails the session.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

import hypothesis
import pytest
from coded_sky import coded_catalog, coded_repo, coded_request
from tiny_sky import tiny_catalog, tiny_repo

from lsst.dax.bulkcutout.watch.register import CAMPAIGNS_VARIABLE

__all__ = ("coded_catalog", "coded_repo", "coded_request", "tiny_catalog", "tiny_repo")

ALLOWED_SKIPS = Path(__file__).with_name("allowed_skips.txt")
IN_CI = os.environ.get("CI", "").lower() in ("1", "true")

# Machines that run tests are shared and slow at times: a deadline for one
# example says more about the neighbours than about the code.
hypothesis.settings.register_profile("here", deadline=None)
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
hypothesis.settings.load_profile("ci" if IN_CI else "here")


@pytest.fixture(scope="session", autouse=True)
def campaigns_of_this_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The register of campaigns: that of whoever tests is left alone."""
    directory = tmp_path_factory.mktemp("state") / "campaigns"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(CAMPAIGNS_VARIABLE, str(directory))
        yield directory


class Skip(NamedTuple):
    """One skipped test, or one pattern of `allowed_skips.txt`."""

    test: str
    reason: str


def read_allowed_skips(path: Path = ALLOWED_SKIPS) -> list[Skip]:
    """Return the patterns that the file allows; each must say why."""
    allowed = []
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        parts = [part.strip() for part in line.split("|")]
        if len(parts) != 3 or not all(parts):
            raise pytest.UsageError(f"{path}:{number}: expected 'test | reason | why', not {line!r}")
        allowed.append(Skip(parts[0], parts[1]))
    return allowed


def skips_of(config: pytest.Config) -> Iterator[Skip]:
    """Yield what was skipped so far, whole modules included."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    for report in reporter.stats.get("skipped", []) if reporter is not None else []:
        longrepr = report.longrepr
        reason = longrepr[2] if isinstance(longrepr, tuple) else str(longrepr)
        test = report.nodeid
        yield Skip(test, " ".join(reason.removeprefix("Skipped: ").split()))


def is_allowed(skip: Skip, allowed: list[Skip]) -> bool:
    """Tell whether one of the patterns fits both the test and the reason."""
    return any(
        fnmatchcase(skip.test, pattern.test) and fnmatchcase(skip.reason, pattern.reason)
        for pattern in allowed
    )


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail a session in CI that would pass in spite of a skip not allowed."""
    if not IN_CI or session.exitstatus != pytest.ExitCode.OK:
        return
    allowed = read_allowed_skips()
    if any(not is_allowed(skip, allowed) for skip in skips_of(session.config)):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print the table of skips above pytest's own last line."""
    skips = sorted(set(skips_of(config)))
    terminalreporter.section(f"skips: {len(skips)}")
    if not skips:
        return
    allowed = read_allowed_skips()
    width = max(len(skip.test) for skip in skips)
    n_surprises = 0
    for skip in skips:
        expected = is_allowed(skip, allowed)
        n_surprises += not expected
        terminalreporter.line(f"{' ' if expected else '!'} {skip.test:<{width}}  {skip.reason}")
    if n_surprises:
        terminalreporter.line(
            f"{n_surprises} marked ! not allowed by tests/{ALLOWED_SKIPS.name}: "
            + ("that fails this session" if IN_CI else "in CI that is a failure")
        )
