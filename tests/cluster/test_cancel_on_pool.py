# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Campaigns on a real HTCondor pool that are cancelled and restarted."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from campaign_check import DEADLINE_S, Stage, run_id

from lsst.dax.bulkcutout.campaign import Campaign
from lsst.dax.bulkcutout.finish import COMPLETE
from lsst.dax.bulkcutout.quantum_outputs import read_outputs
from lsst.dax.bulkcutout.tests.callbacks import CallbackServer
from lsst.dax.bulkcutout.tests.campaigns import run_here, write_request
from lsst.dax.bulkcutout.tests.sabotage import Fault


def test_cancel_in_the_middle_and_a_callback_server_in_trouble(
    stage: Stage, undisturbed: dict[str, str]
) -> None:
    """The server hears of the cancel at once. When the restarted campaign
    ends it is down, comes back, is slow, answers with 500, and is well again.
    """
    pool = stage.pool
    assert pool is not None
    wait = Fault("wait", str(stage.notes / "cancelled"), patch=(3, 5))
    with CallbackServer(stage.notes, [204, "slow", 500]) as server:
        stage.write_request(notify=server.notify)
        stage.before = stage.surroundings()
        stage.submit(stage.site([wait]))
        pool.wait_until(wait.occurrences, "a job is in the middle", deadline_s=DEADLINE_S)

        assert "in the queue: wait for it" in stage.bulkcutout("restart", stage.campaign, status=1)
        said = stage.bulkcutout("-v", "cancel", stage.campaign)
        assert "is cancelled; `bulkcutout restart` goes on" in said
        assert "is cancelled" in stage.bulkcutout("cancel", stage.campaign)

        assert pool.jobs() == []
        places = {place for place in stage.sky.places if place is not None}
        assert stage.unprocessed() == places
        stage.check(not_processed=places)
        assert [event["data"]["state"] for event in server.events] == ["cancelled"]

        server.stop()
        run = run_id(stage.bulkcutout("-v", "restart", stage.campaign))
        spool = stage.out / "callback.spool"
        kept = pool.wait_until(
            lambda: list(spool.glob("msg_*.json")), "the callback is kept", deadline_s=DEADLINE_S
        )
        server.start()
        assert stage.wait(run) == 0
        told, calls = server.events, server.calls
    assert [event["data"]["state"] for event in told] == ["cancelled", "succeeded"]
    assert [call.verification.webhook_id for call in calls[1:]] == [kept[0].stem] * 3
    assert not spool.exists()
    stage.check(undisturbed)
    assert "there is nothing to cancel" in stage.bulkcutout("cancel", stage.campaign)


def test_cancel_without_a_slot_for_the_final_job_and_a_finish_that_fails(
    stage: Stage, undisturbed: dict[str, str]
) -> None:
    """All glideins are lost, the final job cannot run: cancel does its work.
    After the restart packaging fails past all retries; only that is left then.
    At last a row is added, and its patch alone is cut.
    """
    pool = stage.pool
    assert pool is not None
    wait = Fault("wait", str(stage.notes / "cancelled"), times=None)
    failure = Fault("fail", str(stage.notes / "broken"), where="packaging", times=None)
    stage.submit(stage.site([wait, failure]))
    pool.wait_until(wait.occurrences, "a job is in the middle", deadline_s=DEADLINE_S)
    for job_id in pool.glideins():
        pool.lose_glidein(job_id)

    said = stage.bulkcutout("-v", "cancel", stage.campaign, "--wait", "8")

    assert "is taken out of the queue" in said and pool.jobs() == []
    stage.check(not_processed={place for place in stage.sky.places if place is not None})

    stage.set_faults([failure])
    pool.need_glideins(2)
    again = stage.bulkcutout("-v", "restart", stage.campaign)
    assert "rescue DAG" in again
    assert stage.wait(run_id(again)) != 0
    # Two retries.
    assert len(failure.occurrences()) == 3

    stage.set_faults([])
    again = stage.bulkcutout("-v", "restart", stage.campaign)
    assert "rescue DAG" in again
    assert stage.wait(run_id(again)) == 0
    stage.check(undisturbed)

    before = runs_of(stage)
    table = pq.read_table(stage.sky.catalog)
    row = next(row for row, place in enumerate(stage.sky.places) if place == (8, 5))
    pq.write_table(pa.concat_tables([table, table.slice(row, 1)]), longer := stage.notes / "catalog.parquet")
    request = stage.write_request(catalog={"uri": str(longer)})
    run = run_id(stage.bulkcutout("restart", stage.campaign, "--request", request))
    assert stage.wait(run) == 0
    assert {place for place, run in runs_of(stage).items() if run != before[place]} == {(8, 5)}
    fresh = write_request(
        stage.notes / "here", stage.sky.repo, longer, size=9, partition={"max_rows_per_file": 50}
    )
    assert run_here(fresh)[1] == COMPLETE
    assert data_files(stage.out) == data_files(stage.notes / "here" / "out")


def runs_of(stage: Stage) -> dict[tuple[int, int], str]:
    """Run that each patch was cut in."""
    return {place: output.run for place, output in read_outputs(Campaign(stage.campaign)).items()}


def data_files(out: Path) -> dict[str, bytes]:
    """What the data files of a product are."""
    return {str(path.relative_to(out)): path.read_bytes() for path in out.glob("size=*/*")}
