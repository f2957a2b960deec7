# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""A campaign that is not to go on."""

from __future__ import annotations

import fcntl
import functools
import hashlib
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from tiny_sky import SIZE, TRACT

from lsst.ctrl.bps import BaseWmsService
from lsst.dax.bulkcutout.campaign import Campaign, Plan, write_atomically
from lsst.dax.bulkcutout.cancel import cancel
from lsst.dax.bulkcutout.cli import main
from lsst.dax.bulkcutout.errors import TransientError, UserError
from lsst.dax.bulkcutout.manifest import read_manifest
from lsst.dax.bulkcutout.quantum_graph_builder import build_graph
from lsst.dax.bulkcutout.quantum_outputs import read_outputs
from lsst.dax.bulkcutout.restart import restart
from lsst.dax.bulkcutout.submit import CONFIG_DIRECTORY, prepare
from lsst.dax.bulkcutout.tests import SkyRepository
from lsst.dax.bulkcutout.tests.campaigns import (
    init_and_run,
    prepare_here,
    run_graph,
    run_here,
    write_request,
)
from lsst.dax.bulkcutout.tests.sabotage import Fault, write_faults
from lsst.dax.bulkcutout.top_up import top_up
from lsst.dax.bulkcutout.watch.status import read_status


def digests(directory: Path) -> dict[str, str]:
    return {
        path.relative_to(directory).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(directory.glob("size=*/*"))
    }


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
    campaign = prepare_here(write_request(tmp_path, coded_repo, coded_catalog))
    graph = tmp_path / "graph.qg"
    build_graph(campaign, graph, output_run="u/test/run", request_file=tmp_path / "request.json")
    campaign.cancelled.write_text("{}")
    with pytest.raises(SystemExit) as stop:
        run_graph(campaign, graph)
    assert stop.value.code == 2
    outputs = read_outputs(campaign)
    assert len(outputs) == 4 and not any(output.done for output in outputs.values())


