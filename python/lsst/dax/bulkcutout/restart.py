# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Going on with a campaign that has stopped."""

from __future__ import annotations

import logging
from pathlib import Path

from .bps.run import restart_bps, run_bps
from .campaign import Campaign
from .finish import finish
from .quantum_outputs import read_outputs
from .repackage.packagers import available_cores
from .top_up import top_up

__all__ = ("restart",)

_LOG = logging.getLogger(__name__)


def restart(campaign: Campaign, request_file: Path | None = None) -> None:
    """Do what a campaign has not done yet.

    Parameters
    ----------
    campaign
        A campaign that was submitted; nothing of it may be running.
    request_file
        The request with more rows or bands; `None` if it has not changed.

    Raises
    ------
    UserError
        Raised if the campaign was never planned.

    Notes
    -----
    A rescue DAG is used where DAGMan has left one.  Otherwise (Parsl, or a
    DAG that came to its end) a new graph with the unfinished quanta is
    submitted; `finish` merges what all attempts have left.
    """
    if request_file is not None:
        if top_up(campaign, request_file):
            run_bps(campaign)
        else:
            finish(campaign, processes=available_cores())
        return
    outputs = read_outputs(campaign)
    unfinished = [place for place, output in outputs.items() if not output.done]
    if outputs and not unfinished:
        # Nothing is left for BPS, which has no use for a graph without quanta.
        _LOG.info("All quanta are done; packaging here.")
        finish(campaign, processes=available_cores())
    elif (directory := _with_rescue_dag(campaign)) is not None:
        _LOG.info("Going on with the rescue DAG in %s.", directory)
        restart_bps(campaign, directory)
    else:
        run_bps(campaign)


def _with_rescue_dag(campaign: Campaign) -> Path | None:
    """The submit directory of the last attempt, if it has a rescue DAG."""
    attempts = sorted(path for path in campaign.submit.glob("*") if (path / "bps.yaml").exists())
    return attempts[-1] if attempts and any(attempts[-1].glob("*.dag.rescue*")) else None
