# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Going on with a campaign that has stopped."""

from __future__ import annotations

import logging

from .campaign import Campaign
from .finish import finish
from .quantum_outputs import read_outputs
from .submit import run_bps

__all__ = ("restart",)

_LOG = logging.getLogger(__name__)


def restart(campaign: Campaign) -> bool:
    """Do what a campaign has not done yet.

    Parameters
    ----------
    campaign
        A campaign that was submitted; nothing of it may be running.

    Returns
    -------
    submitted
        Whether anything was left to do.

    Raises
    ------
    UserError
        Raised if the campaign was never planned.
    """
    if not campaign.graph_files():
        run_bps(campaign)
        return True
    campaign.read_plan()
    outputs = read_outputs(campaign)
    unfinished = [place for place, output in outputs.items() if not output.done]
    if not unfinished:
        # Nothing is left for BPS, which has no use for a graph without quanta.
        _LOG.info("All quanta are done; packaging here.")
        finish(campaign)
        return True
    run_bps(campaign)
    return True
