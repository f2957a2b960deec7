# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""One run of one tool, in a process of its own, measured from outside."""

from __future__ import annotations

import json
import os
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

__all__ = ("FailedError", "measure", "warm_memory")

INTERVAL_S = 0.05


class FailedError(Exception):
    """The tool did not do its work."""


def measure(command: Sequence[str], *, log: Path, report: Path, env: Mapping[str, str]) -> dict[str, float]:
    """Run a command and wait for it.

    Parameters
    ----------
    command
        Program and arguments.
    log
        Where what it says goes.
    report
        File in which it tells the time of the work itself, if it does.
    env
        Its environment.

    Returns
    -------
    figures
        ``whole_s`` and ``whole_cpu_s`` of the process and all that it
        started, ``peak_mb`` of their memory, and what the report says.
    """
    report.unlink(missing_ok=True)
    started = time.perf_counter()
    with open(log, "wb") as said:
        process = subprocess.Popen(command, stdout=said, stderr=subprocess.STDOUT, env=dict(env))
        sampler = _Sampler(process.pid)
        sampler.start()
        # Its usage holds that of all its descendants that were waited for.
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.perf_counter() - started
    sampler.stop()
    if process.returncode != 0:
        raise FailedError(f"{' '.join(command)} ended with {process.returncode}:\n{log.read_text()[-3000:]}")
    figures = {
        "whole_s": seconds,
        "whole_cpu_s": usage.ru_utime + usage.ru_stime,
    }
    said_itself = json.loads(report.read_text()) if report.exists() else {}
    # Not ru_maxrss, which begins with the memory of who started the process.
    peaks = [sampler.peak, said_itself.pop("peak_bytes", 0)]
    return figures | {"peak_mb": max(peaks) / 1e6} | said_itself


def warm_memory(path: Path, n_bytes: int) -> None:
    """Write a file of zeros, so that there is memory for what comes.

    On a virtual machine pages of memory that are used first may cost the
    kernel ten times as much as later ones, because the host has to find
    them: whoever came first would pay.
    """
    block = bytes(1 << 24)
    with open(path, "wb", buffering=0) as file:
        for start in range(0, n_bytes, len(block)):
            file.write(block[: n_bytes - start])


class _Sampler(threading.Thread):
    """Looks at the memory of a process, and of all its descendants once it has
    some; pages that they share count once.
    """

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._root = psutil.Process(pid)
        self._over = threading.Event()
        self.peak = 0

    def run(self) -> None:
        while not self._over.wait(INTERVAL_S):
            try:
                family = [self._root, *self._root.children(recursive=True)]
            except psutil.Error:
                return
            self.peak = max(self.peak, sum(_memory(each) for each in family))

    def stop(self) -> None:
        self._over.set()
        self.join()


def _memory(process: psutil.Process) -> int:
    try:
        return int(process.memory_full_info().pss)
    except psutil.Error:
        return 0
