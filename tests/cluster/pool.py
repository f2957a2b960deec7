# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later
"""A real HTCondor pool on a real SLURM, on one machine, for tests.

It is the production shape in small: a pool (master, collector, negotiator,
schedd) without slots of its own; the slots are glideins, a master and a startd
inside SLURM batch jobs. All listen on loopback only and live in a private
directory; a job is let in by a token that lies there.

``bin/cluster`` runs a pool by hand, the fixture in conftest.py for tests.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pool_processes import MARK, Process, end_processes, find_processes, read_environment, send_signal
from pool_setup import (
    PREFIX,
    UID,
    USER,
    PoolError,
    Settings,
    hold_ports,
    make_directory,
    read_settings,
    write_files,
)

__all__ = ("Pool",)

SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
HTCONDOR_DAEMONS = ("condor_master", "condor_collector", "condor_negotiator", "condor_schedd")
# HTCondor's numbers, in words.
JOB_STATES = {
    1: "idle",
    2: "running",
    3: "removed",
    4: "completed",
    5: "held",
    6: "transferring",
    7: "suspended",
}


class Pool:
    """A test pool.

    Parameters
    ----------
    directory
        Its private directory.
    settings
        Size and ports, for a pool to be started; else those it was started
        with.
    """

    def __init__(self, directory: Path, settings: Settings | None = None) -> None:
        self.directory = directory
        self.settings = settings or read_settings(directory)

    # -- start and stop ----------------------------------------------------

    def start(self) -> None:
        """Start the pool, and end one that an earlier session left behind.

        Raises
        ------
        PoolError
            Raised if it does not come up.
        """
        make_directory(self.directory)
        self.stop()
        with hold_ports():
            self._start()

    def _start(self) -> None:
        self.settings = write_files(self.directory, self.settings)
        self.exec("condor_token_create", "-identity", f"{USER}@pool.test", "-token", USER)
        munge = self.directory / "munge"
        files = [f"--{name}-file={munge / name}" for name in ("key", "pid", "log", "seed")]
        self._run("munged", "--force", f"--socket={munge / 'sock'}", *files)
        self._run("slurmctld")
        for node in range(1, self.settings.nodes + 1):
            self._run("slurmd", "-N", f"node{node}")
        self._run("condor_master")
        idle = ("sinfo", "--noheader", "--Node", "--states=idle", "--format=%N")
        self.wait_until(
            lambda: len(self.exec(*idle, check=False).stdout.split()) == self.settings.nodes,
            "the SLURM nodes are up",
        )
        schedd = ("condor_status", "-schedd", "-af", "Name")
        self.wait_until(lambda: "pool@" in self.exec(*schedd, check=False).stdout, "the schedd is up")

    def stop(self) -> None:
        """End jobs, glideins and daemons of this pool, and nothing else."""
        if not self.missing_daemons():
            # Gently first: a healthy pool can end its jobs itself.
            with contextlib.suppress(PoolError, subprocess.TimeoutExpired):
                self.exec("condor_rm", "-all", check=False, timeout_s=10)
                self.exec("scancel", "--user", USER, timeout_s=10)
                queue = ("squeue", "--noheader")
                self.wait_until(lambda: not self.exec(*queue).stdout, "glideins are gone", deadline_s=15)
        end_processes(self.directory)

    def missing_daemons(self) -> list[str]:
        """Name the daemons that do not run.

        Returns
        -------
        names
            Empty for a pool in order.
        """
        # /proc cuts names to 15 characters.
        running = [process.name for process in find_processes(self.directory)]
        missing = []
        for name in ("munged", "slurmctld", *["slurmd"] * self.settings.nodes, *HTCONDOR_DAEMONS):
            if name[:15] in running:
                running.remove(name[:15])
            else:
                missing.append(name)
        return missing

    # -- for clients -------------------------------------------------------

    @property
    def exports(self) -> dict[str, str]:
        """What a client outside has to have in its environment."""
        # condor_dagman is looked for in PATH, and so are the jobs' programs.
        ours = [str(PREFIX / "bin"), str(PREFIX / "sbin"), str(Path(sys.executable).parent)]
        others = [folder for folder in os.environ.get("PATH", SYSTEM_PATH).split(":") if folder not in ours]
        return {
            "CONDOR_CONFIG": str(self.directory / "condor_config"),
            "SLURM_CONF": str(self.directory / "slurm.conf"),
            # As root, HTCondor's tools look for a user "condor" otherwise.
            "CONDOR_IDS": f"{UID}.{UID}",
            "PATH": ":".join([*ours, *others]),
        }

    @property
    def env(self) -> dict[str, str]:
        """The whole environment of a client, to hand to `subprocess.run`."""
        foreign = ("_CONDOR_", "SLURM_")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
        return kept | self.exports

    def exec(
        self, *command: str | os.PathLike[str], check: bool = True, timeout_s: float = 60.0
    ) -> subprocess.CompletedProcess[str]:
        """Run a command as the pool's user and collect what it prints.

        Parameters
        ----------
        *command
            Program and arguments.
        check
            Is an exit code other than 0 an error?
        timeout_s
            How long it may take.

        Returns
        -------
        completed
            Exit code, stdout and stderr.

        Raises
        ------
        PoolError
            Raised if the command fails and ``check`` is true.
        """
        completed = subprocess.run(
            self.as_user(*command),
            env=self.env | {"USER": USER, "LOGNAME": USER},
            capture_output=True,
            text=True,
            timeout=timeout_s,
        )
        if check and completed.returncode != 0:
            words = " ".join(str(word) for word in command)
            raise PoolError(f"{words}: exit {completed.returncode}: {completed.stderr or completed.stdout}")
        return completed

    @staticmethod
    def as_user(*command: str | os.PathLike[str]) -> list[str]:
        """Wrap a command so that it runs as the pool's user.

        Parameters
        ----------
        *command
            Program and arguments.

        Returns
        -------
        command
            To be run in `env`. Files stay those of whoever runs it: the user
            exists in a user namespace only.
        """
        wrapper = ["unshare", "--user", f"--map-user={UID}", f"--map-group={UID}", "--"]
        return [*wrapper, *(os.fspath(word) for word in command)]

    # -- glideins ----------------------------------------------------------

    def glidein(self, count: int = 1, cpus: int | None = None, memory_mb: int | None = None) -> list[str]:
        """Add glideins and wait for their slots.

        Parameters
        ----------
        count
            How many.
        cpus
            CPUs of each; by default all that a node has.
        memory_mb
            Memory of each; by default all that a node has.

        Returns
        -------
        job_ids
            SLURM's ids of the new glideins.
        """
        size = (
            *("--cpus-per-task", str(cpus or self.settings.cpus)),
            *("--mem", str(memory_mb or self.settings.memory_mb)),
        )
        script = str(self.directory / "glidein.sbatch")
        # By the daemons' environment, which the glidein inherits.
        ids = [self._run("sbatch", "--parsable", *size, script).strip() for _ in range(count)]
        try:
            self.wait_until(lambda: set(ids) <= set(self.slots()), f"glideins {ids} have slots")
        except PoolError:
            # As where the nodes are full: do not come when nobody waits.
            self.exec("scancel", *ids, check=False)
            raise
        return ids

    def node_of(self, job_id: str) -> str:
        """Name the SLURM node of a glidein.

        Parameters
        ----------
        job_id
            SLURM's id of the glidein.

        Returns
        -------
        node
            As ``node1``.
        """
        return self.exec("squeue", "--noheader", "--jobs", job_id, "--format=%N").stdout.strip()

    def take_node(self, node: str) -> None:
        """Take a SLURM node down, with all that runs on it.

        Parameters
        ----------
        node
            Its name.
        """
        self.exec("scontrol", "update", f"nodename={node}", "state=down", "reason=test")

    def give_node_back(self, node: str) -> None:
        """Have SLURM use a node again.

        Parameters
        ----------
        node
            Its name.
        """
        # SLURM may have done it: a node that registers is up again.
        self.exec("scontrol", "update", f"nodename={node}", "state=resume", check=False)
        state = ("sinfo", "--noheader", f"--nodes={node}", "--states=idle,alloc,mix", "--format=%N")
        self.wait_until(lambda: self.exec(*state).stdout.strip(), f"{node} is up")

    def need_glideins(self, count: int = 2) -> list[str]:
        """Bring the glideins up to a number, whatever happened to them.

        Parameters
        ----------
        count
            How many there shall be.

        Returns
        -------
        job_ids
            SLURM's ids of all glideins.
        """
        missing = count - len(self.glideins())
        if missing > 0:
            self.glidein(missing)
        self.wait_until(lambda: set(self.glideins()) <= set(self.slots()), "every glidein has a slot")
        return self.glideins()

    def glideins(self) -> list[str]:
        """List the glideins that run or wait.

        Returns
        -------
        job_ids
            SLURM's ids.
        """
        states = "--states=PENDING,CONFIGURING,RUNNING"
        return self.exec("squeue", "--noheader", states, "--format=%i").stdout.split()

    def slots(self) -> list[str]:
        """List the glideins that HTCondor knows of.

        Returns
        -------
        job_ids
            SLURM's ids; a lost glidein stays for some 15 s.
        """
        command = ("condor_status", "-constraint", "PartitionableSlot", "-af", "GlideinSlurmJobId")
        return self.exec(*command).stdout.split()

    def lose_glidein(self, job_id: str) -> None:
        """End a glidein the way a node is lost: without farewell.

        Parameters
        ----------
        job_id
            SLURM's id of the glidein.
        """
        # HTCondor's daemons first, none of which may see the others die: SLURM
        # ends one process after another, and a starter that lives a bit longer
        # than its job would report the death of the job as its end.
        daemons = [
            process.pid
            for process in find_processes(self.directory)
            if process.name.startswith("condor_")
            and read_environment(process.pid).get("SLURM_JOB_ID") == job_id
        ]
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for pid in daemons:
                send_signal(pid, number, self.directory)
        # By now SLURM may have ended the rest itself.
        self.exec("scancel", "--full", "--signal=KILL", job_id, check=False)

    # -- jobs --------------------------------------------------------------

    def jobs(self, constraint: str = "true") -> list[dict[str, Any]]:
        """List the jobs in the queue, DAGMan's own included.

        Parameters
        ----------
        constraint
            ClassAd expression, as ``DAGManJobId == 5``.

        Returns
        -------
        ads
            The jobs' ClassAds (``Iwd``, ``Cmd``, ``bps_job_name``, ...) with
            ``Id``, as "5.0", and ``State``, in a word, besides.
        """
        return self._ads("condor_q", "-allusers", "-constraint", constraint)

    def history(self, constraint: str) -> list[dict[str, Any]]:
        """List jobs that have left the queue.

        Parameters
        ----------
        constraint
            ClassAd expression, as ``DAGManJobId == 5``.

        Returns
        -------
        ads
            As those of `jobs`.
        """
        return self._ads("condor_history", "-constraint", constraint)

    def wait_for_job(self, cluster: int | str, *, deadline_s: float = 120.0) -> dict[str, Any]:
        """Wait until a job has left the queue; for a DAG, give DAGMan's id.

        Parameters
        ----------
        cluster
            The job's id, ``5`` or ``5.0``: what ``bps submit`` prints.
        deadline_s
            How long to wait.

        Returns
        -------
        ad
            Its ClassAd in the history; ``ExitCode`` is the DAG's.
        """
        constraint = f"ClusterId == {str(cluster).partition('.')[0]}"
        self.wait_until(lambda: not self.jobs(constraint), f"job {cluster} is done", deadline_s=deadline_s)
        return self.wait_until(lambda: self.history(constraint), f"job {cluster} is in the history")[0]

    def job_processes(self, job_id: str) -> list[Process]:
        """Find the processes of a running job.

        Parameters
        ----------
        job_id
            The job's id, as "5.0".

        Returns
        -------
        processes
            Its own, without HTCondor's starter; empty if it does not run.
        """
        return [process for process in find_processes(self.directory) if _job_of(process.pid) == job_id]

    def kill_job(self, job_id: str, number: signal.Signals = signal.SIGKILL) -> list[Process]:
        """Send a signal to the processes of a running job.

        Parameters
        ----------
        job_id
            The job's id, as "5.0".
        number
            The signal.

        Returns
        -------
        processes
            Those that got it.
        """
        processes = self.job_processes(job_id)
        return [process for process in processes if send_signal(process.pid, number, self.directory)]

    # -- waiting -----------------------------------------------------------

    def wait_until[T](self, condition: Callable[[], T], what: str, *, deadline_s: float = 60.0) -> T:
        """Wait until a condition is true.

        Parameters
        ----------
        condition
            Asked four times a second at most.
        what
            The condition in words, for the error.
        deadline_s
            How long to wait.

        Returns
        -------
        answer
            The condition's first answer that is true.

        Raises
        ------
        PoolError
            Raised at the deadline, with what the pool looked like then.
        """
        start = time.monotonic()
        while not (answer := condition()):
            if time.monotonic() - start > deadline_s:
                raise PoolError(f"not within {deadline_s:.0f} s: {what}\n{self.describe()}")
            time.sleep(0.25)
        return answer

    def describe(self) -> str:
        """Say in some lines how the pool is.

        Returns
        -------
        text
            Daemons, SLURM's queue, HTCondor's slots and queue.
        """
        missing = self.missing_daemons()
        lines = [
            f"directory  {self.directory}",
            f"daemons    {'missing: ' + ', '.join(missing) if missing else 'all run'}",
        ]
        if find_processes(self.directory):
            for command in (("squeue",), ("condor_status",), ("condor_q", "-allusers", "-nobatch")):
                completed = self.exec(*command, check=False, timeout_s=20)
                lines += ["", f"$ {' '.join(command)}", (completed.stdout + completed.stderr).strip()]
        return "\n".join(lines)

    def _run(self, *command: str) -> str:
        # For daemons and what they inherit: marked, and without the caller's
        # environment, which may hold secrets. A daemon keeps the file that it
        # got as stdout, so that is not a pipe.
        environment = {
            "PATH": f"{PREFIX / 'bin'}:{PREFIX / 'sbin'}:{SYSTEM_PATH}",
            "CONDOR_CONFIG": self.exports["CONDOR_CONFIG"],
            "SLURM_CONF": self.exports["SLURM_CONF"],
            "HOME": str(self.directory / "home"),
            "USER": USER,
            "LOGNAME": USER,
            "LANG": "C.UTF-8",
            MARK: str(self.directory),
        }
        output = self.directory / "home" / f"{command[0]}.out"
        with open(output, "w") as stream:
            completed = subprocess.run(
                self.as_user(*command),
                env=environment,
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
            )
        text = output.read_text()
        if completed.returncode != 0:
            raise PoolError(f"{' '.join(command)}: exit {completed.returncode}: {text}")
        return text

    def _ads(self, *command: str) -> list[dict[str, Any]]:
        ads: list[dict[str, Any]] = json.loads(self.exec(*command, "-json").stdout or "[]")
        return [
            ad | {"Id": f"{ad['ClusterId']}.{ad['ProcId']}", "State": JOB_STATES[ad["JobStatus"]]}
            for ad in ads
        ]


def _job_of(pid: int) -> str | None:
    # HTCondor tells each job where its ClassAd lies.
    try:
        lines = Path(read_environment(pid)["_CONDOR_JOB_AD"]).read_text().splitlines()
    except (KeyError, OSError):
        return None
    values = dict(line.split(" = ", 1) for line in lines if " = " in line)
    return f"{values.get('ClusterId')}.{values.get('ProcId')}"