def test_cancelled_campaign_gets_no_graph(
    tmp_path: Path, coded_repo: SkyRepository, coded_catalog: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither with a marker that is there, nor with one that comes while the
    graph is built: nothing is submitted then.
    """
    request = write_request(tmp_path, coded_repo, coded_catalog)
    campaign = prepare_here(request)
    build = functools.partial(
        build_graph, campaign, tmp_path / "graph.qg", output_run="u/test/run", request_file=request
    )

    def write_plan(self: Campaign, plan: Plan) -> None:
        write_atomically(self.plan, plan.model_dump_json())
        self.cancelled.write_text("{}")

    monkeypatch.setattr(Campaign, "write_plan", write_plan)
    for _ in range(2):
        with pytest.raises(UserError, match="was cancelled: `bulkcutout restart` goes on"):
            build()
        assert not (tmp_path / "graph.qg").exists() and not campaign.graph_files()


class DeadService(BaseWmsService):
    """A workflow system that does not answer."""

    def list_submitted_jobs(self, *arguments: object, **others: object) -> list[str]:
        raise RuntimeError("no schedd at 127.0.0.1")


class ForgetfulService(BaseWmsService):
    """A workflow system that knows nothing of the run any more."""

    def list_submitted_jobs(self, *arguments: object, **others: object) -> list[str]:
        return []


def note_submission(campaign: Campaign, service: type[BaseWmsService]) -> None:
    """Leave what BPS leaves of a submission."""
    directory = campaign.submit / "20260101T000000Z"
    directory.mkdir(parents=True)
    config = {"wmsServiceClass": f"{service.__module__}.{service.__name__}"}
    (directory / "run_config.yaml").write_text(yaml.safe_dump(config))


def state_of(campaign: Campaign) -> str:
    return str(json.loads(campaign.finish_log.read_text())["state"])


def test_run_that_is_gone_is_finished_here(
    tmp_path: Path, tiny_repo: SkyRepository, tiny_catalog: Path
) -> None:
    """Whatever has become of its final job."""
    request = write_request(tmp_path, tiny_repo, tiny_catalog, size=SIZE)
    campaign = init_and_run(request, fail=[(TRACT, 1)])
    note_submission(campaign, ForgetfulService)
    assert "is cancelled; `bulkcutout restart`" in cancel(campaign)
    assert state_of(campaign) == "cancelled"
    assert read_manifest(tmp_path / "out").counts == {"not_processed": 18}
    first = campaign.cancelled.read_text()
    # Again, and who was first stays.
    assert "is cancelled" in cancel(campaign)
    assert campaign.cancelled.read_text() == first


def test_campaign_at_rest_is_left_alone(tmp_path: Path, tiny_repo: SkyRepository, tiny_catalog: Path) -> None:
    request = write_request(tmp_path, tiny_repo, tiny_catalog, size=SIZE)
    for fail, state in ([(TRACT, 1)], "partial"), ([], "complete"):
        campaign, _ = run_here(request, fail=fail)
        manifest = (tmp_path / "out" / "manifest.json").read_bytes()
        assert f"has ended and is {state}: there is nothing to cancel" in cancel(campaign)
        assert not campaign.cancelled.exists() and state_of(campaign) == state
        assert (tmp_path / "out" / "manifest.json").read_bytes() == manifest


def test_campaign_without_a_plan_gets_a_note_alone(
    tmp_path: Path, tiny_repo: SkyRepository, tiny_catalog: Path
) -> None:
    """Nobody knows of any row yet."""
    campaign = prepare(write_request(tmp_path, tiny_repo, tiny_catalog), site="local")
    assert "is cancelled" in cancel(campaign)
    assert campaign.cancelled.exists() and state_of(campaign) == "cancelled"
    assert not (tmp_path / "out" / "manifest.json").exists()
    assert read_status(campaign).state == "cancelled"


def test_campaign_that_is_planned_has_its_rows_answered(
    tmp_path: Path, tiny_repo: SkyRepository, tiny_catalog: Path
) -> None:
    """A cancel while the graph is built leaves a plan and no graph; and so
    does one while a campaign is topped up.
    """
    request = write_request(tmp_path, tiny_repo, tiny_catalog, size=SIZE)
    campaign, _ = run_here(request)
    top_up(campaign, again=[(TRACT, 1)])
    campaign.finish_log.unlink()
    assert not campaign.graph_files()
    assert "is cancelled" in cancel(campaign)
    counts = read_manifest(tmp_path / "out").counts
    assert sum(counts.values()) == 18 and counts["not_processed"] >= 6
    assert read_status(campaign).state == "cancelled"


def test_campaign_that_was_done_all_the_same_is_complete(
    tmp_path: Path, tiny_repo: SkyRepository, tiny_catalog: Path
) -> None:
    """The cancel came when all was packaged and only the note was missing."""
    campaign, _ = run_here(write_request(tmp_path, tiny_repo, tiny_catalog, size=SIZE))
    campaign.finish_log.unlink()
    assert "was complete before it could be cancelled" in cancel(campaign)
    assert not campaign.cancelled.exists() and state_of(campaign) == "complete"


def test_manifest_that_another_finish_writes_is_for_another_try(
    tmp_path: Path, tiny_repo: SkyRepository, tiny_catalog: Path
) -> None:
    """Such as one that somebody has started by hand."""
    campaign = init_and_run(write_request(tmp_path, tiny_repo, tiny_catalog, size=SIZE))
    with (campaign.root / "finish.lock").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(TransientError, match="manifest was not written: give the same command again"):
            cancel(campaign)
    assert "is cancelled" in cancel(campaign)


def test_marker_is_there_though_the_workflow_system_is_silent(
    tmp_path: Path, tiny_repo: SkyRepository, tiny_catalog: Path
) -> None:
    """So that the jobs end nevertheless; a restart waits for an answer."""
    request = write_request(tmp_path, tiny_repo, tiny_catalog, size=SIZE)
    campaign = init_and_run(request, fail=[(TRACT, 1)])
    note_submission(campaign, DeadService)
    with pytest.raises(TransientError, match=r"does not answer: no schedd at 127\.0\.0\.1"):
        cancel(campaign)
    assert campaign.cancelled.exists() and not campaign.finish_log.exists()
    with pytest.raises(TransientError, match="does not answer"):
        restart(campaign)
    assert campaign.cancelled.exists()


WAIT = (
    f"{sys.executable} -m lsst.dax.bulkcutout.tests.sabotage {{faults}} run-quanta {{{{butlerConfig}}}} "
    "{{fileDistributionEndPoint}}{{qgraphFile}} --qgraph-node-id {{qgraphNodeId}} {{extraRunQuantumOptions}}"
)


def start(*arguments: str | Path) -> subprocess.Popen[str]:
    program = Path(sys.executable).with_name("bulkcutout")
    return subprocess.Popen(
        [program, *map(str, arguments)], text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def bulkcutout(*arguments: str | Path, status: int = 0) -> str:
    process = start(*arguments)
    said, _ = process.communicate()
    assert process.returncode == status, said
    return said


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    while not path.exists():
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.1)


def test_parsl_drains_and_restart_goes_on(
    tmp_path: Path, tiny_repo: SkyRepository, tiny_catalog: Path
) -> None:
    """The patch that a job is at gets done, and no other; whoever comes in
    the meantime is told.
    """
    undisturbed = tmp_path / "undisturbed"
    run_here(write_request(undisturbed, tiny_repo, tiny_catalog, size=SIZE))
    hold = Fault("wait", str(tmp_path / "hold"), where="after_cutouts")
    write_faults(tmp_path / "faults.json", [hold])
    site = tmp_path / "site.yaml"
    config = {
        "includeConfigs": [str(CONFIG_DIRECTORY / "sites" / "local.yaml")],
        "runQuantumCommand": WAIT.format(faults=tmp_path / "faults.json"),
        "site": {"local": {"cores": 1}},
    }
    site.write_text(yaml.safe_dump(config))
    request = write_request(tmp_path, tiny_repo, tiny_catalog, size=SIZE)
    campaign = Campaign(tmp_path / "out.campaign")
    running = start("submit", request, "--site", site)
    wait_for(tmp_path / "hold.0", running)
    said = bulkcutout("restart", campaign.root, status=1)
    assert f"in the hands of process {running.pid} on " in said
    cancelling = start("cancel", campaign.root)
    wait_for(campaign.cancelled, cancelling)
    assert json.loads(campaign.cancelled.read_text()).keys() == {"time", "by"}
    hold.release()
    said, _ = cancelling.communicate()
    assert cancelling.returncode == 0 and "is cancelled; `bulkcutout restart` goes on" in said
    running.communicate()
    assert sum(output.done for output in read_outputs(campaign).values()) == 1
    manifest = read_manifest(tmp_path / "out")
    assert manifest.counts == {"not_processed": 18}
    assert json.loads(campaign.finish_log.read_text())["state"] == "cancelled"
    assert "is cancelled" in bulkcutout("cancel", campaign.root)
    assert "complete: 3 of 3 quanta done" in bulkcutout("restart", campaign.root)
    assert not campaign.cancelled.exists()
    assert digests(tmp_path / "out") == digests(undisturbed / "out")
    assert "there is nothing to cancel" in bulkcutout("cancel", campaign.root)
    assert not campaign.cancelled.exists()
    # Planned anew for another patch, and killed before that was submitted.
    before = {place: output.run for place, output in read_outputs(campaign).items()}
    top_up(campaign, again=[(TRACT, 1)])
    assert "complete: 3 of 3 quanta done" in bulkcutout("restart", campaign.root, "--retry-rows", "0,3-5")
    after = {place: output.run for place, output in read_outputs(campaign).items()}
    assert {place for place in after if after[place] != before[place]} == {(TRACT, 0), (TRACT, 1)}
    assert digests(tmp_path / "out") == digests(undisturbed / "out")
