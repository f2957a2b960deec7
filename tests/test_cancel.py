# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""A campaign that is not to go on."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from lsst.dax.bulkcutout.campaign import Campaign
from lsst.dax.bulkcutout.cli import main
from lsst.dax.bulkcutout.quantum_outputs import read_outputs
from lsst.dax.bulkcutout.tests import SkyRepository
from lsst.dax.bulkcutout.tests.campaigns import init_and_run, write_request


@pytest.mark.parametrize("command", ["init-run", "run-quanta"])
def test_job_that_sees_the_marker_ends_at_once(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the status that BPS does not try again."""
    campaign = Campaign(tmp_path)
    campaign.cancelled.write_text("{}")
    monkeypatch.setattr(sys, "argv", ["bulkcutout", command, str(campaign.butler_config), "graph.qg"])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 2 and f"{tmp_path} was cancelled" in capsys.readouterr().err


def test_job_that_has_begun_ends_before_its_next_patch(
    tmp_path: Path, coded_repo: SkyRepository, coded_catalog: Path
) -> None:
    """The marker is there when the task begins, not when the job did."""
    request = write_request(tmp_path, coded_repo, coded_catalog)
    campaign = Campaign(tmp_path / "campaign")
    campaign.root.mkdir()
    campaign.cancelled.write_text("{}")
    with pytest.raises(SystemExit) as stop:
        init_and_run(request)
    assert stop.value.code == 2
    outputs = read_outputs(campaign)
    assert len(outputs) == 4 and not any(output.done for output in outputs.values())
