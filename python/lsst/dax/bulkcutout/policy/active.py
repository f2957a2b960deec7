# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Which campaigns are at work, of those that were submitted from here."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from ..campaign import Campaign
from ..errors import BulkCutoutError
from ..file_lock import is_locked
from ..watch.register import known_campaigns
from ..watch.status import read_status

__all__ = ("active_campaigns", "building")


@contextlib.contextmanager
def building(campaign: Campaign) -> Iterator[None]:
    """Have others know that the graph of a campaign is being built.

    Parameters
    ----------
    campaign
        The campaign.

    Yields
    ------
    nothing
        Inside the context the campaign is at work; a process that is killed
        ends that, too.
    """
    if not campaign.root.is_dir():
        # Not by way of BPS, which has its files there already.
        yield
        return
    with campaign.build_lock.open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def active_campaigns(but: Campaign) -> dict[Path, str]:
    """List the campaigns that are at work.

    Parameters
    ----------
    but
        A campaign that does not count.

    Returns
    -------
    active
        What each of them does, by directory: building, running or held.
        One that was only prepared does nothing.
    """
    own = os.path.realpath(but.root)
    found = {}
    for campaign in known_campaigns():
        if os.path.realpath(campaign.root) != own and (what := _activity(campaign)) is not None:
            found[campaign.root] = what
    return found


def _activity(campaign: Campaign) -> str | None:
    if is_locked(campaign.build_lock):
        return "building its graph"
    # Most campaigns have ended, and their own files tell that without a
    # question to the workflow system.
    if campaign.finish_log.exists() or not campaign.graph_files():
        return None
    try:
        state = read_status(campaign).state
    except (BulkCutoutError, OSError):
        # One that cannot be understood is not in anybody's way.
        return None
    return state if state in ("prepared", "running", "held") else None
