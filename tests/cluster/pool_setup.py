# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later
"""What a test pool is made of: programs, directories, ports, configuration."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import secrets
import shutil
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

__all__ = (
    "PREFIX",
    "UID",
    "USER",
    "PoolError",
    "PoolUnavailableError",
    "Settings",
    "hand_directory",
    "hold",
    "hold_ports",
    "install",
    "make_directory",
    "pool_directories",
    "read_settings",
    "tests_directory",
    "write_files",
)

HERE = Path(__file__).resolve().parent
SUITE = os.environ.get("BULKCUTOUT_CONDOR_SUITE", "trixie")
PREFIX = Path(os.environ.get("BULKCUTOUT_CONDOR_PREFIX", f"/var/cache/bulkcutout/condor-{SUITE}"))
"""Where HTCondor is. It is baked into the binaries: a cached copy has to go
to the same place."""
USER = os.environ.get("BULKCUTOUT_POOL_USER", "rubin")
"""Name of the user that daemons and jobs believe to be."""
UID = int(os.environ.get("BULKCUTOUT_POOL_UID", "20001"))
"""Number of that user; outside the pool it is whoever started the pool."""
POOLS = Path(os.environ.get("BULKCUTOUT_POOLS", f"/var/tmp/bulkcutout-pools-{os.getuid()}"))
"""Private directory that holds the pools' directories."""


class PoolError(Exception):
    """The pool did not do what it was told."""


class PoolUnavailableError(Exception):
    """The pool cannot be installed on this machine; the text says why."""


@dataclass(frozen=True)
class Settings:
    """Size and ports of a pool; a port that is taken gives way to the next."""

    nodes: int = 2
    """SLURM nodes, all on this host."""
    cpus: int = 4
    """CPUs that a node claims to have; the machine may have fewer."""
    memory_mb: int = 8000
    """Memory that a node claims to have."""
    collector_port: int = 19618
    """HTCondor's collector."""
    slurmctld_port: int = 16817
    """SLURM's controller."""
    slurmd_ports: tuple[int, ...] = (17001, 17002)
    """SLURM's nodes."""
    partition: str = "milano"
    """SLURM's partition, named as the observatory's."""


def install() -> None:
    """Install SLURM and HTCondor, unless they are there.

    Raises
    ------
    PoolUnavailableError
        Raised if this machine cannot have them.
    """
    settings = {
        "SUITE": SUITE,
        "PREFIX": os.fspath(PREFIX),
        "POOL_USER": USER,
        "POOL_UID": str(UID),
    }
    completed = subprocess.run(
        ["bash", HERE / "install.sh"], env=os.environ | settings, stderr=subprocess.PIPE, text=True
    )
    if completed.returncode != 0:
        sys.stderr.write(completed.stderr)
        lines = completed.stderr.strip().splitlines() or [f"install.sh: exit {completed.returncode}"]
        raise PoolUnavailableError(lines[-1])


# -- directories -----------------------------------------------------------


def hand_directory() -> Path:
    """Name the directory of the pool that ``bin/cluster start`` makes."""
    return POOLS / "hand"


def tests_directory() -> Path:
    """Name the directory of the test sessions' pool: one for each checkout,
    and for each process where several test at the same time.
    """
    worker = os.environ.get("PYTEST_XDIST_WORKER", "")
    return POOLS / f"tests-{hashlib.sha256(os.fsencode(HERE)).hexdigest()[:8]}{worker}"


def pool_directories() -> list[Path]:
    """List the directories of all pools on this machine."""
    return sorted(entry for entry in POOLS.glob("*") if entry.is_dir()) if POOLS.is_dir() else []


def make_directory(directory: Path) -> None:
    """Make a pool's directory, private.

    Parameters
    ----------
    directory
        The pool's directory.

    Raises
    ------
    PoolError
        Raised if someone else made it: it lies in a place open to all.
    """
    for folder in (directory.parent, directory):
        with contextlib.suppress(FileExistsError):
            folder.mkdir(mode=0o700)
        status = folder.lstat()
        private = stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid()
        if not private or stat.S_IMODE(status.st_mode) & 0o077:
            raise PoolError(
                f"{folder} is not a private directory of ours: remove it, or set BULKCUTOUT_POOLS"
            )


