# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Going on with a campaign that has stopped."""

from __future__ import annotations

import logging
from pathlib import Path

import yaml

from .bps.cancel import queued_runs
from .bps.run import restart_bps, run_bps
from .campaign import Campaign
from .errors import UserError
from .finish import finish
from .graph_software import check_attempts
from .purged import refuse_purged
from .quantum_outputs import read_outputs
from .repackage.packagers import available_cores
from .retry_rows import patches_to_retry
from .run_lock import hold_run
from .top_up import top_up

__all__ = ("restart",)

_LOG = logging.getLogger(__name__)

MIXED = "--other-software"
"""Option of build-graph that lets another software go on."""


def restart(campaign: Campaign, request_file: Path | None = None, *, retry_rows: str | None = None) -> None:
    """Do what a campaign has not done yet.

    Parameters
    ----------
    campaign
        A campaign that was submitted; nothing of it may be running.
    request_file
        The request with more rows or bands; `None` if it has not changed.
    retry_rows
        Rows that may have another answer now, in the words of `.retry_rows`;
        their patches are cut again.

    Raises
    ------
    UserError
        Raised if something of it runs, it was never planned, or there are no
        such rows.

    Notes
    -----
    A rescue DAG is used where DAGMan has left one.  Otherwise (Parsl, or a
    DAG that came to its end) a new graph with the unfinished quanta is
    submitted; `finish` merges what all attempts have left.
    """
    refuse_purged(campaign)
    mixed = _may_be_mixed(campaign)
    if not mixed:
        check_attempts(campaign, f"`extraQgraphOptions: {MIXED}` in {campaign.bps_config.name}")
    with hold_run(campaign):
        if runs := queued_runs(campaign):
            raise UserError(
                f"Campaign {campaign.root} has {', '.join(runs)} in the queue: wait for it, or "
                "`bulkcutout cancel`."
            )
        if request_file is not None or retry_rows is not None:
            again = patches_to_retry(campaign, retry_rows) if retry_rows is not None else ()
            top_up(campaign, request_file, again=again)
        # What runs from here on is not to see the marker.
        campaign.cancelled.unlink(missing_ok=True)
        _go_on(campaign, mixed=mixed)


def _go_on(campaign: Campaign, *, mixed: bool) -> None:
    directory = _with_rescue_dag(campaign)
    if directory is not None and restart_bps(campaign, directory):
        _LOG.info("Going on with the rescue DAG in %s.", directory)
    elif _all_is_cut(campaign):
        # Nothing is left for BPS, which has no use for a graph without quanta.
        _LOG.info("All quanta are done; packaging here.")
        finish(campaign, processes=available_cores(), other_software=mixed)
    else:
        run_bps(campaign)


def _with_rescue_dag(campaign: Campaign) -> Path | None:
    """The submit directory of the last attempt, if it has a rescue DAG for
    the campaign's plan.
    """
    attempts = sorted(path for path in campaign.submit.glob("*") if (path / "bps.yaml").exists())
    # A new plan has no graph yet.
    if not attempts or not campaign.graph_files():
        return None
    return attempts[-1] if any(attempts[-1].glob("*.dag.rescue*")) else None


def _all_is_cut(campaign: Campaign) -> bool:
    if not campaign.plan.exists():
        return False
    # The graphs alone do not tell: a new plan has none yet.
    patches = sum(tract.patches for tract in campaign.read_plan().tracts)
    return sum(output.done for output in read_outputs(campaign).values()) == patches


def _may_be_mixed(campaign: Campaign) -> bool:
    """Whether the campaign's own BPS file lets another software go on."""
    try:
        return MIXED in str(yaml.safe_load(campaign.bps_config.read_text()).get("extraQgraphOptions", ""))
    except (OSError, AttributeError, yaml.YAMLError):
        return False
