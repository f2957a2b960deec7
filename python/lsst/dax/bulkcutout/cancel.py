# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""A campaign is not to go on."""

from __future__ import annotations

import getpass
import json
import socket
import time

from .bps.cancel import cancel_final_jobs, cancel_runs, queued_runs
from .callback.delivery import Schedule
from .callback.notify import notify
from .campaign import Campaign, write_atomically
from .errors import TransientError
from .execution import utc_now
from .finish import finish
from .finish_note import PARTIAL, TRY_AGAIN, FinishNote, read_note, write_note
from .run_lock import who_holds_run

__all__ = ("WAIT_S", "cancel")

WAIT_S = 120.0
"""How long the final job of a run may take to get a slot."""

LAST_WAIT_S = 15.0
"""How long the workflow system may take to end a run without it, and then to
forget jobs that it cannot reach."""

INTERVAL_S = 1.0

CALLBACK_S = 20
"""Not for minutes, as in a job: somebody waits."""


def cancel(campaign: Campaign, *, wait_s: float = WAIT_S) -> str:
    """End all that runs of a campaign, and have its manifest say so.

    Parameters
    ----------
    campaign
        A campaign.
    wait_s
        How long to wait for the final job to write the manifest; after that
        it is taken out of the queue, and the manifest is written here.

    Returns
    -------
    said
        What has become of it, a sentence.

    Raises
    ------
    TransientError
        Raised if the workflow system does not answer, or something still
        runs. The marker is there nevertheless, and jobs that begin end.

    Notes
    -----
    The marker comes first, so that whatever runs next sees it. Parsl cannot
    cancel; there, and where the workflow system is out of reach, each job ends
    before its next patch.
    """
    state = _state(campaign)
    at_rest = state == "partial" and not campaign.cancelled.exists() and not _alive(campaign)
    if state == "complete" or at_rest:
        return f"Campaign {campaign.root} has ended and is {state}: there is nothing to cancel."
    if not campaign.cancelled.exists():
        marker = {"time": utc_now(), "by": f"{getpass.getuser()} on {socket.gethostname()}"}
        write_atomically(campaign.cancelled, json.dumps(marker, indent=1) + "\n")
    if not _is_over(campaign, wait_s):
        raise TransientError(
            f"Campaign {campaign.root} was cancelled, but {_alive(campaign)} is not gone yet. Jobs end "
            "after the patch that they are at; give the same command again."
        )
    if _state(campaign) not in ("complete", "cancelled"):
        _finish(campaign)
    if _state(campaign) == "complete":
        campaign.cancelled.unlink()
        return f"Campaign {campaign.root} was complete before it could be cancelled."
    return f"Campaign {campaign.root} is cancelled; `bulkcutout restart` goes on with it."


def _state(campaign: Campaign) -> str | None:
    """How the last ``finish`` ended, if no attempt has begun since."""
    note = read_note(campaign.finish_log)
    return None if note is None else note.state


def _alive(campaign: Campaign) -> str | None:
    """What still runs or waits, in words."""
    if runs := queued_runs(campaign):
        return f"run {', '.join(runs)}"
    return who_holds_run(campaign)


def _is_over(campaign: Campaign, wait_s: float) -> bool:
    """End all that is in the queue, by and by with more force."""
    if _end(campaign, wait_s):
        return True
    cancel_final_jobs(campaign)
    if _end(campaign, LAST_WAIT_S):
        return True
    cancel_runs(campaign, force=True)
    return _end(campaign, LAST_WAIT_S)


def _end(campaign: Campaign, timeout_s: float) -> bool:
    """Cancel what is in the queue; tell whether all is gone in time."""
    deadline = time.monotonic() + timeout_s
    told: set[str] = set()
    while (queued := queued_runs(campaign)) or who_holds_run(campaign):
        # A submission that is under way may bring a run later.
        if not told.issuperset(queued):
            cancel_runs(campaign)
            told.update(queued)
        if time.monotonic() > deadline:
            return False
        time.sleep(INTERVAL_S)
    return True


def _finish(campaign: Campaign) -> None:
    """Do what the final job has not done."""
    if not campaign.plan.exists():
        # No rows are known that could be answered.
        write_note(campaign.finish_log, FinishNote("cancelled", PARTIAL, "The catalog was not read yet."))
        notify(campaign, "cancelled", schedule=Schedule(budget_s=CALLBACK_S))
    elif finish(campaign, callback_s=CALLBACK_S) == TRY_AGAIN:
        raise TransientError(
            f"Campaign {campaign.root} was cancelled and nothing of it runs, but its manifest was not "
            "written: give the same command again."
        )
