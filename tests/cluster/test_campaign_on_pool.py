# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Campaigns of 44 quanta on a real HTCondor pool to which bad things happen.

Each test says what shows that the thing has happened; then `Stage.check` has
every row answered once, checksums that hold, nothing written outside, and the
bytes of a product that was made on Parsl with nothing in the way.
"""

from __future__ import annotations

import re
from pathlib import Path

from campaign_check import DEADLINE_S, CheckedSky, Stage, damaged, mend, run_id

from lsst.dax.bulkcutout.tests.sabotage import Fault


def log_of(stage: Stage, job: str, start: int) -> str:
    """What a job has printed in one of its starts, from 0."""
    [path] = stage.campaign.glob(f"submit/*/jobs/**/*.{job.partition('.')[0]}.{start}.out")
    return path.read_text()


def memory_of_starts(stage: Stage, job: str) -> list[int]:
    """Megabytes that a job was given, each time that it started."""
    [path] = stage.campaign.glob(f"submit/*/jobs/**/*.{job.partition('.')[0]}.log")
    return [int(found) for found in re.findall(r"^\tMemory = (\d+)$", path.read_text(), re.MULTILINE)]


def glidein_of(occurrence: dict[str, str]) -> str:
    return Path(occurrence["scratch"]).parents[1].name


def test_two_campaigns_at_once_over_the_same_patches(
    stage: Stage, tmp_path: Path, checked_sky: CheckedSky, undisturbed: dict[str, str]
) -> None:
    """One by `bps submit`, one by `bulkcutout submit`; jobs of both wait for
    each other.
    """
    stages = [stage, Stage(tmp_path / "other", checked_sky, stage.pool)]
    waits, runs = [], []
    for one in stages:
        waits.append(Fault("wait", str(one.notes / "started"), patch=(8, 5)))
        site = one.site([waits[-1]])
        if one is stage:
            one.bulkcutout("submit", one.request, "--site", site, "--prepare-only")
            runs.append(run_id(one.run("bps", "submit", one.campaign / "bps.yaml")))
        else:
            runs.append(one.submit(site))
    assert stage.pool is not None
    stage.pool.wait_until(
        lambda: all(wait.occurrences() for wait in waits), "jobs of both campaigns run", deadline_s=DEADLINE_S
    )
    for wait in waits:
        wait.release()
    for one, run in zip(stages, runs, strict=True):
        assert one.wait(run) == 0
        assert "complete: 44 of 44 quanta done" in one.bulkcutout("status", one.campaign)
        one.check(undisturbed)


def test_storage_that_fails_memory_that_lacks_and_jobs_that_are_killed(
    stage: Stage, undisturbed: dict[str, str]
) -> None:
    """What BPS and HTCondor put right by themselves, each in another job."""
    image = stage.sky.repo.paths[3, 5, "r"]
    # Three readings end the first start of the job, the fourth is repeated in
    # the second.
    storage = Fault("unreadable", str(stage.notes / "storage"), file=str(image), times=4)
    memory = Fault("swell", str(stage.notes / "memory"), patch=(8, 3), megabytes=1000)
    quantum = Fault("die", str(stage.notes / "quantum"), where="after_cutouts", patch=(3, 15))
    packaging = Fault("wait", str(stage.notes / "packaging"), where="packaging")
    pool = stage.pool
    assert pool is not None

    run = stage.submit(stage.site([storage, memory, quantum, packaging], jobs=4))
    pool.wait_until(packaging.occurrences, "finish has begun to package", deadline_s=DEADLINE_S)
    # With all that watches over it.
    assert pool.kill_job(packaging.occurrences()[0]["job"])

    assert stage.wait(run) == 0
    ads = {ad["Id"]: ad for ad in stage.jobs(run)}

    said = [occurrence["job"] for occurrence in storage.occurrences()]
    assert len(said) == 4 and len(set(said)) == 1
    assert ads[said[0]]["NumJobStarts"] == 2
    assert "Try 2 of 3 failed: [Errno 5] Input/output error" in log_of(stage, said[0], 0)
    assert "Try 1 of 3 failed: [Errno 5] Input/output error" in log_of(stage, said[0], 1)

    [swollen] = [ads[occurrence["job"]] for occurrence in memory.occurrences()]
    assert swollen["NumHolds"] >= 1 and swollen["ExitCode"] == 0
    assert swollen["LastHoldReason"].endswith("memory usage exceeded request_memory")
    allotted = memory_of_starts(stage, swollen["Id"])
    assert allotted[0] < swollen["ResidentSetSize"] / 1024 < allotted[-1]

    assert len({said[0], swollen["Id"], quantum.occurrences()[0]["job"]}) == 3

    for fault in (quantum, packaging):
        [killed] = [ads[occurrence["job"]] for occurrence in fault.occurrences()]
        assert killed["NumJobStarts"] == 2
        assert (killed["ExitCode"], killed["NumHolds"]) == (0, 1)
        # It might have been for want of memory.
        first, second = memory_of_starts(stage, killed["Id"])
        assert second == 2 * first
    stage.check(undisturbed)


def test_glidein_is_killed_and_a_node_goes_down_under_running_jobs(
    stage: Stage, undisturbed: dict[str, str]
) -> None:
    pool = stage.pool
    assert pool is not None
    lost = Fault("wait", str(stage.notes / "lost"), patch=(3, 5), times=None)
    down = Fault("wait", str(stage.notes / "down"), patch=(8, 5), times=None)
    run = stage.submit(stage.site([lost, down]))
    pool.wait_until(
        lambda: lost.occurrences() and down.occurrences(), "both jobs wait", deadline_s=DEADLINE_S
    )

    first = glidein_of(lost.occurrences()[0])
    pool.lose_glidein(first)

    pool.wait_until(lambda: len(lost.occurrences()) == 2, "the job started again", deadline_s=DEADLINE_S)
    assert glidein_of(lost.occurrences()[1]) != first
    if glidein_of(down.occurrences()[0]) == first:
        pool.wait_until(lambda: len(down.occurrences()) == 2, "its neighbour too", deadline_s=DEADLINE_S)
    lost.release()
    pool.need_glideins(2)

    second = glidein_of(down.occurrences()[-1])
    before = len(down.occurrences())
    node = pool.node_of(second)
    pool.take_node(node)
    try:
        pool.wait_until(
            lambda: len(down.occurrences()) > before,
            "the job started on the other node",
            deadline_s=DEADLINE_S,
        )
        assert pool.node_of(glidein_of(down.occurrences()[-1])) not in ("", node)
        assert second not in pool.glideins()
        down.release()
        assert stage.wait(run) == 0
    finally:
        pool.give_node_back(node)
    stage.check(undisturbed)


def test_dag_is_removed_and_restarted(stage: Stage, undisturbed: dict[str, str]) -> None:
    pool = stage.pool
    assert pool is not None
    wait = Fault("wait", str(stage.notes / "removed"), patch=(3, 5), times=1)
    run = stage.submit(stage.site([wait]))
    pool.wait_until(wait.occurrences, "the job waits", deadline_s=DEADLINE_S)

    pool.exec("condor_rm", run)

    stage.wait(run)
    unprocessed = stage.unprocessed()
    assert (3, 5) in unprocessed
    stage.check(not_processed=unprocessed)

    wait.release()
    assert stage.wait(run_id(stage.bulkcutout("-v", "restart", stage.campaign))) == 0
    stage.check(undisturbed)


def test_corrupt_input_and_a_quantum_that_always_fails(
    stage: Stage, tmp_path: Path, checked_sky: CheckedSky, undisturbed: dict[str, str]
) -> None:
    """Damage is an answer, a failure past all retries is none. When images
    and storage are mended a restart does both again.
    """
    sky = damaged(checked_sky, tmp_path / "sky", [(3, 13, "r"), (8, 12, "r")])
    stage = Stage(tmp_path / "damaged", sky, stage.pool)
    failure = Fault("fail", str(stage.notes / "failure"), patch=(8, 2), times=None)
    run = stage.submit(stage.site([failure], numberOfRetries=1))

    assert stage.wait(run) != 0
    assert len(failure.occurrences()) == 2
    # The second band of the other damaged patch is good.
    stage.check(read_failed=[(3, 13)], not_processed=[(8, 2)])

    stage.set_faults([])
    mend(sky, checked_sky)
    stage.before = stage.surroundings()
    again = stage.bulkcutout("-v", "restart", stage.campaign, "--retry-rows", "read_failed")
    assert stage.wait(run_id(again)) == 0
    stage.check(undisturbed)
