# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later
"""The test pool itself: does it run jobs, and does it leave no trace?"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pool_command
import pool_setup
import psutil
import pytest
from pool import Pool
from pool_processes import MARK, find_processes
from pool_setup import USER, PoolError, PoolUnavailableError, Settings, hold, install, make_directory

SITE = Path(__file__).parents[2] / "python/lsst/dax/bulkcutout/config/sites/htcondor.yaml"


def submit(pool: Pool, directory: Path, script: str, **commands: str) -> str:
    """Submit a shell script, and return the job's id."""
    (directory / "job.sh").write_text(script)
    description = {
        "executable": "/bin/sh",
        "arguments": str(directory / "job.sh"),
        "output": str(directory / "job.out"),
        "error": str(directory / "job.out"),
        "log": str(directory / "job.log"),
        "request_memory": "100",
        "request_disk": "10MB",
    }
    lines = [f"{name} = {value}" for name, value in (description | commands).items()]
    (directory / "job.sub").write_text("\n".join([*lines, "queue", ""]))
    # "5.0 - 5.0"
    return pool.exec("condor_submit", "-terse", directory / "job.sub").stdout.split()[0]


def test_dag_submitted_through_the_bindings_runs_on_a_glidein(
    pool: Pool, glideins: list[str], tmp_path: Path
) -> None:
    """The way BPS does it: a client outside, who is not the pool's user."""
    (tmp_path / "a.sub").write_text(
        f"executable = {shutil.which('env')}\noutput = a.out\nlog = a.log\ngetenv = True\n"
        "request_memory = 100\nrequest_disk = 10MB\nqueue\n"
    )
    (tmp_path / "two.dag").write_text("JOB first a.sub\nJOB second a.sub\nPARENT first CHILD second\n")
    program = (
        "import htcondor2\n"
        "dag = htcondor2.Submit.from_dag('two.dag', {})\n"
        "dag.setQArgs('queue 1')\n"
        "print(htcondor2.Schedd().submit(dag, itemdata=None).cluster())\n"
    )
    client = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=pool.env, capture_output=True, text=True
    )
    assert client.returncode == 0, client.stderr
    cluster = client.stdout.split()[-1]

    done = pool.wait_for_job(cluster)

    assert (done["State"], done["ExitCode"]) == ("completed", 0)
    environment = dict(line.partition("=")[::2] for line in (tmp_path / "a.out").read_text().splitlines())
    assert str(Path(sys.executable).parent) in environment["PATH"].split(":")
    assert Path(environment["_CONDOR_SCRATCH_DIR"]).parents[1].name in glideins


def test_bps_submits_to_the_pool_with_our_site(pool: Pool, glideins: list[str], tmp_path: Path) -> None:
    """A job of BPS's own making, with the site that the package comes with."""
    script = tmp_path / "job.sh"
    script.write_text("#!/bin/sh\nenv\nwhich bps\n")
    script.chmod(0o755)
    (tmp_path / "job.yaml").write_text(
        f"includeConfigs: [{SITE}]\n"
        "project: test\ncampaign: pool\n"
        "payload: {payloadName: job, output: job, outputRun: 'job/{timestamp}'}\n"
        f"submitPath: {tmp_path}/submit\n"
        "requestMemory: 500\n"
        "environment: {CHOSEN: seen}\n"
        f"customJob: {{executable: {script}, arguments: ''}}\n"
    )
    bps = subprocess.run(
        ["bps", "submitcmd", "job.yaml"],
        cwd=tmp_path,
        env=pool.env | {"HIDDEN_TOKEN": "secret"},
        capture_output=True,
        text=True,
    )
    assert bps.returncode == 0, bps.stderr
    run_id = next(line.split()[-1] for line in bps.stdout.splitlines() if line.startswith("Run Id"))

    done = pool.wait_for_job(run_id)

    assert (done["State"], done["ExitCode"]) == ("completed", 0)
    [output] = (tmp_path / "submit/jobs/customJob").glob("*.out")
    lines = output.read_text().splitlines()
    assert "CHOSEN=seen" in lines
    assert str(Path(sys.executable).with_name("bps")) in lines
    assert "secret" not in output.read_text()


def test_job_of_a_lost_glidein_runs_again(pool: Pool, glideins: list[str], tmp_path: Path) -> None:
    go = tmp_path / "go"
    job = submit(
        pool,
        tmp_path,
        f'echo "$_CONDOR_SCRATCH_DIR" >> {tmp_path}/starts\nwhile [ ! -e {go} ]; do sleep 0.2; done\n',
        # How long HTCondor hopes that the node comes back.
        job_lease_duration="20",
    )
    starts = tmp_path / "starts"
    pool.wait_until(starts.exists, "the job started")
    first = Path(starts.read_text().split()[0]).parents[1].name
    assert first in glideins

    pool.lose_glidein(first)

    again = "the job started again"
    pool.wait_until(lambda: len(starts.read_text().split()) == 2, again, deadline_s=150)
    go.touch()
    done = pool.wait_for_job(job)
    assert (done["State"], done["ExitCode"], done["NumJobStarts"]) == ("completed", 0, 2)
    assert Path(starts.read_text().split()[1]).parents[1].name != first


def test_job_that_was_killed_ends_by_the_signal(pool: Pool, glideins: list[str], tmp_path: Path) -> None:
    job = submit(pool, tmp_path, f"touch {tmp_path}/started\nexec sleep 300\n")
    pool.wait_until((tmp_path / "started").exists, "the job started")
    [ad] = [ad for ad in pool.jobs() if ad["Id"] == job]
    assert ad["State"] == "running"

    killed = pool.kill_job(job)

    assert [process.name for process in killed] in (["sleep"], ["sh"])
    done = pool.wait_for_job(job)
    assert (done["ExitBySignal"], done["ExitSignal"]) == (True, signal.SIGKILL)
    assert pool.job_processes(job) == []


