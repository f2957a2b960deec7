# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""The parent of ``bulkcutout finish``: however the child ends, it says so."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from tiny_sky import SIZE, tiny_table

from lsst.dax.bulkcutout.finish import finish
from lsst.dax.bulkcutout.manifest import read_manifest
from lsst.dax.bulkcutout.tests import SkyRepository
from lsst.dax.bulkcutout.tests.campaigns import init_and_run, write_request
from lsst.dax.bulkcutout.tests.sabotage import Fault, write_faults

KILLED = 77
"""What `killed` gives in these tests."""


def start(work: str) -> subprocess.Popen[str]:
    """Start a supervisor whose child does some work; what it is told of a
    killed child it prints.
    """
    code = f"""
    import os, signal, sys, time
    from lsst.dax.bulkcutout.supervisor import supervise
    # Whoever runs the tests may have been started by nohup, or with "&".
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    def work():
        print("child", os.getpid(), flush=True)
        {work}
    def killed(message):
        print("killed:", message, flush=True)
        return {KILLED}
    sys.exit(supervise(work, killed))
    """
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def child_of(process: subprocess.Popen[str]) -> int:
    assert process.stdout is not None
    return int(process.stdout.readline().split()[1])


def wait_until_gone(pid: int) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            os.kill(pid, 0)
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return
        except (ProcessLookupError, FileNotFoundError):
            return
        time.sleep(0.05)
    raise AssertionError(f"process {pid} is still there")


@pytest.mark.parametrize("status", [0, 2, 75, 128])
def test_status_of_the_child_is_that_of_the_parent(status: int) -> None:
    process = start(f"return {status}")
    out, _ = process.communicate(timeout=30)
    assert process.returncode == status and "killed" not in out


@pytest.mark.parametrize("status", [129, 137, 255])
def test_status_above_128_never_comes_out(status: int) -> None:
    process = start(f"return {status}")
    out, _ = process.communicate(timeout=30)
    assert process.returncode == KILLED and f"It ended with status {status}." in out


def test_unforeseen_error_shows_its_traceback() -> None:
    process = start("raise KeyError('nobody foresaw this')")
    _, err = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "Traceback" in err and "nobody foresaw this" in err


def test_output_of_the_child_goes_through() -> None:
    process = start("print('to out'); print('to err', file=sys.stderr); return 0")
    out, err = process.communicate(timeout=30)
    assert "to out" in out and "to err" in err


@pytest.mark.parametrize(
    ("number", "said"),
    [(signal.SIGKILL, "Memory is the usual reason"), (signal.SIGSEGV, "It died (SIGSEGV).")],
)
def test_child_that_is_killed_is_told_of(number: signal.Signals, said: str) -> None:
    process = start("time.sleep(60)")
    os.kill(child_of(process), number)
    out, _ = process.communicate(timeout=30)
    assert process.returncode == KILLED and said in out


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signal_to_the_parent_reaches_the_child(number: signal.Signals) -> None:
    """SIGTERM is how HTCondor removes a job, SIGINT is Ctrl-C."""
    process = start("time.sleep(60)")
    child = child_of(process)
    process.send_signal(number)
    out, _ = process.communicate(timeout=30)
    assert process.returncode == KILLED and f"It was stopped ({number.name})" in out
    wait_until_gone(child)


def test_ctrl_c_lets_the_child_clear_away() -> None:
    process = start(
        """try:
            print("at work", flush=True)
            time.sleep(60)
        finally:
            print("cleared away", flush=True)"""
    )
    child_of(process)
    assert process.stdout is not None and process.stdout.readline() == "at work\n"
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == KILLED
    assert out.count("cleared away") == 1 and "Traceback" not in err


def test_child_ends_when_the_parent_is_killed() -> None:
    process = start("time.sleep(60)")
    child = child_of(process)
    process.kill()
    process.communicate(timeout=30)
    wait_until_gone(child)


def test_ignored_signal_stays_ignored() -> None:
    """As with nohup."""
    run = subprocess.run(
        [
            *("sh", "-c", "trap '' HUP; exec \"$@\"", "-", sys.executable, "-c"),
            "import os, signal, sys\n"
            "from lsst.dax.bulkcutout.supervisor import supervise\n"
            "def work():\n"
            "    os.kill(os.getppid(), signal.SIGHUP)\n"
            "    return 5\n"
            "sys.exit(supervise(work, lambda message: 6))",
        ],
        timeout=30,
        check=False,
    )
    assert run.returncode == 5


def test_finish_that_is_killed_ends_with_75_and_leaves_a_note(
    tmp_path: Path, tiny_repo: SkyRepository
) -> None:
    """The command as BPS gives it, killed with SIGKILL between two files;
    given again it goes on.
    """
    catalog = tmp_path / "catalog.parquet"
    pq.write_table(tiny_table(tiny_repo), catalog)
    campaign = init_and_run(write_request(tmp_path, tiny_repo, catalog, size=SIZE, partition={"by": "patch"}))
    faults = tmp_path / "faults.json"
    write_faults(faults, [Fault("die", str(tmp_path / "killed"), where="packaging")])
    stand_in = [sys.executable, "-m", "lsst.dax.bulkcutout.tests.sabotage", str(faults)]
    command = [*stand_in, "-v", "finish", str(campaign.root), "--processes", "1"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert run.returncode == 75
    assert "bulkcutout: packaging did not come to its end. It was killed (SIGKILL)." in run.stderr
    note = json.loads(campaign.finish_log.read_text())
    assert (note["state"], note["status"]) == ("failed", 75) and "requestMemory" in note["message"]
    assert not (tmp_path / "out" / "manifest.json").exists()
    run = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert run.returncode == 0 and "Packaged {'delivered': 18}" in run.stderr
    assert json.loads(campaign.finish_log.read_text())["state"] == "complete"
    assert read_manifest(tmp_path / "out").complete


def test_finish_that_is_killed_after_its_note_keeps_its_outcome(
    tmp_path: Path, tiny_repo: SkyRepository
) -> None:
    """What comes after the note, telling others, changes nothing."""
    catalog = tmp_path / "catalog.parquet"
    pq.write_table(tiny_table(tiny_repo), catalog)
    campaign = init_and_run(write_request(tmp_path, tiny_repo, catalog, size=SIZE))
    code = """
    import os, signal, sys
    from lsst.dax.bulkcutout import finish_note
    from lsst.dax.bulkcutout import finish as module
    from lsst.dax.bulkcutout.cli import main
    def write(*given):
        finish_note.write_note(*given)
        os.kill(os.getpid(), signal.SIGKILL)
    module.write_note = write
    main()
    """
    command = [sys.executable, "-c", textwrap.dedent(code), "finish", str(campaign.root)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert run.returncode == 0
    assert json.loads(campaign.finish_log.read_text())["state"] == "complete"
    assert finish(campaign) == 0


def test_supervisor_is_small() -> None:
    """What waits must not take the memory of what works: no big library is
    imported before the child is made.
    """
    code = """
    import sys
    from lsst.dax.bulkcutout import supervisor
    def supervise(work, killed):
        print(*sys.modules)
        return 0
    supervisor.supervise = supervise
    from lsst.dax.bulkcutout.cli import main
    main()
    """
    command = [sys.executable, "-c", textwrap.dedent(code), "finish", "nowhere"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    loaded = set(run.stdout.split())
    assert "lsst.dax.bulkcutout.supervisor" in loaded
    assert not loaded & {"numpy", "pyarrow", "h5py", "pydantic", "yaml", "lsst.daf.butler", "astropy"}
