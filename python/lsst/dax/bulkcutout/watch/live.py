# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Campaigns as they are shown: once, or for as long as they run."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TextIO

from ..campaign import Campaign
from ..errors import UserError, did_you_mean
from ..progress import Progress
from .listing import BROKEN, list_campaigns
from .picture import write_progress_picture
from .status import STATES, CampaignStatus, StatusReader
from .text import describe_list, describe_status

__all__ = ("UNFINISHED", "show_list", "show_status", "watching")

WATCH_INTERVAL_S = 1.0

SHARE = 0.05
"""Most of the time that looking may take."""

UNFINISHED = ("prepared", "running", "held")
"""States that a campaign gets out of without anybody's `restart`."""


def show_status(
    campaign: Campaign,
    *,
    as_json: bool = False,
    interval_s: float | None = None,
    picture: Path | None = None,
    stream: TextIO | None = None,
) -> CampaignStatus:
    """Print how far a campaign is.

    Parameters
    ----------
    campaign
        The campaign.
    as_json
        Whether programs are to read it.
    interval_s
        Seconds between two looks, up to the end; one look if `None`.
    picture
        PNG file to draw at each look.
    stream
        Where to print; standard output if `None`.

    Returns
    -------
    status
        What was printed last.
    """
    stream = stream or sys.stdout
    reader = StatusReader(campaign)
    shown = ""
    while True:
        status, patches = reader.read_with_patches()
        if picture is not None and (patches or interval_s is None):
            write_progress_picture(picture, status, patches)
        contents = dataclasses.asdict(status)
        if as_json:
            text = json.dumps(contents, indent=1 if interval_s is None else None)
        else:
            text = describe_status(status)
        if stream.isatty() and interval_s is not None and not as_json:
            # From the upper left, over what was there.
            lines = "".join(f"{line}\x1b[K\n" for line in text.splitlines())
            stream.write(f"\x1b[H{lines}\x1b[J" if shown else f"\x1b[2J\x1b[H{lines}")
        elif text != shown:
            stream.write(f"\n{text}\n" if shown and not as_json else f"{text}\n")
        stream.flush()
        shown = text
        if interval_s is None or status.state not in UNFINISHED:
            return status
        time.sleep(interval_s)


def show_list(
    directories: Sequence[Path],
    *,
    states: Sequence[str] = (),
    as_json: bool = False,
    stream: TextIO | None = None,
) -> None:
    """Print a list of campaigns.

    Parameters
    ----------
    directories
        Where to look; the register if there are none.
    states
        States that are wanted; all if there are none.
    as_json
        Whether programs are to read it.
    stream
        Where to print; standard output if `None`.

    Raises
    ------
    UserError
        Raised if there is no such state or directory.
    """
    known = (*STATES, BROKEN)
    for state in states:
        if state not in known:
            raise UserError(
                f"No state is called {state!r}{did_you_mean(state, known)}: they are {', '.join(known)}."
            )
    found = list_campaigns(directories, states=states)
    text = (
        json.dumps([dataclasses.asdict(each) for each in found], indent=1)
        if as_json
        else describe_list(found)
    )
    (stream or sys.stdout).write(f"{text}\n")


@contextlib.contextmanager
def watching(campaign: Campaign) -> Iterator[None]:
    """Show how far a campaign is while something else runs it.

    Parameters
    ----------
    campaign
        The campaign.

    Yields
    ------
    nothing
        Progress is shown inside the context, on standard error.
    """
    ended = threading.Event()
    progress = Progress("Cutting", "patches")
    # What earlier attempts have cut is not this one's work.
    before = _count_finished(campaign)

    def watch() -> None:
        pause = WATCH_INTERVAL_S
        while not ended.wait(pause):
            started = time.monotonic()
            if campaign.plan.exists():
                total = sum(tract.patches for tract in campaign.read_plan().tracts)
                progress.set(_count_finished(campaign) - before, max(total - before, 0))
            pause = max(WATCH_INTERVAL_S, (time.monotonic() - started) / SHARE)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()
        progress.close()


def _count_finished(campaign: Campaign) -> int:
    # Metadata is what a quantum writes last.
    return sum(1 for _ in campaign.datastore.glob("**/*_metadata/*/*/*.json"))
