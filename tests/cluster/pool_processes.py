# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later
"""Which processes belong to a test pool, and how to end those and no others.

Numbers in pid files are not trusted: a number is used again. The daemons are
started in user namespaces of their own with a mark in their environment;
whatever they start stays in these namespaces. So a process is the pool's if
it shares a namespace, not ours, with a marked process.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ("MARK", "Process", "end_processes", "find_processes", "read_environment", "send_signal")

MARK = "BULKCUTOUT_POOL"
"""Environment variable of the daemons: the directory of their pool."""


@dataclass(frozen=True)
class Process:
    """A process as /proc shows it."""

    pid: int
    name: str
    command: tuple[str, ...]


def find_processes(directory: Path) -> list[Process]:
    """Find the living processes of the pool in a directory.

    Parameters
    ----------
    directory
        The pool's directory.

    Returns
    -------
    processes
        Daemons, glideins and jobs.
    """
    wanted = os.fspath(directory)
    ours = _namespace("self")
    namespaces = {pid: namespace for pid in _pids() if (namespace := _namespace(pid)) not in (None, ours)}
    marked = {namespace for pid, namespace in namespaces.items() if read_environment(pid).get(MARK) == wanted}
    found = [_describe(pid) for pid, namespace in namespaces.items() if namespace in marked]
    return [process for process in found if process is not None]


def end_processes(directory: Path, *, grace_s: float = 5.0, deadline_s: float = 30.0) -> None:
    """End all processes of the pool in a directory, and wait until they left.

    Parameters
    ----------
    directory
        The pool's directory.
    grace_s
        How long SIGTERM may take before SIGKILL is sent.
    deadline_s
        How long all may take.

    Raises
    ------
    TimeoutError
        Raised if a process is still there at the deadline.
    """
    start = time.monotonic()
    asked: set[int] = set()
    while processes := find_processes(directory):
        elapsed = time.monotonic() - start
        if elapsed > deadline_s:
            raise TimeoutError(f"still running after {deadline_s:.0f} s: {processes}")
        for process in processes:
            if elapsed > grace_s:
                send_signal(process.pid, signal.SIGKILL, directory)
            elif process.pid not in asked:
                asked.add(process.pid)
                send_signal(process.pid, signal.SIGTERM, directory)
        time.sleep(0.1)


def send_signal(pid: int, number: signal.Signals, directory: Path) -> bool:
    """Send a signal to a process, if it is the pool's.

    Parameters
    ----------
    pid
        Number of the process.
    number
        The signal.
    directory
        The pool's directory.

    Returns
    -------
    sent
        False if the process is gone or is not the pool's.
    """
    # The descriptor holds the process: between the check and the signal its
    # number cannot become another's.
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return False
    try:
        if not any(process.pid == pid for process in find_processes(directory)):
            return False
        signal.pidfd_send_signal(descriptor, number)
        return True
    except ProcessLookupError:
        return False
    finally:
        os.close(descriptor)


def read_environment(pid: int) -> dict[str, str]:
    """Read the environment that a process was started with.

    Parameters
    ----------
    pid
        Number of the process.

    Returns
    -------
    environment
        Empty if the process is gone, or not ours to look at.
    """
    try:
        entries = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return {}
    pairs = (os.fsdecode(entry).partition("=") for entry in entries if entry)
    return {name: value for name, _, value in pairs}


def _pids() -> Iterator[int]:
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            yield int(entry.name)


def _namespace(pid: int | str) -> str | None:
    try:
        return os.readlink(f"/proc/{pid}/ns/user")
    except OSError:
        return None


def _describe(pid: int) -> Process | None:
    try:
        name = Path(f"/proc/{pid}/comm").read_text().strip()
        command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return None
    return Process(pid, name, tuple(os.fsdecode(word) for word in command if word))
