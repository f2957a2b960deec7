# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""How BPS sees the last run of a campaign.

Where BPS or the workflow system cannot tell, this says so: the campaign's own
files go on from there.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from ..campaign import Campaign
from ..run_lock import is_run_held
from .attempts import HTCONDOR, attempts, saved_config

if TYPE_CHECKING:
    from lsst.ctrl.bps import WmsRunReport

__all__ = (
    "ALIVE",
    "ENDED",
    "JOB_STATES",
    "NOT_KNOWN",
    "RunReport",
    "ask_bps",
    "build_message",
)

_LOG = logging.getLogger(__name__)

ALIVE, ENDED, NOT_KNOWN = "alive", "ended", "not known"

JOB_STATES = ("waiting", "running", "done", "failed", "held", "deleted")
"""States of a job, in the order in which they are shown."""

_STATES = {
    "UNKNOWN": "waiting",
    "UNREADY": "waiting",
    "READY": "waiting",
    "PENDING": "waiting",
    # On its way from one state to another.
    "MISFIT": "running",
    "RUNNING": "running",
    "SUCCEEDED": "done",
    "FAILED": "failed",
    # Never to run, because a job before it has failed.
    "PRUNED": "failed",
    "HELD": "held",
    "DELETED": "deleted",
}
"""Ours by the name of BPS's states."""

HISTORY_DAYS = 30.0


@dataclasses.dataclass(frozen=True)
class RunReport:
    """What BPS knows of a run."""

    state: str = NOT_KNOWN
    """`ALIVE`, `ENDED` or `NOT_KNOWN`."""

    run_id: str = ""
    """The workflow system's number of the run; empty if not known."""

    site: str = ""
    """The ``computeSite``."""

    directory: Path | None = None
    """Submit directory; `None` if nothing was submitted."""

    jobs: dict[str, str] = dataclasses.field(default_factory=dict)
    """State of each job, one of `JOB_STATES`, by the job's name."""

    jobs_have_logs: bool = False
    """Whether a job is "running" only because it has a log."""

    held: dict[str, str] = dataclasses.field(default_factory=dict)
    """Why jobs are held, by the job's name."""

    patches: dict[tuple[int, int], str] = dataclasses.field(default_factory=dict)
    """Name of the job that cuts each patch, by tract and patch, as far as
    that is written down."""

    is_held: bool = False
    """Whether the run itself is held, so that no job of it is begun."""

    provisioning: str = ""
    """How the job stands that brings slots, if there is one."""

    message: str = ""
    """Why something is not known, or is wrong."""


def ask_bps(campaign: Campaign) -> RunReport:
    """Ask BPS about the last run of a campaign.

    Parameters
    ----------
    campaign
        The campaign.

    Returns
    -------
    report
        What could be found out.
    """
    held = is_run_held(campaign)
    runs = attempts(campaign)
    if not runs:
        return RunReport(state=_locked(held))
    directory = runs[-1]
    config = _saved_config(directory)
    service = str(config.get("wmsServiceClass", ""))
    report = RunReport(
        run_id=_linked_id(campaign, directory),
        site=str(config.get("computeSite", "")),
        directory=directory,
        patches=_patches_of_jobs(directory),
    )
    if not service or ".parsl." in service:
        # Parsl has no report: it runs in the process that submitted.
        return dataclasses.replace(
            report, state=_locked(held), jobs=_started_jobs(directory, report), jobs_have_logs=True
        )
    report = _ask_service(service, directory, report)
    if held:
        # It is being submitted.
        return dataclasses.replace(report, state=ALIVE)
    if report.state == NOT_KNOWN and not report.run_id and held is not None:
        return dataclasses.replace(report, state=ENDED, message="The run was never queued.")
    return report


def build_message(campaign: Campaign) -> str:
    """Find the last thing that build-graph has said.

    Parameters
    ----------
    campaign
        The campaign.

    Returns
    -------
    message
        From the file that BPS keeps of it; empty if it was not an error.
    """
    files = sorted(campaign.submit.glob("*/quantumGraphGeneration.out"))
    lines = files[-1].read_text(errors="replace").splitlines() if files else []
    prefix = "bulkcutout: "
    starts = [number for number, line in enumerate(lines) if line.startswith(prefix)]
    if not starts:
        return ""
    first, *others = lines[starts[-1] :]
    # Lines of the same message are indented.
    others = list(itertools.takewhile(lambda line: line.startswith("  "), others))
    return "\n".join([first.removeprefix(prefix), *others])


def _locked(held: bool | None) -> str:
    return NOT_KNOWN if held is None else ALIVE if held else ENDED


def _saved_config(directory: Path) -> dict[str, Any]:
    try:
        return saved_config(directory)
    except (OSError, yaml.YAMLError) as error:
        _LOG.warning("BPS's configuration in %s cannot be read: %s", directory, error)
        return {}


