# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Commands for those who watch and steer campaigns."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from .outcome import STATUS_CODES, report_outcome
from .root import CAMPAIGN, cli

__all__ = ("cancel", "list_", "purge", "restart", "status")


@cli.command()
@CAMPAIGN
@click.option("--json", "as_json", is_flag=True, help="Print JSON; with --watch one line each time.")
@click.option(
    "--watch",
    "interval_s",
    type=click.FloatRange(min=0.1),
    is_flag=False,
    flag_value=10.0,
    metavar="[SECONDS]",
    help="Look again every 10 seconds, or as many as you say, up to the end. Give it after CAMPAIGN.",
)
@click.option(
    "--picture", type=click.Path(path_type=Path, dir_okay=False), help="Draw the patches by state, a PNG."
)
def status(campaign: Path, as_json: bool, interval_s: float | None, picture: Path | None) -> None:
    """Tell how far CAMPAIGN is.

    Its state is one of prepared, running, held, stopped, complete, partial,
    cancelled and failed, and the exit code is that state's.  Then quanta and
    jobs by state, why jobs are held, rows by status, and at the end what is
    in the product.  CAMPAIGN is its directory, or the product's beside it.
    """
    from ..submit import find_campaign
    from ..watch.live import show_status

    last = show_status(find_campaign(campaign), as_json=as_json, interval_s=interval_s, picture=picture)
    sys.exit(STATUS_CODES[last.state])


@cli.command("list")
@click.argument("directories", nargs=-1, type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option(
    "--state", "states", multiple=True, metavar="STATE", help="Only these; can be given several times."
)
def list_(directories: tuple[Path, ...], as_json: bool, states: tuple[str, ...]) -> None:
    """List the campaigns that were submitted from here.

    Or those in DIRECTORIES and below.  `submit` and `build-graph` note each
    campaign in the directory that BULKCUTOUT_CAMPAIGNS names (by default
    ~/.local/state/bulkcutout/campaigns); those that were deleted are
    forgotten.  What cannot be read is listed as broken.
    """
    from ..watch.live import show_list

    show_list(directories, states=states, as_json=as_json)


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
    from ..watch.live import watching

    found = find_campaign(campaign)
    with watching(found):
        restart_campaign(found, request, retry_rows=retry_rows)
    report_outcome(found.root)


@cli.command()
@click.argument("campaigns", nargs=-1, type=click.Path(path_type=Path), metavar="[CAMPAIGN]...")
@click.option(
    "--older-than",
    type=click.IntRange(min=0),
    metavar="DAYS",
    help="Days after its end for which a campaign's intermediates are kept.",
)
@click.option(
    "--policy",
    type=click.Path(path_type=Path),
    help="Policy of a site with these days.  [default: that of each campaign]",
)
@click.option("--products", is_flag=True, help="Delete products, too, where a policy gives them a lifetime.")
@click.option(
    "--incomplete", is_flag=True, help="Also campaigns that are not complete, or without their product."
)
@click.option("--dry-run", is_flag=True, help="Only tell what would be deleted.")
def purge(
    campaigns: tuple[Path, ...],
    older_than: int | None,
    policy: Path | None,
    products: bool,
    incomplete: bool,
    dry_run: bool,
) -> None:
    """Delete the intermediates of campaigns whose time is over.

    Each CAMPAIGN is its directory, or the product's beside it; without any,
    all that `bulkcutout list` knows.  Request, plan and notes stay, so that
    `status` still tells of it; nothing can go on with it.  A campaign that
    runs is never deleted, nor what a link leads to.
    """
    from ..policy.purge import purge_all

    click.echo(
        purge_all(
            campaigns,
            older_than_days=older_than,
            policy_file=policy,
            products=products,
            incomplete=incomplete,
            dry_run=dry_run,
        )
    )
