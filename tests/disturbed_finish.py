# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Have ``finish`` fail, or be killed, at each place where it touches a disk.

A program for `test_finish_disturbed`; each attempt is a child of it, so that
libraries are imported once.  It prints what was wrong, as JSON.
"""

from __future__ import annotations

import collections
import contextlib
import errno
import hashlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from lsst.dax.bulkcutout.campaign import Campaign
from lsst.dax.bulkcutout.finish import COMPLETE, TRY_AGAIN, finish
from lsst.dax.bulkcutout.formats.hdf5 import HDF5Writer
from lsst.dax.bulkcutout.spool import Spool

RAISED = 99
"""Status of an attempt that raised: none should."""

KILLED = -signal.SIGKILL

NEEDS_SPACE = ("open", "os.mkdir", "write")
EVENTS = (*NEEDS_SPACE, "os.rename", "os.remove", "os.rmdir")


def digests(out: Path) -> dict[str, str]:
    """All files but the manifest, which tells of times and hosts."""
    return {
        path.relative_to(out).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(out.rglob("*"))
        if path.is_file() and path.name != "manifest.json"
    }


class Disturbance:
    """Counts what is done to the disk, and disturbs the n-th.

    ``once``: that fails; ``full``: that and all others fail that need space;
    ``kill``: the process is killed there.
    """

    def __init__(self, kind: str, n: int) -> None:
        self._kind, self._n = kind, n
        self.count = 0
        sys.addaudithook(self._see)
        for owner, name in (
            (HDF5Writer, "_write_rows"),
            (pq.ParquetWriter, "write_table"),
            (Spool, "_flush"),
        ):
            setattr(owner, name, self._seen(getattr(owner, name)))

    def _seen(self, original: Callable[..., Any]) -> Callable[..., Any]:
        # These write by other ways than Python's own.
        def call(*given: Any, **settings: Any) -> Any:
            self._tick("write")
            return original(*given, **settings)

        return call

    def _see(self, event: str, given: tuple[Any, ...]) -> None:
        if event not in EVENTS or event == "write":
            return
        if event == "open" and not (given[2] or 0) & (os.O_WRONLY | os.O_RDWR):
            return
        self._tick(event)

    def _tick(self, event: str) -> None:
        if self._kind == "full" and event not in NEEDS_SPACE:
            return
        self.count += 1
        if self.count == self._n and self._kind == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.count == self._n or (self._kind == "full" and self.count > self._n):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def attempt(
    campaign: Campaign, kind: str = "", n: int = 0, *, largest: int | None = None
) -> tuple[int, bool]:
    """Give the status of a ``finish`` in a child, and whether it was
    disturbed.
    """
    told, tell = os.pipe()
    child = os.fork()
    if child == 0:
        status, disturbance = RAISED, None
        try:
            if largest is not None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest))
            disturbance = Disturbance(kind, n) if kind else None
            status = finish(campaign)
        except BaseException as error:
            print(f"{kind} {n}: {type(error).__name__}: {error}", file=sys.stderr)
        finally:
            if disturbance is not None and disturbance.count >= n:
                os.write(tell, b"x")
            os._exit(status)
    os.close(tell)
    was_disturbed = bool(os.read(told, 1))
    os.close(told)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return status, was_disturbed or status == KILLED


def faults_of(out: Path, status: int, good: dict[str, str], before: dict[str, str]) -> Iterator[str]:
    """What is wrong with a product's directory after an attempt.

    ``good`` is what an undisturbed one makes, ``before`` what was there.
    """
    if status not in (COMPLETE, TRY_AGAIN, KILLED):
        yield f"status {status}"
    found = digests(out)
    for name, digest in found.items():
        is_temporary = Path(name).name.startswith(".") or name.endswith(".part")
        if not is_temporary and digest not in (good.get(name), before.get(name)):
            yield f"{name} is neither the old nor the new one"
    if (out / "manifest.json").exists():
        files = json.loads((out / "manifest.json").read_text())["files"]
        if any(found.get(file["path"]) != file["sha256"] for file in files):
            yield "a manifest over files that are not there, or others"
    elif status == COMPLETE:
        yield "complete without manifest"
    if status == COMPLETE and found != good:
        yield "complete, but another product"


def disturb(campaign: Campaign, out: Path, start: Path, good: dict[str, str], step: int) -> dict[str, Any]:
    """Disturb one place after the other, beginning with the same product;
    after some of them an undisturbed attempt has to make everything good.

    Every ``step``-th place is disturbed, each time in another way: with 1 all
    are, in every way (206 at the time of writing).
    """
    before = digests(start)
    faults, places = [], collections.Counter[str]()
    for number, kind in enumerate(("once", "kill", "full")):
        for n in range(1 + number % step, 1000, step):
            shutil.rmtree(out, ignore_errors=True)
            shutil.copytree(start, out)
            status, was_disturbed = attempt(campaign, kind, n)
            if not was_disturbed:
                break
            places[kind] += 1
            faults += [f"{kind} {n}: {fault}" for fault in faults_of(out, status, good, before)]
            if places[kind] % 5 == 0:
                status, _ = attempt(campaign)
                if status != COMPLETE or digests(out) != good:
                    faults.append(f"{kind} {n}: not made good: status {status}")
    return {"faults": faults, "places": places}


def fill(campaign: Campaign, out: Path, good: dict[str, str]) -> dict[str, Any]:
    """Give more and more space to the product, until it suffices.

    On a file system of its own where that is allowed; else no file may become
    larger.
    """
    whole = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    faults, statuses = [], []
    with contextlib.ExitStack() as stack:
        is_mounted = False
        if os.environ.get("MAY_MOUNT"):
            subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4k", "none", str(out)], check=True)
            stack.callback(subprocess.run, ["umount", str(out)], check=True)
            is_mounted = True
        else:
            shutil.rmtree(out)
        steps = 8
        for step in range(1, 2 * steps):
            size = whole * step // steps
            if is_mounted:
                subprocess.run(["mount", "-o", f"remount,size={size}", str(out)], check=True)
            status, _ = attempt(campaign, largest=None if is_mounted else size // 3)
            statuses.append(status)
            if out.exists():
                faults += [f"{size} bytes: {fault}" for fault in faults_of(out, status, good, {})]
            if status == COMPLETE:
                break
    return {"faults": faults, "statuses": statuses, "mounted": is_mounted}


def main() -> None:
    """Do what the arguments say."""
    what, root, out, start, good, *rest = sys.argv[1:]
    expected = digests(Path(good))
    campaign = Campaign(Path(root))
    if what == "disturb":
        print(json.dumps(disturb(campaign, Path(out), Path(start), expected, int(rest[0]))))
    else:
        print(json.dumps(fill(campaign, Path(out), expected)))


if __name__ == "__main__":
    main()
