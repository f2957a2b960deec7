# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Faults for the jobs of a real campaign, at a chosen place and time.

``python -m lsst.dax.bulkcutout.tests.sabotage FILE ...`` stands in for
``bulkcutout ...`` in the jobs of BPS.  FILE holds faults, written by
`write_faults`; it is read when a job starts, so a test can mend what it has
broken.  Whenever a fault happens a file is left, by which a test knows that
it did, in which process of which job, and how often.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal

from .campaigns import KillPlace, kill_at

__all__ = ("Fault", "main", "write_faults")

RELEASED = "released"
"""Ending of the file that lets waiting jobs go on."""

PATIENCE_S = 300.0
"""How long a job waits: a test that has died must not leave it for ever."""

_kept: list[bytearray] = []


@dataclasses.dataclass(frozen=True)
class Fault:
    """Something that goes wrong in the jobs of a campaign."""

    what: Literal["die", "fail", "wait", "swell", "unreadable"]
    """Die of SIGKILL, raise an exception, wait for `release`, take memory,
    or get EIO for each reading of a file."""

    marker: str
    """Path of the files that tell when it has happened, without the ending
    that counts them."""

    where: KillPlace | Literal["packaging"] = "before"
    """In a quantum, or in ``finish`` when one data file is written and
    another is begun; of no meaning for ``unreadable``."""

    patch: tuple[int, int] | None = None
    """Tract and patch of the quantum; any, if `None`."""

    times: int | None = 1
    """How often it happens, all jobs together; `None`: always."""

    megabytes: int = 0
    """Memory that ``swell`` takes, each time; the first `times` it keeps it
    until somebody stops it."""

    file: str = ""
    """The file that cannot be read."""

    def occurrences(self) -> list[dict[str, Any]]:
        """Tell when it has happened.

        Returns
        -------
        occurrences
            For each, in order: ``time``; under HTCondor also ``job``, its id,
            and ``scratch``, its scratch directory.
        """
        found = Path(self.marker).parent.glob(f"{Path(self.marker).name}.[0-9]*")
        # A file is there before its content is.
        texts = [path.read_text() for path in sorted(found, key=lambda path: int(path.suffix[1:]))]
        return [json.loads(text) for text in texts if text]

    def release(self) -> None:
        """Let the jobs go on that wait."""
        Path(f"{self.marker}.{RELEASED}").touch()

    def claim(self) -> bool:
        """Note that it happens now.

        Returns
        -------
        claimed
            False if it has happened often enough.
        """
        scratch = os.environ.get("_CONDOR_SCRATCH_DIR")
        note = json.dumps({"time": time.time(), "job": _job_id(), "scratch": scratch})
        number = 0
        while self.times is None or number < self.times:
            try:
                with Path(f"{self.marker}.{number}").open("x") as stream:
                    stream.write(note)
                return True
            except FileExistsError:
                number += 1
        return False

    def happen(self) -> None:
        """Let it happen in this process, if it has not often enough."""
        claimed = self.claim()
        if self.what == "swell":
            # Written to, so that it is more than a promise.
            _kept.append(bytearray(b"\1") * (self.megabytes * 1024 * 1024))
            if claimed:
                time.sleep(PATIENCE_S)
        elif not claimed:
            return
        elif self.what == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        elif self.what == "fail":
            raise RuntimeError("The test made this quantum fail.")
        elif self.what == "wait":
            deadline = time.monotonic() + PATIENCE_S
            while not Path(f"{self.marker}.{RELEASED}").exists() and time.monotonic() < deadline:
                time.sleep(0.1)


def write_faults(path: Path, faults: Iterable[Fault]) -> None:
    """Write the faults of a campaign.

    Parameters
    ----------
    path
        The file; one that is there is replaced.
    faults
        The faults; none for a campaign that is in order from now on.
    """
    temporary = path.with_name(f"{path.name}.new")
    temporary.write_text(json.dumps([dataclasses.asdict(fault) for fault in faults]))
    temporary.replace(path)


def _job_id() -> str | None:
    # HTCondor tells each job where its ClassAd lies.
    if (path := os.environ.get("_CONDOR_JOB_AD")) is None:
        return None
    values = dict(line.split(" = ", 1) for line in Path(path).read_text().splitlines() if " = " in line)
    return f"{values['ClusterId']}.{values['ProcId']}"


def main() -> None:
    """Run ``bulkcutout`` with faults; see the docstring of the module."""
    from ..cli.main import main as bulkcutout

    faults = [Fault(**fields) for fields in json.loads(Path(sys.argv[1]).read_text())]
    sys.argv = ["bulkcutout", *sys.argv[2:]]
    with contextlib.ExitStack() as stack:
        for fault in faults:
            if fault.what == "unreadable":
                _spoil_reading(fault)
            elif fault.where == "packaging":
                _spoil_packaging(fault)
            else:
                # JSON knows no tuples.
                patch = None if fault.patch is None else (fault.patch[0], fault.patch[1])
                stack.enter_context(kill_at(fault.where, fault.happen, patch=patch))
        bulkcutout()


def _spoil_reading(fault: Fault) -> None:
    """Have the operating system refuse to read a file: below all code of
    ours, as a bad disk does.
    """
    original = os.pread
    victim = os.path.realpath(fault.file)

    def pread(descriptor: int, size: int, address: int) -> bytes:
        if os.readlink(f"/proc/self/fd/{descriptor}") == victim and fault.claim():
            raise OSError(errno.EIO, os.strerror(errno.EIO), fault.file)
        return original(descriptor, size, address)

    setattr(os, "pread", pread)  # noqa: B010 (mypy knows that a function is no variable)


def _spoil_packaging(fault: Fault) -> None:
    from ..formats.hdf5 import HDF5Writer

    original: Callable[..., None] = HDF5Writer.write
    begun: set[int] = set()

    def write(self: HDF5Writer, *given: Any) -> None:
        begun.add(id(self))
        if len(begun) > 1:
            fault.happen()
        original(self, *given)

    setattr(HDF5Writer, "write", write)  # noqa: B010 (see above)


if __name__ == "__main__":
    main()
