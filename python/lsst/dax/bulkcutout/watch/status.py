# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""How far a campaign is: what BPS knows of its last run, and what its own
files tell.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import time
from collections import Counter

from ..bps.report import ALIVE, ENDED, JOB_STATES, RunReport, ask_bps, build_message
from ..campaign import Campaign, Plan
from ..errors import CorruptInputError, UserError
from ..finish_note import FinishNote, read_note
from ..manifest import Manifest, read_manifest
from ..patch_list import CampaignPatch, read_patches
from ..policy.lifetime import lifetime_of
from ..purged import read_note as read_purge_note
from ..request import load_request
from .quanta import FinishedQuanta, FinishedQuantum

__all__ = ("QUANTUM_STATES", "STATES", "CampaignStatus", "StatusReader", "read_status")

_LOG = logging.getLogger(__name__)

STATES = ("prepared", "running", "held", "stopped", "complete", "partial", "cancelled", "failed")
"""States of a campaign."""

QUANTUM_STATES = ("done", "running", "waiting", "held", "failed", "not_run", "not_known")
"""States of a quantum.  Not run is what has no job any more; not known is
which of the unfinished ones run, where nobody tells."""


@dataclasses.dataclass(frozen=True)
class CampaignStatus:
    """How far a campaign is."""

    campaign: str
    """Directory of the campaign."""

    request_id: str
    """Name that the user gave."""

    site: str
    """Where its last run is; empty if there was none."""

    run: str
    """The workflow system's number of that run; empty if not known."""

    state: str
    """One of `STATES`."""

    message: str
    """What went wrong last, or is not known, if anything."""

    quanta: int
    """Number of quanta, one for each patch that has targets."""

    done: int
    """Number of quanta that have finished."""

    quanta_by_state: dict[str, int]
    """Number of quanta by state, one of `QUANTUM_STATES`."""

    jobs: dict[str, int]
    """Number of jobs by state, as BPS has them; empty if it does not tell."""

    held: dict[str, str]
    """Why jobs are held, by the job's name."""

    provisioning: str
    """How the job stands that brings slots; empty if there is none."""

    rows: int
    """Rows of the catalog; 0 before it was read."""

    counts: dict[str, int]
    """Rows by status, as far as they have one: those that were refused, and
    those of the quanta that have finished; at the end the manifest's."""

    bytes: int
    """Bytes that the quanta have left."""

    rows_per_s: float | None
    """Rows that are done in a second, since the first quantum of this run
    began."""

    bytes_per_s: float | None
    """Bytes that the quanta leave in a second."""

    seconds_left: float | None
    """How long the quanta that are not done will take at this rate."""

    output: str
    """Directory of the product."""

    files: int
    """Number of files of the product, if there is one."""

    product_bytes: int
    """Their size."""

    finished: str
    """When the product was finished; empty if it was not."""


class StatusReader:
    """Finds out how far a campaign is; can be asked again and again.

    Parameters
    ----------
    campaign
        The campaign.
    """

    def __init__(self, campaign: Campaign) -> None:
        self._campaign = campaign
        self._finished = FinishedQuanta(campaign)

    def read(self) -> CampaignStatus:
        """Find out how far the campaign is.

        Returns
        -------
        status
            How far it is now.
        """
        return self.read_with_patches()[0]

    def read_with_patches(self) -> tuple[CampaignStatus, list[tuple[CampaignPatch, str]]]:
        """Find out the same, and how every patch stands.

        Returns
        -------
        status
            How far the campaign is now.
        patches
            The patches that have targets, and the state of the quantum of
            each, one of `QUANTUM_STATES`.
        """
        campaign = self._campaign
        request = load_request(campaign.request)
        # In this order: what a job has done when BPS says that it has ended
        # is there to be seen, and so is the note of ``finish``.
        run = ask_bps(campaign)
        plan = _read_plan(campaign)
        patches = [] if plan is None else _read_patches(campaign)
        finished = {} if plan is None else self._finished.read()
        finished = {
            place: finished[place] for each in patches if (place := (each.tract, each.patch)) in finished
        }
        note = _read_note(campaign)
        state, message = _state(campaign, run, note)
        is_over = state not in ("prepared", "running", "held")
        jobs = _jobs(run, finished)
        states = [_quantum_state((each.tract, each.patch), finished, run, is_over) for each in patches]
        purged = read_purge_note(campaign)
        if purged is not None and state == "complete":
            # Of those that were not complete nobody can tell any more.
            states = ["done"] * len(patches)
        manifest = _read_manifest(request.output) if is_over and state != "stopped" else None
        status = CampaignStatus(
            campaign=str(campaign.root),
            request_id=request.request_id,
            site=run.site,
            run=run.run_id,
            state=state,
            message=f"The campaign {purged.text}" if purged is not None else message or _kept_until(campaign),
            quanta=len(patches),
            done=states.count("done"),
            quanta_by_state={name: states.count(name) for name in QUANTUM_STATES if name in states},
            jobs={name: n for name in JOB_STATES if (n := list(jobs.values()).count(name))},
            held=run.held,
            provisioning=run.provisioning,
            rows=0 if plan is None else plan.catalog_rows,
            counts=_counts(plan, patches, finished) if manifest is None else manifest.counts,
            bytes=sum(each.bytes for each in finished.values()),
            output=request.output,
            files=0 if manifest is None else len(manifest.files),
            product_bytes=0 if manifest is None else sum(file.bytes for file in manifest.files),
            finished="" if manifest is None else str(manifest.execution.get("finished", "")),
            **_rates(patches, finished, self._last_run(plan), is_over=is_over),
        )
        return status, list(zip(patches, states, strict=True))

    def _last_run(self, plan: Plan | None) -> str:
        runs = [] if plan is None else self._finished.runs()
        return runs[-1] if runs else ""