def test_pool_listens_on_loopback_only(pool: Pool, glideins: list[str]) -> None:
    addresses = {
        connection.laddr.ip
        for process in find_processes(pool.directory)
        for connection in psutil.Process(process.pid).net_connections(kind="inet")
        if connection.status == psutil.CONN_LISTEN or connection.type == socket.SOCK_DGRAM
    }
    assert addresses == {"127.0.0.1"}


def test_keys_can_be_read_by_their_owner_only(pool: Pool) -> None:
    assert pool.directory.stat().st_mode & 0o777 == 0o700
    assert pool.directory.parent.stat().st_mode & 0o777 == 0o700
    for name in ("munge/key", "condor/keys/POOL", f"condor/tokens/{USER}"):
        assert (pool.directory / name).stat().st_mode & 0o777 == 0o600, name


def test_client_without_the_token_is_refused(pool: Pool, tmp_path: Path) -> None:
    """Any user of the machine reaches the ports; a job would run as root."""
    unarmed = {
        "_CONDOR_SEC_TOKEN_DIRECTORY": str(tmp_path),
        "_CONDOR_SEC_TOKEN_SYSTEM_DIRECTORY": str(tmp_path),
        "_CONDOR_SEC_PASSWORD_DIRECTORY": str(tmp_path),
        "_CONDOR_SEC_TOKEN_POOL_SIGNING_KEY_FILE": str(tmp_path / "none"),
        "_CONDOR_SEC_DEFAULT_AUTHENTICATION_METHODS": "FS, CLAIMTOBE, ANONYMOUS, IDTOKENS, SSL",
    }
    command = pool.as_user("condor_ping", "-type", "schedd", "WRITE")
    outcomes = [
        subprocess.run(command, env=pool.env | extra, capture_output=True, text=True, timeout=60)
        for extra in ({}, unarmed)
    ]
    assert [outcome.returncode for outcome in outcomes] == [0, 1], outcomes


@pytest.fixture
def other_pool(pool: Pool) -> Iterator[Pool]:
    """A second pool beside the session's, with ports of its own."""
    other = Pool(pool.directory.with_name(f"{pool.directory.name}-other"), Settings(nodes=1))
    with hold(other.directory):
        try:
            other.start()
            yield other
        finally:
            other.stop()
            shutil.rmtree(other.directory)


@pytest.fixture
def bystander(other_pool: Pool) -> Iterator[psutil.Popen]:
    """A process that is not the pool's, though much speaks for it."""
    process = psutil.Popen(["sleep", "300"], env=os.environ | {MARK: str(other_pool.directory)})
    for path in ("munge/pid", "slurm/ctld.pid", "slurm/node1.pid"):
        (other_pool.directory / path).write_text(f"{process.pid}\n")
    yield process
    process.kill()
    process.wait()


def test_stop_ends_the_pools_processes_and_no_others(
    pool: Pool, other_pool: Pool, bystander: psutil.Popen
) -> None:
    assert other_pool.settings.collector_port != pool.settings.collector_port
    assert bystander.pid not in [process.pid for process in find_processes(other_pool.directory)]

    other_pool.stop()

    assert find_processes(other_pool.directory) == []
    assert bystander.is_running() and bystander.status() == psutil.STATUS_SLEEPING
    assert pool.missing_daemons() == []


def test_pool_left_by_an_earlier_session_is_replaced(
    pool: Pool, other_pool: Pool, bystander: psutil.Popen
) -> None:
    """Broken, with a glidein, and with numbers in pid files that lie."""
    other_pool.glidein(1)
    before = find_processes(other_pool.directory)
    for process in before:
        if process.name in ("condor_master", "slurmctld"):
            os.kill(process.pid, signal.SIGKILL)

    new = Pool(other_pool.directory, Settings(nodes=1))
    new.start()

    assert new.missing_daemons() == []
    now = {process.pid for process in find_processes(new.directory)}
    assert not now.intersection(process.pid for process in before)
    assert bystander.is_running()
    assert pool.missing_daemons() == []


def test_pool_of_a_living_session_is_left_to_it(pool: Pool) -> None:
    with pytest.raises(PoolError, match="belongs to a session"), hold(pool.directory):
        pass


def test_command_shows_status_and_environment(
    pool: Pool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool_command, "hand_directory", lambda: pool.directory)
    assert pool_command.main(["status"]) == 0
    assert "all run" in capsys.readouterr().out
    assert pool_command.main(["env"]) == 0
    assert f"export CONDOR_CONFIG={pool.directory}/condor_config" in capsys.readouterr().out


def test_command_says_that_no_pool_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool_command, "hand_directory", lambda: tmp_path / "none")
    assert pool_command.main(["status"]) == 3
    assert pool_command.main(["env"]) == 3
    assert "bin/cluster start" in capsys.readouterr().err


def test_machine_that_cannot_have_it_is_told_why(monkeypatch: pytest.MonkeyPatch) -> None:
    """Here because the number of the pool's user is taken."""
    if os.getuid() != 0:
        pytest.skip("no test pool: not root")
    monkeypatch.setattr(pool_setup, "UID", 1)
    with pytest.raises(PoolUnavailableError, match="user id 1 belongs to daemon"):
        install()


def test_directory_open_to_others_is_refused(tmp_path: Path) -> None:
    directory = tmp_path / "pool"
    directory.mkdir(mode=0o755)
    tmp_path.chmod(0o700)
    with pytest.raises(PoolError, match="not a private directory"):
        make_directory(directory)
