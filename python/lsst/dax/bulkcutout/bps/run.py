# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""BPS is told to run a campaign, or to go on with one."""

from __future__ import annotations

import contextlib
import io
import logging
import subprocess
from pathlib import Path

from ..campaign import Campaign
from ..errors import BulkCutoutError, InternalError, TransientError, UserError
from ..run_lock import hold_run
from ..zipfile_fault import mend_zipfile
from .attempts import HTCONDOR
from .report import build_message

__all__ = ("restart_bps", "run_bps")

_LOG = logging.getLogger(__name__)

USER_STATUS = 1
"""Exit status of a command whose error is the user's to put right."""

TRANSIENT_STATUS = 75
"""Exit status of a command that may be tried again (EX_TEMPFAIL)."""


def run_bps(campaign: Campaign) -> None:
    """Submit a campaign, as ``bps submit`` does.

    Parameters
    ----------
    campaign
        A prepared campaign.  If it has run before, only what has not
        finished is done.

    Notes
    -----
    Returns when the jobs are with the workflow system; with Parsl, which runs
    in this process, when they have ended.
    """
    from lsst.ctrl.bps import BpsSubprocessError
    from lsst.ctrl.bps.drivers import submit_driver

    from .environment import set_environment

    if not campaign.bps_config.exists():
        raise UserError(
            f"Campaign {campaign.root} was submitted with a BPS file that is elsewhere: `bps submit` that "
            "file again, and only what has not finished is done."
        )
    set_environment(campaign.bps_config)
    try:
        with hold_run(campaign), mend_zipfile():
            campaign.finish_log.unlink(missing_ok=True)
            submit_driver(str(campaign.bps_config))
    except BpsSubprocessError as error:
        raise _build_error(campaign, error.errno) from error
    except subprocess.CalledProcessError:
        # Parsl raises this for a final job that exits with other than 0; why
        # it did so is in the note that it leaves.
        if not campaign.finish_log.exists():
            raise


def restart_bps(campaign: Campaign, directory: Path) -> bool:
    """Go on with a run of HTCondor that has a rescue DAG.

    Parameters
    ----------
    campaign
        The campaign.
    directory
        The run's submit directory.

    Returns
    -------
    restarted
        Whether BPS has taken it up; else a new run is needed.
    """
    from lsst.ctrl.bps.drivers import restart_driver

    from .environment import set_environment
    from .on_cluster import leave_the_outer_dag

    set_environment(campaign.bps_config)
    leave_the_outer_dag(directory)
    with hold_run(campaign), contextlib.redirect_stdout(io.StringIO()) as said:
        campaign.finish_log.unlink(missing_ok=True)
        restart_driver(HTCONDOR, str(directory))
    # It prints the submit file, too, and has no other way to tell how it went.
    lines = said.getvalue().splitlines()
    told = [line for line in lines if line.startswith(("Run Id: ", "Run Name: "))]
    if told:
        print("\n".join(told))
    else:
        _LOG.warning("The run in %s is not taken up again: %s", directory, lines[-1] if lines else "")
    return bool(told)


def _build_error(campaign: Campaign, status: int) -> BulkCutoutError:
    """What build-graph has said to the file that BPS keeps of it."""
    kind = {USER_STATUS: UserError, TRANSIENT_STATUS: TransientError}.get(status, InternalError)
    return kind(
        build_message(campaign) or f"build-graph failed; see {campaign.submit}/*/quantumGraphGeneration.out."
    )
