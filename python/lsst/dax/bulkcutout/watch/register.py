# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""The campaigns that were submitted from here: one small file for each.

A register helps to find campaigns; none of them depends on it.  So whatever
happens to it is worth a warning and no more.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import getpass
import hashlib
import json
import logging
import os
from pathlib import Path

from ..campaign import Campaign, write_atomically

__all__ = ("CAMPAIGNS_VARIABLE", "Entry", "known_campaigns", "note_campaign", "read_register")

_LOG = logging.getLogger(__name__)

CAMPAIGNS_VARIABLE = "BULKCUTOUT_CAMPAIGNS"
"""Environment variable with the directory of the register."""


@dataclasses.dataclass(frozen=True)
class Entry:
    """What the register says of a campaign."""

    campaign: Campaign
    """The campaign."""

    site: str
    """Where it runs; empty if nobody has said."""

    operator: str
    """Who submitted it."""

    noted: datetime.datetime
    """When it was noted first."""


def note_campaign(campaign: Campaign, site: str | None = None, *, directory: Path | None = None) -> None:
    """Enter a campaign into the register, if it is not there already.

    Parameters
    ----------
    campaign
        The campaign.
    site
        Where it runs; `None` leaves what was noted before.
    directory
        Directory of the register; see `register_directory`.

    Notes
    -----
    Never fails: where the register cannot be written, a warning says so.
    """
    try:
        directory = directory or register_directory()
        # Of the directory that a symbolic link leads to, so that two names of
        # a campaign are one entry.
        path = directory / f"{_digest(campaign)}.json"
        try:
            known: Entry | None = _read_entry(path)
        except (OSError, ValueError, TypeError):
            known = None
        if known is not None and site in (None, known.site):
            return
        if not directory.exists():
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        noted = datetime.datetime.now(datetime.UTC) if known is None else known.noted
        contents = {
            "campaign": str(campaign.root),
            "site": site or "",
            "operator": _operator(),
            "noted": noted.isoformat(timespec="seconds"),
        }
        write_atomically(path, json.dumps(contents, indent=1) + "\n")
        # A directory that others may read is shared on purpose.
        path.chmod(directory.stat().st_mode & 0o666)
    except (OSError, RuntimeError) as error:
        _LOG.warning("`bulkcutout list` will not know campaign %s: %s", campaign.root, error)


def read_register(directory: Path | None = None) -> list[Entry]:
    """List what the register has.

    Parameters
    ----------
    directory
        Directory of the register; see `register_directory`.

    Returns
    -------
    entries
        Those whose campaign is there, the oldest first.  Entries of
        campaigns that were deleted are removed.
    """
    entries = []
    try:
        paths = sorted((directory or register_directory()).glob("[!.]*.json"))
    except (OSError, RuntimeError) as error:
        _LOG.warning("The register of campaigns cannot be read: %s", error)
        return []
    for path in paths:
        try:
            entry = _read_entry(path)
            if entry.campaign.root.is_dir():
                entries.append(entry)
            # Without its parent, too, it is a file system that is away.
            elif entry.campaign.root.parent.is_dir():
                path.unlink()
        except FileNotFoundError:
            # Somebody else has just removed it.
            continue
        except (OSError, ValueError, TypeError) as error:
            _LOG.warning("Entry %s of the register of campaigns cannot be read: %s", path, error)
    return sorted(entries, key=lambda entry: (entry.noted, str(entry.campaign.root)))


def known_campaigns(directory: Path | None = None) -> list[Campaign]:
    """List the campaigns of the register.

    Parameters
    ----------
    directory
        Directory of the register; see `register_directory`.

    Returns
    -------
    campaigns
        Those that are there, the oldest first.
    """
    return [entry.campaign for entry in read_register(directory)]


def register_directory() -> Path:
    """Name the directory of the register.

    Returns
    -------
    directory
        What ``BULKCUTOUT_CAMPAIGNS`` says, which several operators may
        share; else one of the user's own.
    """
    if named := os.environ.get(CAMPAIGNS_VARIABLE):
        return Path(named).absolute()
    state = Path(os.environ.get("XDG_STATE_HOME", ""))
    return (state if state.is_absolute() else Path.home() / ".local" / "state") / "bulkcutout" / "campaigns"


def _read_entry(path: Path) -> Entry:
    try:
        contents = json.loads(path.read_text())
        return Entry(
            Campaign(Path(contents["campaign"])),
            str(contents["site"]),
            str(contents["operator"]),
            datetime.datetime.fromisoformat(contents["noted"]),
        )
    except KeyError as error:
        raise ValueError(f"it has no {error}") from error


def _digest(campaign: Campaign) -> str:
    return hashlib.sha256(os.fsencode(os.path.realpath(campaign.root))).hexdigest()[:16]


def _operator() -> str:
    # As BPS names it; a process need not have a name.
    with contextlib.suppress(KeyError, OSError):
        return getpass.getuser()
    return str(os.getuid())
