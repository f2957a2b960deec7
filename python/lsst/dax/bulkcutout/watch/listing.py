# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""All campaigns that are known, or below some directories."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import os
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from ..campaign import Campaign
from ..errors import BulkCutoutError, UserError
from .register import Entry, read_register
from .status import read_status

__all__ = ("BROKEN", "CampaignLine", "list_campaigns")

BROKEN = "broken"
"""In place of a state, where the campaign cannot be read."""


@dataclasses.dataclass(frozen=True)
class CampaignLine:
    """A campaign in a list."""

    campaign: str
    """Directory of the campaign."""

    request_id: str = ""
    """Name that the user gave."""

    site: str = ""
    """Where it runs."""

    state: str = BROKEN
    """One of `STATES`, or `BROKEN`."""

    quanta: int = 0
    """Number of quanta."""

    done: int = 0
    """Number of quanta that have finished."""

    rows: int = 0
    """Rows of the catalog."""

    age_s: float = 0.0
    """Seconds since it was submitted."""

    operator: str = ""
    """Who has submitted it."""

    output: str = ""
    """Directory of the product."""

    message: str = ""
    """What is wrong, if it is broken."""

    purged: bool = False
    """Whether its intermediates were deleted."""


def list_campaigns(directories: Sequence[Path] = (), *, states: Collection[str] = ()) -> list[CampaignLine]:
    """List campaigns.

    Parameters
    ----------
    directories
        Where to look for campaigns; if none are given, those of the register
        are listed.
    states
        States that are wanted; all if there are none.

    Returns
    -------
    campaigns
        The oldest first.

    Raises
    ------
    UserError
        Raised if a directory is not there.
    """
    entries = {os.path.realpath(entry.campaign.root): entry for entry in read_register()}
    if directories:
        found = [root for directory in directories for root in _campaigns_below(directory)]
        entries = {
            os.path.realpath(root): entries.get(os.path.realpath(root)) or _unregistered(root)
            for root in found
        }
    now = datetime.datetime.now(datetime.UTC)
    lines = [_line(entry, now) for entry in sorted(entries.values(), key=lambda entry: entry.noted)]
    return [line for line in lines if not states or line.state in states]


def _campaigns_below(directory: Path) -> Iterator[Path]:
    if not directory.is_dir():
        raise UserError(f"There is no directory {directory}.")
    for root, subdirectories, files in os.walk(directory):
        if "request.yaml" in files and ("bps.yaml" in files or "graphs" in subdirectories):
            yield Path(root).absolute()
            subdirectories.clear()


def _unregistered(root: Path) -> Entry:
    """A campaign that others have submitted, or on another machine."""
    status = (root / "request.yaml").stat()
    operator = str(status.st_uid)
    with contextlib.suppress(KeyError):
        operator = root.owner()
    noted = datetime.datetime.fromtimestamp(status.st_mtime, datetime.UTC)
    return Entry(Campaign(root), "", operator, noted)


def _line(entry: Entry, now: datetime.datetime) -> CampaignLine:
    line = CampaignLine(
        campaign=str(entry.campaign.root),
        site=entry.site,
        operator=entry.operator,
        age_s=max(0.0, (now - entry.noted).total_seconds()),
    )
    try:
        status = read_status(entry.campaign)
    except (BulkCutoutError, OSError, ValueError, KeyError, TypeError) as error:
        # One of many: the others are worth a list.
        return dataclasses.replace(line, message=" ".join(str(error).split()))
    return dataclasses.replace(
        line,
        request_id=status.request_id,
        site=entry.site or status.site,
        state=status.state,
        quanta=status.quanta,
        done=status.done,
        rows=status.rows,
        output=status.output,
        purged=entry.campaign.purged.exists(),
    )