@contextlib.contextmanager
def hold(directory: Path, *, deadline_s: float = 0.0) -> Iterator[None]:
    """Keep other sessions away from a pool's directory.

    Parameters
    ----------
    directory
        The pool's directory.
    deadline_s
        How long to wait for another session to end.

    Raises
    ------
    PoolError
        Raised if another session still has it then.
    """
    make_directory(directory)
    start = time.monotonic()
    with open(directory / "lock", "w") as stream:
        while True:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() - start > deadline_s:
                    raise PoolError(f"the pool in {directory} belongs to a session that still runs") from None
                time.sleep(0.5)
            else:
                break
        yield


@contextlib.contextmanager
def hold_ports() -> Iterator[None]:
    """Keep other pools from taking ports: until its daemons listen, a port
    that a pool has taken looks free.
    """
    with open(POOLS / "ports.lock", "w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


# -- configuration ---------------------------------------------------------


def read_settings(directory: Path) -> Settings:
    """Read the settings that a pool was started with.

    Parameters
    ----------
    directory
        The pool's directory.

    Returns
    -------
    settings
        The default ones if there is no pool.
    """
    try:
        saved = json.loads((directory / "pool.json").read_text())
    except FileNotFoundError:
        return Settings()
    return Settings(**saved | {"slurmd_ports": tuple(saved["slurmd_ports"])})


def write_files(directory: Path, settings: Settings) -> Settings:
    """Write configuration and keys into a pool's directory, emptied before.

    Parameters
    ----------
    directory
        The pool's directory.
    settings
        Size, and the ports to try first.

    Returns
    -------
    settings
        With the ports that are free.
    """
    for entry in directory.iterdir():
        # The lock is what keeps others away meanwhile.
        if entry.name != "lock":
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    ports = _free_ports(settings.collector_port, settings.slurmctld_port, *settings.slurmd_ports)
    settings = replace(
        settings, collector_port=ports[0], slurmctld_port=ports[1], slurmd_ports=tuple(ports[2:])
    )
    nodes = range(1, settings.nodes + 1)
    condor = [f"condor/{name}" for name in ("log", "spool", "execute", "run", "lock", "keys", "tokens")]
    slurm = ["slurm/ctld", "slurm/log", *(f"slurm/d/node{node}" for node in nodes)]
    for name in ("home", "glidein", "munge", *slurm, *condor):
        (directory / name).mkdir(mode=0o700, parents=True)
    for name in ("munge/key", "condor/keys/POOL"):
        with open(os.open(directory / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
            stream.write(secrets.token_bytes(1024))
    values = {
        "POOL": os.fspath(directory),
        "PREFIX": os.fspath(PREFIX),
        "USER": USER,
        "HOST": socket.gethostname().partition(".")[0],
        "PARTITION": settings.partition,
        "COLLECTOR_PORT": str(settings.collector_port),
        "SLURMCTLD_PORT": str(settings.slurmctld_port),
        "NODE_LINES": "\n".join(_node_line(settings, node) for node in nodes),
    }
    for template in (HERE / "templates").iterdir():
        text = re.sub("@([A-Z_]+)@", lambda match: values[match[1]], template.read_text())
        (directory / template.name).write_text(text)
    version = subprocess.run(["slurmd", "-V"], capture_output=True, text=True, check=True).stdout
    if int(re.findall(r"\d+", version)[0]) >= 24:
        # Newer ones look for cgroups even if no plugin of ours uses them.
        (directory / "cgroup.conf").write_text("CgroupPlugin=disabled\n")
    (directory / "pool.json").write_text(json.dumps(asdict(settings)))
    return settings


def _node_line(settings: Settings, node: int) -> str:
    return (
        f"NodeName=node{node} NodeHostname={socket.gethostname().partition('.')[0]} NodeAddr=127.0.0.1 "
        f"Port={settings.slurmd_ports[node - 1]} CPUs={settings.cpus} RealMemory={settings.memory_mb}"
    )


def _free_ports(*wanted: int) -> list[int]:
    free: list[int] = []
    for port in wanted:
        while port in free or not _is_free(port):
            port += 1
        free.append(port)
    return free


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        # As the daemons do: a connection closed lately is no hindrance.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
