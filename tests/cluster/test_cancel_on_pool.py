# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Campaigns on a real HTCondor pool that are cancelled, removed, restarted
and topped up.

The product that all are compared with was made in this process, without BPS.
"""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from pool import Pool
from test_campaign_on_pool import RUN_QUANTA, SABOTAGE, bulkcutout, digests, rows_are_answered_once, wait
from tiny_sky import SIZE, TRACT, tiny_table

from lsst.dax.bulkcutout.campaign import Campaign
from lsst.dax.bulkcutout.quantum_outputs import read_outputs
from lsst.dax.bulkcutout.submit import CONFIG_DIRECTORY
from lsst.dax.bulkcutout.tests import SkyRepository
from lsst.dax.bulkcutout.tests.campaigns import run_here, write_request

ROWS = 18


@pytest.fixture
def request_file(tmp_path: Path, tiny_repo: SkyRepository, tiny_catalog: Path) -> Path:
    return write_request(tmp_path, tiny_repo, tiny_catalog, size=SIZE)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, tiny_repo: SkyRepository) -> dict[str, str]:
    """Checksums of the data files of a run that nothing happened to."""
    directory = tmp_path_factory.mktemp("here")
    pq.write_table(tiny_table(tiny_repo), directory / "catalog.parquet")
    run_here(write_request(directory, tiny_repo, directory / "catalog.parquet", size=SIZE))
    return digests(directory / "out")


def site(directory: Path, **changes: object) -> Path:
    """One patch a job; two of three jobs wait as long as ``hold`` is there."""
    config = {
        "includeConfigs": [str(CONFIG_DIRECTORY / "sites" / "htcondor.yaml")],
        "memoryLimit": 8000,
        "cluster": {"byTract": {"partitionMaxSize": 1}},
        **changes,
    }
    path = directory / "site.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def cuts_of(campaign: Campaign) -> dict[tuple[int, int], str]:
    """Run that each patch was cut in."""
    return {place: output.run for place, output in read_outputs(campaign).items() if output.done}


def test_cancel_in_the_middle_restart_and_top_up(
    pool: Pool, glideins: list[str], request_file: Path, tiny_repo: SkyRepository, undisturbed: dict[str, str]
) -> None:
    directory = request_file.parent
    campaign = Campaign(directory / "out.campaign")
    # All jobs wait before their patch, on slots.
    (hold := directory / "hold").touch()
    changes = {"runQuantumCommand": f"{SABOTAGE} wait-while before {hold} {RUN_QUANTA}"}
    output = bulkcutout(pool, "submit", request_file, "--site", site(directory, **changes))
    pool.wait_until((directory / "hold.reached").exists, "a job is at its patch", deadline_s=120)
    assert "in the queue: wait for it" in bulkcutout(pool, "restart", campaign.root, status=1)
    said = bulkcutout(pool, "-v", "cancel", campaign.root)
    assert "is cancelled; `bulkcutout restart` goes on" in said
    assert not pool.jobs()
    assert json.loads(campaign.finish_log.read_text())["state"] == "cancelled"
    assert rows_are_answered_once(directory / "out") == {"not_processed": ROWS}
    hold.unlink()
    # Again, and nothing happens.
    assert "is cancelled" in bulkcutout(pool, "cancel", campaign.root)
    output = bulkcutout(pool, "-v", "restart", campaign.root)
    assert "rescue DAG" in output
    assert wait(pool, output) == 0
    assert digests(directory / "out") == undisturbed
    assert "there is nothing to cancel" in bulkcutout(pool, "cancel", campaign.root)
    # One row more, in patch 1; another run is not wanted for the rest.
    before = cuts_of(campaign)
    rows = tiny_table(tiny_repo).to_pylist()
    rows.append({**rows[7], "id": 99})
    pq.write_table(pa.Table.from_pylist(rows), directory / "catalog.parquet")
    fresh = write_request(directory / "fresh", tiny_repo, directory / "catalog.parquet", size=SIZE)
    run_here(fresh)
    output = bulkcutout(pool, "-v", "restart", campaign.root, "--request", request_file)
    assert wait(pool, output) == 0
    assert digests(directory / "out") == digests(directory / "fresh" / "out")
    assert {place for place, run in cuts_of(campaign).items() if before[place] != run} == {(TRACT, 1)}


def test_final_job_without_a_slot(
    pool: Pool, glideins: list[str], request_file: Path, undisturbed: dict[str, str]
) -> None:
    directory = request_file.parent
    campaign = Campaign(directory / "out.campaign")
    (hold := directory / "hold").touch()
    changes = {"runQuantumCommand": f"{SABOTAGE} wait-while before {hold} {RUN_QUANTA}"}
    bulkcutout(pool, "submit", request_file, "--site", site(directory, **changes))
    pool.wait_until((directory / "hold.reached").exists, "a job is at its patch", deadline_s=120)
    for job_id in pool.glideins():
        pool.lose_glidein(job_id)
    said = bulkcutout(pool, "-v", "cancel", campaign.root, "--wait", "8")
    assert "is taken out of the queue" in said and not pool.jobs()
    assert rows_are_answered_once(directory / "out") == {"not_processed": ROWS}
    hold.unlink()
    pool.need_glideins(2)
    output = bulkcutout(pool, "-v", "restart", campaign.root)
    assert wait(pool, output) == 0
    assert digests(directory / "out") == undisturbed


def test_only_finish_is_left(
    pool: Pool, glideins: list[str], request_file: Path, undisturbed: dict[str, str]
) -> None:
    directory = request_file.parent
    campaign = Campaign(directory / "out.campaign")
    (cause := directory / "broken").touch()
    changes = {"finalJob": {"command1": f"{SABOTAGE} fail-while packaging {cause} finish {{campaignDir}}"}}
    output = bulkcutout(pool, "submit", request_file, "--site", site(directory, **changes))
    assert wait(pool, output) != 0
    cause.unlink()
    output = bulkcutout(pool, "-v", "restart", campaign.root)
    assert wait(pool, output) == 0
    assert digests(directory / "out") == undisturbed
    print(bulkcutout(pool, "-v", "restart", campaign.root))
