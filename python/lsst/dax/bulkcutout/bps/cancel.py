# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""What a campaign has in the queue of the workflow system, and its end."""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..campaign import Campaign
from ..errors import TransientError
from .attempts import attempts, saved_config

__all__ = ("cancel_final_jobs", "cancel_runs", "queued_runs")

_LOG = logging.getLogger(__name__)


def queued_runs(campaign: Campaign) -> list[str]:
    """List what is in the queue.

    Parameters
    ----------
    campaign
        The campaign.

    Returns
    -------
    runs
        Identifiers that the workflow system gave; none with Parsl, which has
        no queue.

    Raises
    ------
    TransientError
        Raised if the workflow system does not answer.
    """
    with _asking():
        return [run for service, path in _submissions(campaign) for run in _queued(service, path)]


def cancel_runs(campaign: Campaign, *, force: bool = False) -> None:
    """Cancel what is in the queue, as ``bps cancel`` does.

    Parameters
    ----------
    campaign
        The campaign.
    force
        Whether HTCondor is to forget what it has removed already but cannot
        be sure of, such as jobs on a node that is lost.

    Raises
    ------
    TransientError
        Raised if the workflow system does not answer.
    """
    from lsst.ctrl.bps.cancel import cancel

    with _asking():
        for service, path in _submissions(campaign):
            if _queued(service, path):
                option = "-forcex" if force and "htcondor" in type(service).__module__ else None
                # It prints what it does.
                with contextlib.redirect_stdout(io.StringIO()) as said:
                    cancel(service, str(path), require_bps=False, pass_thru=option)
                _LOG.info("%s", said.getvalue().strip())


def cancel_final_jobs(campaign: Campaign) -> None:
    """Cancel jobs that outlive the cancel of their run: the final ones.

    Parameters
    ----------
    campaign
        A campaign whose runs were cancelled.

    Raises
    ------
    TransientError
        Raised if the workflow system does not answer.
    """
    with _asking():
        for service, path in _submissions(campaign):
            if not _queued(service, path):
                continue
            reports, _ = service.report(wms_workflow_id=str(path))
            for job in (job for report in reports for job in report.jobs or ()):
                if job.label == "finalJob":
                    _, said = service.cancel(str(job.wms_id))
                    _LOG.info("Final job %s is taken out of the queue. %s", job.wms_id, said)


def _submissions(campaign: Campaign) -> Iterator[tuple[Any, Path]]:
    """The workflow system, and the submit directory, of each attempt."""
    from lsst.utils import doImportType

    from .environment import set_environment

    # Now, because a restart submits from this process.
    set_environment(campaign.bps_config)
    for directory in attempts(campaign):
        service = saved_config(directory).get("wmsServiceClass")
        if service is not None:
            yield doImportType(service)({}), directory


def _queued(service: Any, path: Path) -> list[str]:
    try:
        return [str(run) for run in service.list_submitted_jobs(str(path), require_bps=False)]
    except NotImplementedError:
        return []


@contextlib.contextmanager
def _asking() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        # Each workflow system has errors of its own, which only BPS can name.
        raise TransientError(f"The workflow system does not answer: {error}") from error
