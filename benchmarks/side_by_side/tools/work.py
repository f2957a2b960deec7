# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""What all tools have in common: the job, and the sink for their cutouts.

Runs in the environments of the peers too, so it needs NumPy alone.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ("BLOCK", "PLANES", "Sink", "block_arrays", "carry_out", "peak_bytes", "read_targets", "stopwatch")

PLANES = {"image": np.float32, "variance": np.float32, "mask": np.int32}
"""Planes of a cutout and the type of their pixels."""

BLOCK = 2048
"""Cutouts that a tool hands over at a time: 32 MiB of a plane at 64 px."""


class Sink:
    """Writes cutouts raw, one unbuffered file a plane, as they come.

    Files that are there are written over, so that the kernel need not look
    for memory.
    """

    def __init__(self, directory: str) -> None:
        self._directory = Path(directory)
        self._files = {plane: _open(self._directory / f"{plane}.raw") for plane in PLANES}
        self._order: list[np.ndarray] = []
        self.bytes = 0

    def write(self, index: np.ndarray, pixels: Mapping[str, np.ndarray]) -> None:
        """Take a block: which targets these are, and their pixels."""
        self._order.append(np.array(index, dtype=np.int64))
        for plane, values in pixels.items():
            self.bytes += _write_all(self._files[plane], values)

    def close(self) -> None:
        for file in self._files.values():
            file.close()
        np.save(self._directory / "order.npy", np.concatenate(self._order))


def _open(path: Path) -> Any:
    return open(path, "r+b" if path.exists() else "wb", buffering=0)


def _write_all(file: Any, values: np.ndarray) -> int:
    # A single write takes no more than 2 GiB.
    view = memoryview(np.ascontiguousarray(values)).cast("B")
    done = 0
    while done < len(view):
        done += file.write(view[done:])
    return done


def block_arrays(size: int, n: int) -> dict[str, np.ndarray]:
    """Arrays for a block of cutouts of all planes, to be filled again and
    again.
    """
    return {plane: np.empty((min(n, BLOCK), size, size), dtype) for plane, dtype in PLANES.items()}


def read_targets(job: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Positions of a job's targets: ``x, y`` in pixels of the file, the first
    pixels ``first_x, first_y`` of their boxes, and ``ra, dec``.
    """
    with np.load(job["targets"]) as columns:
        return {name: columns[name][: job["n"]] for name in columns.files}


def stopwatch() -> Callable[[], dict[str, float]]:
    """Start a stopwatch; calling it tells elapsed and CPU seconds, the latter
    of all threads and of child processes that have ended, and how many of
    them were the kernel's.
    """

    def cpu() -> tuple[float, float]:
        usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        system = sum(each.ru_stime for each in usage)
        return system + sum(each.ru_utime for each in usage), system

    def elapsed() -> dict[str, float]:
        total, system = cpu()
        return {
            "work_s": time.perf_counter() - start,
            "work_cpu_s": total - start_cpu[0],
            "work_kernel_s": system - start_cpu[1],
        }

    start, start_cpu = time.perf_counter(), cpu()
    return elapsed


def carry_out(
    cut: Callable[[Mapping[str, Any], dict[str, np.ndarray], Sink], None],
    prepare: Callable[[Mapping[str, Any], dict[str, np.ndarray]], None] | None = None,
) -> None:
    """Carry out the job whose file is named on the command line.

    First a small one, which is not timed: whatever a tool loads, compiles or
    caches when it is used first is not part of the work.

    Parameters
    ----------
    cut
        Does it, all of it.
    prepare
        Called before the time is taken.
    """
    job = json.loads(Path(sys.argv[1]).read_text())
    for each in (job["warm_up"], job):
        targets = read_targets(each)
        directory = Path(each["output"])
        directory.mkdir(parents=True, exist_ok=True)
        if prepare is not None:
            prepare(each, targets)
        elapsed = stopwatch()
        sink = Sink(each["output"])
        cut(each, targets, sink)
        sink.close()
        report = {**elapsed(), "bytes": sink.bytes}
    Path(job["report"]).write_text(json.dumps({**report, "peak_bytes": peak_bytes()}))


def peak_bytes() -> int:
    """Most memory that this process has had."""
    (line,) = (line for line in open("/proc/self/status") if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024
