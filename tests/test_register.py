# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""The register of campaigns: complete, private, and in nobody's way."""

from __future__ import annotations

import getpass
import json
import logging
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from lsst.dax.bulkcutout.campaign import Campaign
from lsst.dax.bulkcutout.quantum_graph_builder import build_graph
from lsst.dax.bulkcutout.submit import prepare
from lsst.dax.bulkcutout.watch import register
from lsst.dax.bulkcutout.watch.register import known_campaigns, note_campaign, read_register


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BULKCUTOUT_CAMPAIGNS", str(tmp_path / "register"))
    return tmp_path / "register"


def make_campaign(root: Path) -> Campaign:
    root.mkdir(parents=True)
    return Campaign(root)


def test_submitted_campaign_is_known(coded_request: Path) -> None:
    campaign = prepare(coded_request, site="htcondor")
    (entry,) = read_register()
    assert (entry.campaign, entry.site, entry.operator) == (campaign, "htcondor", getpass.getuser())
    assert known_campaigns() == [campaign]


def test_site_by_path_is_known_by_its_name(coded_request: Path, tmp_path: Path) -> None:
    (tmp_path / "my-site.yaml").write_text("computeSite: here\n")
    prepare(coded_request, site=str(tmp_path / "my-site.yaml"))
    assert [entry.site for entry in read_register()] == ["my-site"]


def test_campaign_of_bps_submit_by_hand_is_known(coded_request: Path, tmp_path: Path) -> None:
    """All that BPS calls is build-graph."""
    campaign = Campaign(tmp_path / "by-hand")
    build_graph(campaign, tmp_path / "x.qg", output_run="u/x/1", request_file=coded_request)
    assert known_campaigns() == [campaign]


def test_build_graph_leaves_what_submit_has_noted(tmp_path: Path) -> None:
    campaign = make_campaign(tmp_path / "one")
    note_campaign(campaign, "usdf")
    (first,) = read_register()
    note_campaign(campaign)
    assert read_register() == [first]
    note_campaign(campaign, "local")
    assert [(entry.site, entry.noted) for entry in read_register()] == [("local", first.noted)]


def test_deleted_campaign_is_forgotten(tmp_path: Path, directory: Path) -> None:
    campaigns = [make_campaign(tmp_path / name) for name in ("one", "two")]
    for campaign in campaigns:
        note_campaign(campaign)
    campaigns[0].root.rmdir()
    assert known_campaigns() == campaigns[1:]
    assert len(list(directory.iterdir())) == 1


def test_campaign_on_a_file_system_that_is_away_is_kept(tmp_path: Path) -> None:
    campaign = make_campaign(tmp_path / "mount" / "one")
    note_campaign(campaign)
    (tmp_path / "mount").rename(tmp_path / "away")
    assert known_campaigns() == []
    (tmp_path / "away").rename(tmp_path / "mount")
    assert known_campaigns() == [campaign]


def test_two_names_of_a_campaign_are_one(tmp_path: Path) -> None:
    campaign = make_campaign(tmp_path / "one")
    (tmp_path / "link").symlink_to(campaign.root)
    note_campaign(campaign)
    note_campaign(Campaign(tmp_path / "link"))
    assert known_campaigns() == [campaign]


def test_nobody_else_can_read_it(tmp_path: Path, directory: Path) -> None:
    old = os.umask(0)
    try:
        note_campaign(make_campaign(tmp_path / "one"))
    finally:
        os.umask(old)
    modes = [stat.S_IMODE(path.stat().st_mode) for path in (directory, *directory.iterdir())]
    assert modes == [0o700, 0o600]


def test_directory_that_a_group_shares_is_shared(tmp_path: Path, directory: Path) -> None:
    directory.mkdir()
    directory.chmod(0o2770)
    note_campaign(make_campaign(tmp_path / "one"))
    assert [stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()] == [0o660]


def test_register_that_cannot_be_written_is_a_warning(
    coded_request: Path, directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    directory.write_text("not a directory")
    with caplog.at_level(logging.WARNING):
        campaign = prepare(coded_request, site="local")
    assert campaign.request.exists()
    assert "`bulkcutout list` will not know campaign" in caplog.text
    assert known_campaigns() == []


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", "7", '{"campaign": 3, "site": "", "operator": "", "noted": "today"}']
)
def test_broken_entry_hides_no_other(
    text: str, tmp_path: Path, directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    campaign = make_campaign(tmp_path / "one")
    note_campaign(campaign)
    (directory / "0.json").write_text(text)
    assert known_campaigns() == [campaign]
    assert "0.json" in caplog.text


def test_entry_that_was_broken_is_written_anew(tmp_path: Path, directory: Path) -> None:
    campaign = make_campaign(tmp_path / "one")
    note_campaign(campaign, "usdf")
    (path,) = directory.iterdir()
    path.write_text("{")
    note_campaign(campaign, "usdf")
    assert json.loads(path.read_text())["site"] == "usdf"


def test_many_at_once_lose_nothing(tmp_path: Path) -> None:
    """Several processes note the same campaigns, and their own."""
    names = [f"{number}" for number in range(8)]
    for name in names:
        make_campaign(tmp_path / "many" / name)
    code = (
        "import sys; from pathlib import Path\n"
        "from lsst.dax.bulkcutout.campaign import Campaign\n"
        "from lsst.dax.bulkcutout.watch.register import note_campaign\n"
        "for name in sys.argv[2:]: note_campaign(Campaign(Path(sys.argv[1]) / name), 'local')"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "many")]
    processes = [subprocess.Popen([*command, *names[turn:], *names[:turn]]) for turn in (0, 3, 5)]
    assert [process.wait() for process in processes] == [0, 0, 0]
    assert {campaign.root.name for campaign in known_campaigns()} == set(names)


def test_directory_is_where_the_environment_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BULKCUTOUT_CAMPAIGNS")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    assert register.register_directory() == tmp_path / "state" / "bulkcutout" / "campaigns"
    # As its specification has it, a relative one counts for nothing.
    monkeypatch.setenv("XDG_STATE_HOME", "state")
    assert register.register_directory() == tmp_path / "home/.local/state/bulkcutout/campaigns"


def test_register_that_is_not_there_is_empty(directory: Path) -> None:
    shutil.rmtree(directory, ignore_errors=True)
    assert known_campaigns() == []
    assert not directory.exists()
