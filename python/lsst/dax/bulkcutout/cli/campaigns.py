# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Commands for those who watch and steer campaigns."""

from __future__ import annotations

import json
from pathlib import Path

import click

from .outcome import report_outcome
from .root import CAMPAIGN, cli

__all__ = ("cancel", "restart", "status")


@cli.command()
@CAMPAIGN
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def status(campaign: Path, as_json: bool) -> None:
    """Tell how far CAMPAIGN is.

    It is prepared (not yet planned), running (which includes waiting and
    cancelled: that the workflow system knows), complete, partial (some jobs
    have failed) or failed (the product could not be packaged); the last two
    are for `bulkcutout restart`.  CAMPAIGN is its directory, or the product's
    beside it.
    """
    import dataclasses

    from ..submit import find_campaign
    from ..watch.status import read_status

    found = read_status(find_campaign(campaign))
    if as_json:
        click.echo(json.dumps(dataclasses.asdict(found), indent=1))
        return
    click.echo(f"{found.state}: {found.done} of {found.quanta} quanta done")
    for name, count in found.counts.items():
        click.echo(f"  {count:>12,}  {name}")
    if found.message:
        click.echo(f"last message: {found.message}")
    click.echo(f"output: {found.output}")


@cli.command()
@CAMPAIGN
@click.option(
    "--wait",
    default=120.0,
    show_default=True,
    type=click.FloatRange(min=0),
    metavar="SECONDS",
    help="How long the final job may take; then it is taken out of the queue.",
)
def cancel(campaign: Path, wait: float) -> None:
    """End all that runs of CAMPAIGN; its manifest says so.

    Jobs that run are cancelled or end after the patch that they are at, and
    nothing is packaged.  When the command comes back, nothing of the campaign
    runs any more, or it ends with 75 and can be given again.  `bulkcutout
    restart` goes on with what there is.  CAMPAIGN is its directory, or the
    product's beside it.
    """
    from ..cancel import cancel as cancel_campaign
    from ..submit import find_campaign

    click.echo(cancel_campaign(find_campaign(campaign), wait_s=wait))


@cli.command()
@CAMPAIGN
@click.option("--request", type=click.Path(path_type=Path), help="The request, if it has changed.")
@click.option(
    "--retry-rows",
    metavar="WHICH",
    help="Rows that may have another answer now: statuses, numbers, ranges with commas between them, such "
    "as read_failed,no_data,12,40-99; or @FILE with such a list, or a Parquet file with a column row.",
)
def restart(campaign: Path, request: Path | None, retry_rows: str | None) -> None:
    """Go on with CAMPAIGN where it has stopped.

    Only patches that have not finished are cut again; the product is then
    packaged from what all attempts have left.  Nothing of the campaign may
    be running.  With --request, the catalog may have more rows or the
    request more bands: only what is missing is cut.  With --retry-rows,
    catalog and repository are looked up again, and the patches of these rows
    are cut again: for a damaged image that was mended, for images that have
    come since.  CAMPAIGN is its directory, or the product's beside it.
    """
    from ..restart import restart as restart_campaign
    from ..submit import find_campaign
    from ..watch.status import watching

    found = find_campaign(campaign)
    with watching(found):
        restart_campaign(found, request, retry_rows=retry_rows)
    report_outcome(found.root)
