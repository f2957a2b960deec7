# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""The note that ``bulkcutout finish`` leaves of how it ended."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import json
from pathlib import Path
from typing import Literal

from .campaign import write_atomically
from .execution import utc_now

__all__ = (
    "COMPLETE",
    "FAILED",
    "OUR_FAULT",
    "PARTIAL",
    "TRY_AGAIN",
    "FinishNote",
    "State",
    "note_killed",
    "read_note",
    "write_note",
)

COMPLETE = 0
"""Exit status: every row has its final answer."""

FAILED = 1
"""Exit status: something has to be put right first."""

PARTIAL = 2
"""Exit status: some quanta did not finish, or the campaign was cancelled; a
restart may deliver more."""

OUR_FAULT = 70
"""Exit status: a fault of this software."""

TRY_AGAIN = 75
"""Exit status: storage failed or another ``finish`` is at work."""

State = Literal["complete", "partial", "failed", "cancelled"]


@dataclasses.dataclass(frozen=True)
class FinishNote:
    """How ``finish`` ended."""

    state: State
    """What became of the product; after a cancel there is one, too, without
    what was not packaged before."""

    status: int
    """Exit status."""

    message: str = ""
    """What went wrong, if anything did."""

    time: str = dataclasses.field(default_factory=utc_now)
    """When, UTC (ISO 8601)."""


def write_note(path: Path, note: FinishNote) -> None:
    """Write the note; on a full disk it is lost, and the outcome is not.

    Parameters
    ----------
    path
        The file, `Campaign.finish_log`.
    note
        How it ended.
    """
    contents = dataclasses.asdict(note)
    with contextlib.suppress(OSError):
        write_atomically(path, json.dumps(contents, indent=1) + "\n")


def read_note(path: Path) -> FinishNote | None:
    """Read what `write_note` wrote.

    Parameters
    ----------
    path
        The file.

    Returns
    -------
    note
        How the last ``finish`` ended; `None` if none has ended since the last
        attempt began.
    """
    try:
        contents = json.loads(path.read_text())
        return FinishNote(**contents)
    except FileNotFoundError:
        return None


def note_killed(path: Path, message: str, *, began: float) -> int:
    """Leave the note of a ``finish`` that was killed before it could.

    Parameters
    ----------
    path
        The file.
    message
        What has happened to it.
    began
        When it began, seconds since 1970.

    Returns
    -------
    status
        Exit status: `TRY_AGAIN`, but if it has left a note and was killed
        after that, nothing is lost, and what it says holds.
    """
    note = read_note(path)
    if note is not None and datetime.datetime.fromisoformat(note.time).timestamp() >= int(began):
        return note.status
    write_note(path, FinishNote("failed", TRY_AGAIN, f"Packaging did not come to its end. {message}"))
    return TRY_AGAIN
