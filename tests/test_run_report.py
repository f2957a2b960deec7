# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""What is read off a run of HTCondor whose pool is out of reach: DAGMan's
files, as HTCondor 23.9 writes them.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from lsst.dax.bulkcutout.bps.report import ALIVE, ENDED, NOT_KNOWN, ask_bps
from lsst.dax.bulkcutout.campaign import Campaign

RUN = "u_x_20261121T181031Z"
HOST = "<127.0.0.1:44567?addrs=127.0.0.1-44567&alias=vm>"
NODES = {2: "pipetaskInit", 3: "byTract_3_001", 4: "byTract_3_002", 5: "byTract_8_001"}


def submitted(job: int) -> str:
    node = f"    DAG Node: {NODES[job]}\n" if job in NODES else ""
    return f"000 ({job:03d}.000.000) 2026-11-21 18:10:37 Job submitted from host: {HOST}\n{node}...\n"


def started(job: int) -> str:
    return f"001 ({job:03d}.000.000) 2026-11-21 18:10:38 Job executing on host: {HOST}\n...\n"


def ended(job: int, status: int = 0) -> str:
    usage = "\t\tUsr 0 00:00:01, Sys 0 00:00:00  -  {} Usage\n"
    return (
        f"005 ({job:03d}.000.000) 2026-11-21 18:10:42 Job terminated.\n"
        f"\t(1) Normal termination (return value {status})\n"
        + "".join(usage.format(what) for what in ("Run Remote", "Run Local", "Total Remote", "Total Local"))
        + "\t597  -  Run Bytes Sent By Job\n\t0  -  Run Bytes Received By Job\n"
        "\t597  -  Total Bytes Sent By Job\n\t0  -  Total Bytes Received By Job\n...\n"
    )


def held(job: int, reason: str) -> str:
    return (
        f"012 ({job:03d}.000.000) 2026-11-21 18:11:07 Job was held.\n\t{reason}\n\tCode 34 Subcode 0\n...\n"
    )


def released(job: int) -> str:
    return f"013 ({job:03d}.000.000) 2026-11-21 18:11:09 Job was released.\n\tvia condor_release\n...\n"


def aborted(job: int) -> str:
    return f"009 ({job:03d}.000.000) 2026-11-21 18:12:08 Job was aborted.\n\tvia condor_rm (by user x)\n...\n"


class Run:
    """A submit directory in a campaign."""

    def __init__(self, root: Path) -> None:
        self.campaign = Campaign(root)
        self.directory = self.campaign.submit / "20261121T181031Z"
        self.directory.mkdir(parents=True)
        config = {
            "wmsServiceClass": "lsst.ctrl.bps.htcondor.HTCondorService",
            "computeSite": "usdf",
        }
        self.write("_config.yaml", yaml.safe_dump(config))
        names = [*list(NODES.values())]
        self.write(".dag", "".join(f'JOB {name} "{name}.sub" DIR "jobs/{name}"\n' for name in names))
        status = "".join(
            f'[\n  Type = "NodeStatus";\n  Node = "{name}";\n  NodeStatus = 1;\n  StatusDetails = "";\n'
            "  RetryCount = 0;\n  JobProcsQueued = 0;\n  JobProcsHeld = 0;\n]\n"
            for name in names
        )
        self.write(".node_status", f'[\n  Type = "DagStatus";\n  NodesTotal = 4;\n]\n{status}')
        self.write(".dag.dagman.out", "11/21/26 18:10:36 ** (CONDOR_DAGMAN) STARTING UP\n")
        ad = {"ClusterId": 1, "GlobalJobId": "x@#1.0#1", "bps_run": RUN, "bps_job_summary": "byTract:3"}
        self.write(".info.json", json.dumps({"x@": {"1.0": ad}}))
        self.write(".dag.dagman.log", submitted(1) + started(1))

    def write(self, ending: str, text: str) -> None:
        (self.directory / f"{RUN}{ending}").write_text(text)

    def log(self, *events: str) -> None:
        self.write(".dag.nodes.log", "".join(events))


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path)


def test_jobs_and_reasons_are_those_of_the_log(run: Run) -> None:
    run.log(
        submitted(2), started(2), ended(2), submitted(3), submitted(4), submitted(5), started(3),
        held(4, "Error from slot1_1: memory usage exceeded request_memory"),
    )  # fmt: skip
    found = ask_bps(run.campaign)
    assert (found.state, found.run_id, found.site) == (ALIVE, "1.0", "usdf")
    assert found.jobs == {
        "pipetaskInit": "done",
        "byTract_3_001": "running",
        "byTract_3_002": "held",
        "byTract_8_001": "waiting",
    }
    assert found.held == {"byTract_3_002": "Error from slot1_1: memory usage exceeded request_memory"}
    assert "cannot be asked" in found.message


def test_job_that_was_released_waits(run: Run) -> None:
    """DAGMan's own status still calls it held, until it starts again."""
    run.log(submitted(2), started(2), ended(2), submitted(3), held(3, "a reason"), released(3))
    status = run.directory / f"{RUN}.node_status"
    before = 'Node = "byTract_3_001";\n  NodeStatus = 1;\n  StatusDetails = "";\n  RetryCount = 0;\n'
    after = before.replace("= 1", "= 3") + "  JobProcsQueued = 1;\n  JobProcsHeld = 1;"
    before += "  JobProcsQueued = 0;\n  JobProcsHeld = 0;"
    assert before in status.read_text()
    status.write_text(status.read_text().replace(before, after))
    found = ask_bps(run.campaign)
    assert (found.jobs["byTract_3_001"], found.held) == ("waiting", {})


def test_jobs_that_do_not_come_are_waiting(run: Run) -> None:
    """A DAG that has only just begun has no job in the queue."""
    run.log(submitted(2))
    found = ask_bps(run.campaign)
    assert (found.state, set(found.jobs.values())) == (ALIVE, {"waiting"})


def test_run_that_was_removed_has_ended(run: Run) -> None:
    run.log(submitted(2), started(2), ended(2), submitted(3), aborted(3))
    run.write(".dag.dagman.log", submitted(1) + started(1) + aborted(1))
    found = ask_bps(run.campaign)
    assert (found.state, found.jobs["byTract_3_001"]) == (ENDED, "deleted")


def test_run_that_is_held_says_so(run: Run) -> None:
    run.log(submitted(2))
    run.write(".dag.dagman.log", submitted(1) + started(1) + held(1, "somebody looks at it"))
    found = ask_bps(run.campaign)
    assert (found.state, found.is_held) == (ALIVE, True)


def test_report_without_counts_is_no_success(run: Run) -> None:
    """Right after submit DAGMan has written nothing; BPS reports SUCCEEDED
    for a run without jobs.
    """
    for path in run.directory.glob(f"{RUN}.*"):
        path.unlink()
    found = ask_bps(run.campaign)
    assert (found.state, found.jobs) == (NOT_KNOWN, {})
    assert "BPS cannot tell of the run" in found.message


def test_newest_submit_directory_counts(run: Run, tmp_path: Path) -> None:
    run.log(submitted(2))
    other = run.campaign.submit / "20261122T000000Z"
    other.mkdir()
    (other / "u_y_config.yaml").write_text(
        yaml.safe_dump({"wmsServiceClass": "lsst.ctrl.bps.parsl.ParslService", "computeSite": "local"})
    )
    assert ask_bps(run.campaign).site == "local"


def test_damaged_configuration_is_not_known(run: Run) -> None:
    run.write("_config.yaml", "a: [")
    assert ask_bps(run.campaign).state == NOT_KNOWN
