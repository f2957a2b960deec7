# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""One process at a time submits a campaign, or runs it with Parsl.

The process holds a lock on a file for as long as it lives, and no longer,
however it ends.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from .campaign import Campaign
from .errors import UserError
from .file_lock import is_locked

__all__ = ("hold_run", "hold_run_for_good", "is_run_held", "who_holds_run")

WAIT_S = 2.0

_held: dict[Path, TextIO] = {}
"""What this process holds: BPS imports our site for Parsl by its name,
sometimes below a call that has the lock."""


@contextlib.contextmanager
def hold_run(campaign: Campaign) -> Iterator[None]:
    """Keep other processes from submitting a campaign.

    Parameters
    ----------
    campaign
        The campaign.

    Yields
    ------
    nothing
        The lock is held inside the context, and beyond it if this process
        had it before.

    Raises
    ------
    UserError
        Raised if another process has it.
    """
    had = campaign.root in _held
    hold_run_for_good(campaign)
    try:
        yield
    finally:
        if not had:
            _held.pop(campaign.root).close()


def hold_run_for_good(campaign: Campaign) -> None:
    """Keep other processes from submitting, up to the end of this one.

    Parameters
    ----------
    campaign
        The campaign.

    Raises
    ------
    UserError
        Raised if another process has the lock.
    """
    if campaign.root not in _held:
        _held[campaign.root] = _take(campaign)


def is_run_held(campaign: Campaign) -> bool | None:
    """Tell whether a process submits a campaign, or runs it with Parsl.

    Parameters
    ----------
    campaign
        The campaign.

    Returns
    -------
    held
        `None` if that cannot be known: nobody has ever held the lock, or the
        file system has no locks.
    """
    return is_locked(campaign.run_lock)


def who_holds_run(campaign: Campaign) -> str | None:
    """Find that process.

    Parameters
    ----------
    campaign
        The campaign.

    Returns
    -------
    holder
        The process, in words; `None` if there is none.
    """
    if not is_run_held(campaign):
        return None
    return campaign.run_lock.read_text().strip() or "another process"


def _take(campaign: Campaign) -> TextIO:
    stream = campaign.run_lock.open("a")
    try:
        _lock(stream)
    except BlockingIOError:
        stream.close()
        raise UserError(
            f"Campaign {campaign.root} is in the hands of {who_holds_run(campaign) or 'another process'}: "
            "wait for it, or `bulkcutout cancel`."
        ) from None
    stream.truncate(0)
    stream.write(f"process {os.getpid()} on {socket.gethostname()}\n")
    stream.flush()
    return stream


def _lock(stream: TextIO) -> None:
    end = time.monotonic() + WAIT_S
    while True:
        try:
            return fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            # Somebody may be looking at it for a moment.
            if time.monotonic() > end:
                raise
            time.sleep(0.01)
        except OSError:
            # A file system without locks: nobody is kept out then.
            return None