def _linked_id(campaign: Campaign, directory: Path) -> str:
    """The run's number, by the link that BPS has made for it."""
    links = [path for path in (campaign.submit / "by-id").glob("*") if path.is_symlink()]
    mine = [path for path in links if path.resolve() == directory.resolve()]
    # A run that was restarted has several.
    return max(mine, key=lambda path: path.lstat().st_mtime).name if mine else ""


def _patches_of_jobs(directory: Path) -> dict[tuple[int, int], str]:
    try:
        jobs = json.loads((directory / "jobs.json").read_text())
        return {(int(tract), int(patch)): name for name, places in jobs.items() for tract, patch in places}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        _LOG.warning("%s cannot be read: %s", directory / "jobs.json", error)
        return {}


def _started_jobs(directory: Path, report: RunReport) -> dict[str, str]:
    """With Parsl a job has a log as soon as it runs."""
    started = {path.stem for path in (directory / "logs").rglob("*.stdout")}
    return {
        name: "running" if name in started else "waiting" for name in dict.fromkeys(report.patches.values())
    }


def _ask_service(service: str, directory: Path, report: RunReport) -> RunReport:
    """Ask a workflow system by way of BPS."""
    # By its directory where the service takes that: an old run needs no
    # history then.
    run_id = str(directory) if service == HTCONDOR else report.run_id
    if not run_id:
        return dataclasses.replace(report, message=f"The number of the run at {report.site} is not known.")
    try:
        with _quiet():
            from lsst.ctrl.bps.report import retrieve_report

            found, messages = retrieve_report(service, run_id=run_id, hist=HISTORY_DAYS)
            if len(found) == 1 and found[0].jobs:
                report = dataclasses.replace(report, **_read_report(found[0]))
            else:
                said = " ".join(" ".join(messages).split()) or "it has no such run."
                report = dataclasses.replace(report, message=f"BPS cannot tell of the run: {said}")
            if service == HTCONDOR:
                report = _with_reasons(directory, report)
                report = _check_queue(service, directory, report)
    except Exception as error:
        # Plugins of BPS raise what they like.
        _LOG.debug("BPS cannot be asked.", exc_info=True)
        said = " ".join(str(error).split()) or type(error).__name__
        return dataclasses.replace(report, message=f"BPS cannot be asked about the run: {said}")
    return report


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep from people what plugins of BPS say of jobs that have no exit
    status, and HTCondor's bindings of a machine that is in no pool.
    """
    logger = logging.getLogger("lsst.ctrl.bps")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)


def _read_report(run: WmsRunReport) -> dict[str, Any]:
    jobs = {job.name: _STATES[job.state.name] for job in run.jobs}
    # A run that has only just been submitted is reported as SUCCEEDED.
    is_over = run.state.name in ("SUCCEEDED", "FAILED", "DELETED")
    # The same line twice, where the graph is built by a job of the run.
    about = dict.fromkeys(line.strip() for line in str(run.specific_info or "").splitlines())
    return {
        "state": ENDED if is_over else ALIVE,
        "run_id": str(run.wms_id),
        "jobs": jobs,
        "held": {name: "" for name, state in jobs.items() if state == "held"},
        "provisioning": "; ".join(filter(None, about)),
        "is_held": run.state.name == "HELD",
        "message": "The run itself is held." if run.state.name == "HELD" else "",
    }


def _with_reasons(directory: Path, report: RunReport) -> RunReport:
    """Reports have no reasons; DAGMan's log of its nodes has.  It also knows
    better of jobs that were released and have not started again.
    """
    if not report.held:
        return report
    from lsst.ctrl.bps.htcondor.lssthtc import read_dag_nodes_log

    reasons, released = {}, set()
    for ad in read_dag_nodes_log(directory).values():
        name = "".join(str(ad.get("LogNotes", "")).removeprefix("DAG Node: ").split()[:1])
        reasons[name] = " ".join(str(ad.get("HoldReason", "")).split())
        if ad.get("MyType") == "JobReleaseEvent":
            released.add(name)
    return dataclasses.replace(
        report,
        jobs={name: "waiting" if name in released else state for name, state in report.jobs.items()},
        held={name: reasons.get(name, "") for name in report.held if name not in released},
    )


def _check_queue(service: str, directory: Path, report: RunReport) -> RunReport:
    """Files of a run whose queue was lost say for ever that it runs, and
    those of one that was just queued are not there yet.
    """
    if report.state == ENDED or not report.run_id:
        return report
    from lsst.utils import doImportType

    try:
        cluster = report.run_id.partition(".")[0]
        queued = doImportType(service)({}).list_submitted_jobs(
            wms_id=str(directory), require_bps=False, pass_thru=f"ClusterId == {cluster}"
        )
    except Exception as error:
        # The bindings have no one class of errors.
        said = " ".join(str(error).split())
        return dataclasses.replace(
            report, message=f"The pool cannot be asked; this is by the run's files. ({said})"
        )
    if queued:
        return dataclasses.replace(report, state=ALIVE, message=report.message if report.jobs else "")
    return dataclasses.replace(report, state=ENDED, message="The run is no longer in the queue.")
