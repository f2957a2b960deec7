# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""What the measurements were made on, and with."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from importlib import metadata
from pathlib import Path

import psutil

from .peers import PEERS, REQUIREMENTS

__all__ = ("describe_machine", "describe_software")

OURS = ("numba", "isal", "numpy", "h5py", "fitsio", "astropy", "lsst-images", "lsst-daf-butler")


def describe_machine() -> str:
    """Processor, cores, memory, system."""
    found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    processor = found[1] if found else platform.machine()
    memory = psutil.virtual_memory().total / 2**30
    return (
        f"{len(os.sched_getaffinity(0))} cores ({processor}), {memory:.0f} GiB of memory, "
        f"{platform.system()} {platform.release()}"
    )


def describe_software() -> list[tuple[str, str]]:
    """Versions: ours and what it works with, then those of the peers."""
    root = Path(__file__).parents[2]
    command = ["git", "-C", str(root), "describe", "--always", "--dirty"]
    commit = subprocess.run(command, capture_output=True, text=True).stdout.strip() or "unknown"
    versions = [f"Python {platform.python_version()}"]
    for name in OURS:
        try:
            versions.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            continue
    rows = [("bulkcutout", f"commit {commit}; {', '.join(versions)}")]
    for peer in PEERS:
        pins = dict(
            line.split("==", 1)
            for line in (REQUIREMENTS / f"{peer}.txt").read_text().splitlines()
            if "==" in line
        )
        others = [
            f"{name} {pins[name]}"
            for name in ("astropy", "numpy", "zarr", "h5py")
            if name in pins and name != peer
        ]
        rows.append((peer, f"{pins[peer]}, with {', '.join(others)}"))
    return rows
