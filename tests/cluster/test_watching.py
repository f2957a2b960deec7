# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""A campaign on a real pool, as those see it who watch."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from campaign_check import DEADLINE_S, N_PATCHES, Stage
from PIL import Image

from lsst.dax.bulkcutout.tests.sabotage import Fault

# Not the first job and the last one, nor DAGMan itself.
QUANTA = 'DAGManJobId > 0 && DAGNodeName != "pipetaskInit" && DAGNodeName != "finalJob"'
IDLE, RUNNING, HELD = 1, 2, 5
EXIT_RUNNING, EXIT_HELD = 4, 5


def test_campaign_is_watched_from_its_start_to_its_end(stage: Stage) -> None:
    """What status says is compared with what the queue says; jobs wait until
    they were looked at.
    """
    pool = stage.pool
    assert pool is not None

    def look(status: int) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(
            stage.bulkcutout("status", stage.campaign, "--json", status=status)
        )
        assert sum(found["quanta_by_state"].values()) == found["quanta"] == N_PATCHES
        assert found["message"] == ""
        return found

    def queue(state: int) -> list[str]:
        return [ad["DAGNodeName"] for ad in pool.jobs(f"{QUANTA} && JobStatus == {state}")]

    busy = Fault("wait", str(stage.notes / "busy"), times=None)
    # Two jobs fit into a glidein.
    site = stage.site([busy], jobs=5, pipetask={"extractCutouts": {"requestMemory": 3500}})
    run = stage.submit(site)
    (directory,) = [path.parent for path in stage.campaign.glob("submit/*/*_config.yaml")]

    pool.wait_until(
        lambda: len(queue(RUNNING)) >= 4 and queue(IDLE),
        "the glideins are full",
        deadline_s=DEADLINE_S,
    )
    n, n_jobs = len(queue(RUNNING)), len(queue(RUNNING) + queue(IDLE))
    found = look(EXIT_RUNNING)
    assert (found["state"], found["run"], found["site"]) == ("running", run, "htcondor")
    assert (found["done"], found["counts"]["outside_footprint"]) == (0, 1)
    # The final job waits, too; the first one has set up the run.
    assert found["jobs"] == {"waiting": n_jobs - n + 1, "running": n, "done": 1}
    # BPS itself says the same of the same run.
    assert "RUNNING" in stage.run("bps", "report", "--id", directory)
    stage.run("bps", "status", "--id", directory, status=15)

    pool.exec("condor_hold", "-reason", "somebody looks at it", "-constraint", QUANTA)
    pool.wait_until(lambda: len(queue(HELD)) == n_jobs, "all are held", deadline_s=DEADLINE_S)
    found = look(EXIT_HELD)
    assert (found["state"], found["jobs"]) == ("held", {"waiting": 1, "done": 1, "held": n_jobs})
    assert set(found["held"]) == set(queue(HELD))
    assert all("somebody looks at it" in reason for reason in found["held"].values())
    picture = stage.notes / "held.png"
    said = stage.bulkcutout("status", stage.campaign, "--picture", picture, status=EXIT_HELD)
    assert f"and {n_jobs - 1} others: " in said
    with Image.open(picture) as image:
        assert image.format == "PNG"

    busy.release()
    pool.exec("condor_release", "-constraint", QUANTA)
    lines = stage.bulkcutout("status", stage.campaign, "--json", "--watch=1").splitlines()
    states = list(dict.fromkeys(json.loads(line)["state"] for line in lines))
    assert states[-1] == "complete" and "running" in states
    assert stage.wait(run) == 0
    found = look(0)
    assert (found["done"], found["jobs"], found["held"]) == (N_PATCHES, {"done": n_jobs + 2}, {})
    assert found["counts"] == Counter(stage.sky.answers)
    assert "SUCCEEDED" in stage.run("bps", "report", "--id", directory)
    stage.run("bps", "status", "--id", directory)
    stage.run("bps", "status", "--id", run, "--hist", "1")
    (line,) = json.loads(stage.bulkcutout("list", "--json"))
    assert (line["state"], line["done"], line["site"]) == ("complete", N_PATCHES, "site")
    # Each quantum has said so in the log of its job.
    logs = [path.read_text() for path in directory.rglob("jobs/**/*.*") if path.suffix in (".out", ".err")]
    told = [
        json.loads(text.partition(" - ")[2])
        for text in "".join(logs).splitlines()
        if '{"event": "quantum"' in text
    ]
    assert len({(each["tract"], each["patch"]) for each in told}) == N_PATCHES
    assert sum(each["bytes"] for each in told) == found["bytes"]
    stage.check()


def test_pool_out_of_reach_is_said_and_changes_no_number(stage: Stage) -> None:
    """The run's own files tell; and a run whose queue was lost has stopped."""
    pool = stage.pool
    assert pool is not None
    busy = Fault("wait", str(stage.notes / "busy"), times=None)
    run = stage.submit(stage.site([busy]))
    pool.wait_until(busy.occurrences, "a job is in the middle", deadline_s=DEADLINE_S)
    near = json.loads(stage.bulkcutout("status", stage.campaign, "--json", status=EXIT_RUNNING))
    config = stage.notes / "away"
    config.write_text(
        f"include : {pool.exports['CONDOR_CONFIG']}\nCOLLECTOR_HOST = 127.0.0.1:1\n"
        f"SCHEDD_ADDRESS_FILE = {stage.notes}/nowhere\n"
    )
    away = json.loads(
        stage.run(
            "bulkcutout",
            *("status", stage.campaign, "--json"),
            status=EXIT_RUNNING,
            variables={"CONDOR_CONFIG": str(config)},
        )
    )
    assert "The pool cannot be asked" in away["message"]
    assert (away["state"], away["run"], sum(away["jobs"].values())) == (
        "running",
        run,
        sum(near["jobs"].values()),
    )
    assert near["message"] == ""

    # Both at once, and without a trace in DAGMan's log: as with a lost spool.
    pool.exec("condor_rm", "-all", check=False)
    pool.exec("condor_rm", "-forcex", "-all", check=False)
    busy.release()
    pool.wait_until(lambda: not pool.jobs(), "the queue is empty", deadline_s=DEADLINE_S)
    gone = stage.bulkcutout("status", stage.campaign, status=None)
    assert gone.startswith(("stopped", "partial"))
