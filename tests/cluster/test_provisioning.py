# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""A campaign that brings its own glideins, to a pool that has none.

BPS's own provisioning does it, with its own script and the real allocateNodes;
platform/ says how the pool is. The graph is built by a job of the cluster,
too. All is run once, beside a campaign whose graph cannot be built; the tests
look at what became of it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pool_setup
import pyarrow.parquet as pq
import pytest
import yaml
from pool import Pool
from pool_setup import USER, PoolError, Settings, hold
from tiny_sky import tiny_table

from lsst.dax.bulkcutout.submit import CONFIG_DIRECTORY
from lsst.dax.bulkcutout.tests import SkyRepository
from lsst.dax.bulkcutout.tests.campaigns import run_here, write_request

BULKCUTOUT = Path(sys.executable).with_name("bulkcutout")
PLATFORM = Path(__file__).with_name("platform")
# allocateNodes asks for 16 CPUs a glidein.
SETTINGS = Settings(cpus=16, memory_mb=16000)
WAIT_FOR_OTHERS_S = 1800.0
DEADLINE_S = 300.0


@pytest.fixture(scope="module")
def pool(installed_pool_programs: None) -> Iterator[Pool]:
    """A pool of its own, beside that of the session: with large nodes, and
    without glideins.
    """
    directory = pool_setup.tests_directory()
    directory = directory.with_name(f"{directory.name}-provisioning")
    with hold(directory, deadline_s=WAIT_FOR_OTHERS_S):
        pool = Pool(directory, SETTINGS)
        try:
            pool.start()
            yield pool
        finally:
            pool.stop()
            shutil.rmtree(directory)


@dataclasses.dataclass
class Outcome:
    """What was seen of the two campaigns."""

    good: Path
    """Directory with the request, output and campaign of the good one."""

    bad: Path
    """The same of the one whose graph cannot be built."""

    exit_codes: dict[str, int]
    """Of each campaign's DAG."""

    jobs: list[dict[str, Any]]
    """The jobs that ran in glideins, as HTCondor remembers them."""

    glideins: dict[str, str]
    """SLURM's name of each glidein that a job ran in, by SLURM's id."""

    environment: dict[str, str]
    """Of who submits."""


