# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""What is said of a campaign when BPS has given control back."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from .exit_codes import CANCELLED, HELD, PARTIAL, TRY_AGAIN, UNFINISHED

__all__ = ("STATUS_CODES", "report_outcome")

STATUS_CODES = {
    "prepared": UNFINISHED,
    "running": UNFINISHED,
    "held": HELD,
    "stopped": TRY_AGAIN,
    "complete": 0,
    "partial": PARTIAL,
    "cancelled": CANCELLED,
    "failed": TRY_AGAIN,
}
"""Exit code of ``bulkcutout status`` by the campaign's state."""


def report_outcome(root: Path) -> None:
    """Say how a campaign stands, and exit with the code for that.

    Parameters
    ----------
    root
        The campaign's directory.
    """
    from ..campaign import Campaign
    from ..watch import live
    from ..watch.status import read_status
    from ..watch.text import describe_state

    campaign = Campaign(root)
    # BPS keeps to itself what build-graph and finish have said.
    for warning in campaign.read_plan().warnings if campaign.plan.exists() else ():
        click.echo(f"Warning: {warning}", err=True)
    found = read_status(campaign)
    if found.message:
        click.echo(f"bulkcutout: {found.message}", err=True)
    click.echo(f"{describe_state(found)}; output: {found.output}")
    # That it goes on elsewhere is what was asked for.
    sys.exit(0 if found.state in live.UNFINISHED else STATUS_CODES[found.state])