def read_status(campaign: Campaign) -> CampaignStatus:
    """Find out how far a campaign is.

    Parameters
    ----------
    campaign
        The campaign.

    Returns
    -------
    status
        How far it is.
    """
    return StatusReader(campaign).read()


def _read_plan(campaign: Campaign) -> Plan | None:
    # A plan without a graph is one that is being made, or was given up.
    if not (campaign.graph_files() or campaign.registered.exists() or campaign.purged.exists()):
        return None
    return campaign.read_plan() if campaign.plan.exists() else None


def _read_patches(campaign: Campaign) -> list[CampaignPatch]:
    try:
        return read_patches(campaign.patches)
    except FileNotFoundError:
        raise UserError(
            f"Campaign {campaign.root} has no {campaign.patches.name}: an earlier version of this software "
            f"planned it. `bulkcutout finish {campaign.root}` packages what there is."
        ) from None


def _read_note(campaign: Campaign) -> FinishNote | None:
    try:
        return read_note(campaign.finish_log)
    except (ValueError, TypeError) as error:
        # As if there were none: a restart writes another.
        _LOG.warning("%s cannot be read: %s", campaign.finish_log, error)
        return None


def _state(campaign: Campaign, run: RunReport, note: FinishNote | None) -> tuple[str, str]:
    """The state of the campaign, and what there is to say about it."""
    state, said = ("", "") if note is None else (str(note.state), note.message)
    if state == "complete" or (state and run.state != ALIVE):
        return state, said
    if run.state == ALIVE:
        jobs = set(run.jobs.values())
        # Held, too, if it is the run itself.
        if (run.held and "running" not in jobs) or run.is_held:
            return "held", run.message
        if campaign.graph_files():
            return "running", said or run.message or _cancel_note(campaign)
        return "prepared", "The graph is being built."
    if not campaign.graph_files():
        return "prepared", build_message(campaign)
    if run.state == ENDED:
        what = run.message or "The run has ended, and its last job has not."
        return "stopped", f"{what} `bulkcutout restart {campaign.root}` goes on."
    return "running", run.message or "Nobody can tell whether it runs: it was not started by way of BPS."


def _kept_until(campaign: Campaign) -> str:
    """When its time is over, if its site says so."""
    if not campaign.policy.exists() or not campaign.finish_log.exists():
        return ""
    ends = lifetime_of(campaign).until(campaign)
    told = [
        f"{what} until {end:%Y-%m-%d}"
        for what, end in zip(("intermediates", "the product"), ends, strict=True)
        if end is not None
    ]
    return f"The site keeps {' and '.join(told)}." if told else ""


def _cancel_note(campaign: Campaign) -> str:
    return "The campaign was cancelled; its jobs are ending." if campaign.cancelled.exists() else ""


def _jobs(run: RunReport, finished: dict[tuple[int, int], FinishedQuantum]) -> dict[str, str]:
    """State of each job; by its quanta, where there is nobody to ask."""
    if not run.jobs_have_logs:
        return run.jobs
    unfinished = {job for place, job in run.patches.items() if place not in finished}
    after = "failed" if run.state == ENDED else "running"
    return {
        name: "done" if name not in unfinished else after if state == "running" else state
        for name, state in run.jobs.items()
    }


def _quantum_state(
    place: tuple[int, int],
    finished: dict[tuple[int, int], FinishedQuantum],
    run: RunReport,
    is_over: bool,
) -> str:
    if place in finished:
        return "done"
    job = run.jobs.get(run.patches.get(place, ""), "")
    if job in ("failed", "done") or (is_over and job == "running"):
        # A job that is done without its quantum has lost it.
        return "failed"
    if is_over or job == "deleted":
        return "not_run"
    return job or "not_known"


def _counts(
    plan: Plan | None,
    patches: list[CampaignPatch],
    finished: dict[tuple[int, int], FinishedQuantum],
) -> dict[str, int]:
    """Rows by status up to now."""
    if plan is None:
        return {}
    counts = Counter(plan.refused)
    for each in patches:
        if (quantum := finished.get((each.tract, each.patch))) is not None:
            counts.update(quantum.counts)
    return {status: n for status, n in sorted(counts.items()) if n}


def _rates(
    patches: list[CampaignPatch],
    finished: dict[tuple[int, int], FinishedQuantum],
    run: str,
    *,
    is_over: bool,
) -> dict[str, float | None]:
    """How fast the last run is, and how long it will take."""
    mine = {place: each for place, each in finished.items() if each.run == run and each.counts}
    if not mine:
        return {"rows_per_s": None, "bytes_per_s": None, "seconds_left": None}
    begin = min(each.started for each in mine.values())
    # While it runs, a time in which nothing comes counts too.
    end = max(each.ended for each in mine.values()) if is_over else time.time()
    seconds = max(end - begin, 1e-3)
    rows = sum(sum(each.counts.values()) for each in mine.values())
    left = sum(each.rows for each in patches if (each.tract, each.patch) not in finished)
    return {
        "rows_per_s": rows / seconds,
        "bytes_per_s": sum(each.bytes for each in mine.values()) / seconds,
        "seconds_left": None if is_over else left * seconds / rows,
    }


def _read_manifest(directory: str) -> Manifest | None:
    with contextlib.suppress(UserError, CorruptInputError):
        return read_manifest(directory)
    return None
