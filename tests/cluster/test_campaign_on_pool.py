# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Campaigns on a real HTCondor pool, undisturbed and killed.

The product that all are compared with was made in this process, without BPS.
"""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml
from pool import Pool

from lsst.dax.bulkcutout.submit import CONFIG_DIRECTORY
from lsst.dax.bulkcutout.tests import SkyRepository
from lsst.dax.bulkcutout.tests.campaigns import run_here, write_request

BULKCUTOUT = Path(sys.executable).with_name("bulkcutout")
SABOTAGE = f"{sys.executable} -m lsst.dax.bulkcutout.tests.campaigns"
RUN_QUANTA = (
    "run-quanta {butlerConfig} {fileDistributionEndPoint}{qgraphFile} --qgraph-node-id {qgraphNodeId} "
    "{extraRunQuantumOptions}"
)
DEADLINE_S = 240.0


def digests(directory: Path) -> dict[str, str]:
    return {
        path.relative_to(directory).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(directory.glob("size=*/*"))
    }


@pytest.fixture(scope="module")
def undisturbed(
    tmp_path_factory: pytest.TempPathFactory, coded_repo: SkyRepository, coded_catalog: Path
) -> dict[str, str]:
    """Checksums of the data files of a run that nothing happened to."""
    directory = tmp_path_factory.mktemp("here")
    request = write_request(directory, coded_repo, coded_catalog, partition={"max_rows_per_file": 50})
    _, status = run_here(request)
    assert status == 0
    return digests(directory / "out")


@pytest.fixture
def request_file(tmp_path: Path, coded_repo: SkyRepository, coded_catalog: Path) -> Path:
    return write_request(tmp_path, coded_repo, coded_catalog, partition={"max_rows_per_file": 50})


def site(directory: Path, **changes: object) -> Path:
    """A site file as an operator writes it: the package's, and changes."""
    config = {
        "includeConfigs": [str(CONFIG_DIRECTORY / "sites" / "htcondor.yaml")],
        "memoryLimit": 8000,
        # One patch a job, so that a killed job is a killed quantum.
        "cluster": {"byTract": {"partitionMaxSize": 1}},
        **changes,
    }
    path = directory / "site.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def bulkcutout(pool: Pool, *arguments: str | Path, status: int = 0) -> str:
    done = subprocess.run(
        [BULKCUTOUT, *map(str, arguments)],
        env=pool.env,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    assert done.returncode == status, done.stdout
    return done.stdout


def wait(pool: Pool, output: str) -> int:
    """Wait for the DAG of a submission; gives its exit status."""
    (run_id,) = re.findall(r"Run Id: (\d+\.\d+)", output) or re.findall(r"Run (\d+\.\d+) goes on", output)
    return int(pool.wait_for_job(run_id, deadline_s=DEADLINE_S)["ExitCode"])


def rows_are_answered_once(out: Path) -> dict[str, int]:
    table = pq.read_table(out / "status.parquet")
    assert table["row"].to_pylist() == list(range(len(table)))
    counts = table["status"].value_counts().to_pylist()
    return {entry["values"]: entry["counts"] for entry in counts}


def test_product_is_the_same_as_without_a_pool(
    pool: Pool, glideins: list[str], request_file: Path, undisturbed: dict[str, str]
) -> None:
    output = bulkcutout(pool, "submit", request_file, "--site", site(request_file.parent))
    assert wait(pool, output) == 0
    out = request_file.parent / "out"
    assert digests(out) == undisturbed
    assert "complete: 4 of 4 quanta done" in bulkcutout(pool, "status", request_file.parent / "out.campaign")
    assert "not_processed" not in rows_are_answered_once(out)
    bulkcutout(pool, "verify", out, "--sample", "20")


def test_killed_jobs_are_run_again(
    pool: Pool, glideins: list[str], request_file: Path, undisturbed: dict[str, str]
) -> None:
    """A quantum dies of SIGKILL between writing its cutouts and its metadata,
    and finish dies between two data files; BPS runs both again.
    """
    directory = request_file.parent
    changes = {
        "runQuantumCommand": f"{SABOTAGE} kill-once after_cutouts {directory}/quantum-died {RUN_QUANTA}",
        "finalJob": {
            "command1": f"{SABOTAGE} kill-once packaging {directory}/finish-died finish {{campaignDir}}"
        },
    }
    output = bulkcutout(pool, "submit", request_file, "--site", site(directory, **changes))
    assert wait(pool, output) == 0
    assert (directory / "quantum-died").exists() and (directory / "finish-died").exists()
    assert digests(directory / "out") == undisturbed
    rows_are_answered_once(directory / "out")


def test_restart_goes_on_with_the_rescue_dag(
    pool: Pool, glideins: list[str], request_file: Path, undisturbed: dict[str, str]
) -> None:
    """Quanta fail past all retries; what there is gets packaged; a restart
    completes it.
    """
    directory = request_file.parent
    cause = directory / "out-of-order"
    cause.touch()
    changes = {
        "runQuantumCommand": f"{SABOTAGE} fail-while after_cutouts {cause} {RUN_QUANTA}",
        "numberOfRetries": 1,
    }
    output = bulkcutout(pool, "submit", request_file, "--site", site(directory, **changes))
    assert wait(pool, output) != 0
    counts = rows_are_answered_once(directory / "out")
    assert counts["not_processed"] > 200 and "delivered" not in counts
    assert list((directory / "out.campaign" / "submit").glob("*/*.rescue*"))
    cause.unlink()
    output = bulkcutout(pool, "-v", "restart", directory / "out.campaign")
    assert wait(pool, output) == 0
    assert digests(directory / "out") == undisturbed
    rows_are_answered_once(directory / "out")
