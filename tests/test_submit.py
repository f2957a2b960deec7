# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Campaign directories and what BPS is told."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
import yaml

from lsst.ctrl.bps import BpsConfig, BpsSubprocessError
from lsst.ctrl.bps.transform import create_final_command
from lsst.dax.bulkcutout.bps import run
from lsst.dax.bulkcutout.bps.run import run_bps
from lsst.dax.bulkcutout.errors import InternalError, TransientError, UserError
from lsst.dax.bulkcutout.request import load_request
from lsst.dax.bulkcutout.submit import find_campaign, prepare


def test_campaign_is_prepared_beside_the_output(coded_request: Path) -> None:
    campaign = prepare(coded_request, site="local")
    assert campaign.root == coded_request.parent / "out.campaign"
    assert load_request(campaign.request) == load_request(coded_request)
    for place in (campaign.root, coded_request.parent / "out"):
        assert find_campaign(place).root == campaign.root
    # As BPS itself reads it, with all that is included.
    config = BpsConfig(str(campaign.bps_config))
    assert config["campaignDir"] == str(campaign.root)
    assert config["payload", "butlerConfig"] == str(campaign.butler_config)
    script, _ = create_final_command(config, str(coded_request.parent))
    *_, command = Path(script.src_uri).read_text().splitlines()
    cores = str(config["finalJob", "requestCpus"])
    assert command.split() == ["bulkcutout", "-v", "finish", str(campaign.root), "--processes", cores]
    asked = [config["finalJob", key] for key in ("retryUnlessExit", "numberOfRetries", "whenRun")]
    assert asked == [2, 2, "ALWAYS"]
    assert config["retryUnlessExit"] == 2


def test_only_safe_paths_reach_command_lines(coded_request: Path, tmp_path: Path) -> None:
    for name in ("with space", "semi;colon", "$(touch x)", "back`tick"):
        with pytest.raises(UserError, match="letters, digits"):
            prepare(coded_request, site="local", directory=tmp_path / name)


def test_campaign_that_has_run_is_not_replaced(coded_request: Path) -> None:
    campaign = prepare(coded_request, site="local")
    # Nothing has run: the request may still be mended.
    prepare(coded_request, site="htcondor")
    assert "htcondor.yaml" in campaign.bps_config.read_text()
    campaign.graphs.mkdir()
    (campaign.graphs / "0000.qg").touch()
    with pytest.raises(UserError, match="bulkcutout restart"):
        prepare(coded_request, site="local")


def test_sites(coded_request: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"'htcondr' \(did you mean 'htcondor'\?\)"):
        prepare(coded_request, site="htcondr")
    with pytest.raises(UserError, match="no site configuration"):
        prepare(coded_request, site=str(tmp_path / "none.yaml"))
    own = tmp_path / "own.yaml"
    own.write_text("computeSite: here\n")
    campaign = prepare(coded_request, site=str(own))
    assert str(own) in yaml.safe_load(campaign.bps_config.read_text())["includeConfigs"]


def test_campaign_is_named_from_within(coded_request: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    campaign = prepare(coded_request, site="local")
    monkeypatch.chdir(campaign.root)
    assert find_campaign(Path(".")) == find_campaign(Path("../out")) == campaign


def test_no_campaign_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not the directory of a campaign"):
        find_campaign(tmp_path)


@pytest.mark.parametrize(
    ("status", "kind", "said", "message"),
    [
        (
            1,
            UserError,
            "lots of log\nbulkcutout: Request field 'bands': no 'q'.\n",
            "^Request field 'bands': no",
        ),
        (75, TransientError, "bulkcutout: Try again.\n", "^Try again"),
        (70, InternalError, "Traceback ...\n", "build-graph failed; see .*quantumGraphGeneration.out"),
    ],
)
def test_what_build_graph_says_reaches_the_user(
    coded_request: Path,
    monkeypatch: pytest.MonkeyPatch,
    status: int,
    kind: type[Exception],
    said: str,
    message: str,
) -> None:
    """BPS keeps it in a file and says only that the command has failed."""
    campaign = prepare(coded_request, site="local")

    def submit_driver(config: str) -> None:
        directory = campaign.submit / "20260101T000000Z"
        directory.mkdir(parents=True)
        (directory / "quantumGraphGeneration.out").write_text(said)
        raise BpsSubprocessError(status, "failed")

    monkeypatch.setattr("lsst.ctrl.bps.drivers.submit_driver", submit_driver)
    with pytest.raises(kind, match=message):
        run_bps(campaign)


def test_partial_product_is_no_error_of_submission(
    coded_request: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parsl raises where finish exits with 2; it left a note."""
    campaign = prepare(coded_request, site="local")

    def submit_driver(config: str) -> None:
        campaign.finish_log.write_text(json.dumps({"status": 2, "message": ""}))
        raise subprocess.CalledProcessError(2, "finish")

    monkeypatch.setattr("lsst.ctrl.bps.drivers.submit_driver", submit_driver)
    run_bps(campaign)

    def die(config: str) -> None:
        raise subprocess.CalledProcessError(137, "finish")

    monkeypatch.setattr("lsst.ctrl.bps.drivers.submit_driver", die)
    with pytest.raises(subprocess.CalledProcessError):
        run_bps(campaign)
    assert run.USER_STATUS == 1


def test_campaign_of_an_operator_is_not_restarted_without_his_file(coded_request: Path) -> None:
    campaign = prepare(coded_request, site="local")
    campaign.bps_config.unlink()
    with pytest.raises(UserError, match="`bps submit` that file again"):
        run_bps(campaign)
