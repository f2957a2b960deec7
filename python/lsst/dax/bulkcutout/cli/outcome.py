# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""What is said of a campaign when BPS has given control back."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from .exit_codes import PARTIAL, TRY_AGAIN

__all__ = ("report_outcome",)


def report_outcome(root: Path) -> None:
    """Say how a campaign stands, and exit with the code for that.

    Parameters
    ----------
    root
        The campaign's directory.
    """
    from ..campaign import Campaign
    from ..watch.status import read_status

    campaign = Campaign(root)
    # BPS keeps to itself what build-graph and finish have said.
    for warning in campaign.read_plan().warnings if campaign.plan.exists() else ():
        click.echo(f"Warning: {warning}", err=True)
    found = read_status(campaign)
    if found.message:
        click.echo(f"bulkcutout: {found.message}", err=True)
    click.echo(f"{found.state}: {found.done} of {found.quanta} quanta done; output: {found.output}")
    sys.exit({"partial": PARTIAL, "failed": TRY_AGAIN}.get(found.state, 0))
