# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""How far a campaign is, as its own files tell."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
from collections.abc import Iterator

from ..campaign import Campaign
from ..errors import UserError
from ..finish_note import read_note
from ..manifest import Manifest, read_manifest
from ..progress import Progress
from ..quantum_outputs import read_outputs
from ..request import load_request

__all__ = ("CampaignStatus", "read_status", "watching")

WATCH_INTERVAL_S = 1.0


@dataclasses.dataclass(frozen=True)
class CampaignStatus:
    """How far a campaign is."""

    state: str
    """One of prepared, running, complete, partial, failed."""

    quanta: int
    """Number of quanta."""

    done: int
    """Number of quanta that have finished."""

    rows: int
    """Rows of the catalog; 0 before it was read."""

    counts: dict[str, int]
    """Rows by status, as far as they have one."""

    output: str
    """Directory of the product."""

    message: str
    """What went wrong last, if anything did."""


def read_status(campaign: Campaign) -> CampaignStatus:
    """Find out how far a campaign is.

    Parameters
    ----------
    campaign
        The campaign.

    Returns
    -------
    status
        What its files say; a job that is waiting or held is not seen here.
    """
    request = load_request(campaign.request)
    outputs = read_outputs(campaign)
    if not campaign.plan.exists() or not outputs:
        return CampaignStatus("prepared", 0, 0, 0, {}, request.output, "")
    plan = campaign.read_plan()
    done = sum(output.done for output in outputs.values())
    manifest = _manifest(request.output)
    counts = dict(plan.refused) if manifest is None else manifest.counts
    state = "running"
    message = ""
    # A new attempt takes the note of the last one away.
    if (note := read_note(campaign.finish_log)) is not None:
        state, message = note.state, note.message
    return CampaignStatus(state, len(outputs), done, plan.catalog_rows, counts, request.output, message)


def _manifest(directory: str) -> Manifest | None:
    try:
        return read_manifest(directory)
    except UserError:
        return None


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

    def watch() -> None:
        while not ended.wait(WATCH_INTERVAL_S):
            if campaign.plan.exists():
                total = sum(tract.patches for tract in campaign.read_plan().tracts)
                # Metadata is what a quantum writes last.
                done = sum(1 for _ in campaign.datastore.glob("**/*_metadata/*/*/*.json"))
                progress.set(min(done, total), total)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()
        progress.close()