@pytest.fixture(scope="module")
def outcome(pool: Pool, tiny_repo: SkyRepository, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    root = tmp_path_factory.mktemp("provisioning")
    for name in ("home", "scratch", "good", "bad"):
        (root / name).mkdir()
    pq.write_table(tiny_table(tiny_repo), root / "catalog.parquet")
    write_request(root / "good", tiny_repo, root / "catalog.parquet")
    write_request(root / "bad", tiny_repo, root / "catalog.parquet", dataset_type="no_such_coadd")
    site = root / "site.yaml"
    included = [str(CONFIG_DIRECTORY / "sites" / "slurm_pool.yaml")]
    site.write_text(yaml.safe_dump({"includeConfigs": included, "provisionResources": True}))
    environment = pool.env | {
        # As the owner of the jobs, who is another outside of the pool.
        "USER": USER,
        "HOME": str(root / "home"),
        "XDG_CONFIG_HOME": str(root / "home" / "config"),
        "SCRATCH": str(root / "scratch"),
        "PYTHONPATH": os.pathsep.join([str(PLATFORM), *filter(None, [os.environ.get("PYTHONPATH")])]),
    }
    assert pool.glideins() == [] and pool.slots() == []
    runs = {}
    for name in ("good", "bad"):
        submitted = subprocess.run(
            [BULKCUTOUT, "submit", "--site", site, "--build-on-cluster", root / name / "request.json"],
            env=environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        (runs[name],) = re.findall(r"Run Id: (\d+\.\d+)", submitted.stdout) or [submitted.stdout]
    exit_codes = {
        name: int(pool.wait_for_job(run, deadline_s=DEADLINE_S)["ExitCode"]) for name, run in runs.items()
    }
    history = ("condor_history", "-constraint", "JobUniverse == 5", "-json")
    jobs = json.loads(pool.exec(*history).stdout)
    ids = {match[1] for job in jobs if (match := re.search(r"@glidein_(\d+)", job["LastRemoteHost"]))}
    shown = {number: pool.exec("scontrol", "--oneliner", "show", "job", number).stdout for number in ids}
    names = {number: re.findall(r"JobName=(\S+)", text)[0] for number, text in shown.items()}
    return Outcome(root / "good", root / "bad", exit_codes, jobs, names, environment)


def run_of(directory: Path) -> Path:
    """Submit directory of the only run, which bears its time."""
    (run,) = (directory / "out.campaign" / "submit").glob("2*Z")
    return run


def test_glideins_come_because_the_campaign_asked_for_them(outcome: Outcome) -> None:
    """Every job ran in one, from the first to the last, and they bear the
    name of a run.
    """
    assert [job["bps_job_name"] for job in outcome.jobs if "@glidein_" not in job["LastRemoteHost"]] == []
    assert set(outcome.glideins.values()) <= {
        f"{run_of(directory).name}glide_{USER}" for directory in (outcome.good, outcome.bad)
    }
    assert 1 <= len(outcome.glideins)
    labels = {job["bps_job_label"] for job in outcome.jobs}
    assert labels > {"buildQuantumGraph", "preparePayloadWorkflow", "pipetaskInit", "finalJob"}


def test_product_is_that_of_an_undisturbed_run(outcome: Outcome, tmp_path: Path) -> None:
    assert outcome.exit_codes["good"] == 0
    request = json.loads((outcome.good / "request.json").read_text())
    here = tmp_path / "request.json"
    here.write_text(json.dumps(request | {"output": str(tmp_path / "out")}))
    _, status = run_here(here)
    assert status == 0
    digests = [
        {
            path.relative_to(out).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in out.glob("size=*/*")
        }
        for out in (tmp_path / "out", outcome.good / "out")
    ]
    assert digests[0] and digests[0] == digests[1]


def test_graph_that_cannot_be_built_is_told_of_once(outcome: Outcome) -> None:
    """The job is not tried again, for it is the user's turn; and there is no
    last job to say so.
    """
    assert outcome.exit_codes["bad"] != 0
    run = run_of(outcome.bad)
    (attempt,) = [
        job
        for job in outcome.jobs
        if job["bps_job_label"] == "buildQuantumGraph" and job["Iwd"].startswith(str(run))
    ]
    assert (attempt["NumJobStarts"], attempt["ExitCode"]) == (1, 1)
    status = subprocess.run(
        [BULKCUTOUT, "status", outcome.bad / "out"], env=outcome.environment, capture_output=True, text=True
    )
    assert status.returncode == 75, status.stderr
    assert "failed" in status.stdout and "no_such_coadd" in status.stdout


def test_report_of_bps_counts_the_jobs_of_both_dags(pool: Pool, outcome: Outcome) -> None:
    run = run_of(outcome.good)
    said: list[str] = []

    def report() -> re.Match[str] | None:
        told = subprocess.run(
            [BULKCUTOUT.with_name("bps"), "report", "--id", run],
            env=outcome.environment,
            capture_output=True,
            text=True,
        )
        said[:] = [told.stdout, told.stderr]
        return re.search(r"^TOTAL +([\d ]+)$", told.stdout, flags=re.MULTILINE)

    try:
        # The queue may write down the end of its last jobs after DAGMan has
        # gone, and BPS takes no log that is half written.
        total = pool.wait_until(report, "BPS tells of the run")
    except PoolError as error:
        raise AssertionError("\n".join(said)) from error
    assert total is not None
    n = len([job for job in outcome.jobs if job["Iwd"].startswith(str(run))])
    assert n >= 5
    # Columns: ..., succeeded, failed, pruned, expected.
    assert [int(number) for number in total[1].split()][-4:] == [n, 0, 0, n]
    assert "SUCCEEDED" in said[0] and "Status of provisioningJob" in said[0]


def test_glideins_go_when_the_campaign_is_over(pool: Pool, outcome: Outcome) -> None:
    pool.wait_until(lambda: not pool.glideins(), "the glideins are gone", deadline_s=90)
    pool.wait_until(lambda: not pool.jobs(), "the queue is empty", deadline_s=90)
