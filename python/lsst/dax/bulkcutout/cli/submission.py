# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Commands that begin with a request, or with images."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

import click

from .exit_codes import YOUR_TURN
from .outcome import report_outcome
from .root import cli

__all__ = ("estimate", "ingest", "submit")


@cli.command()
@click.argument("request", type=click.Path(path_type=Path))
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), help="Directory for sky.png and estimate.json."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--policy", type=click.Path(path_type=Path), help="Policy of a site: say what it would refuse.")
@click.option("--site", help="The same, by the policy of a site: its name, or path of a BPS configuration.")
def estimate(request: Path, out: Path | None, as_json: bool, policy: Path | None, site: str | None) -> None:
    """Tell what REQUEST would give and cost; submit nothing.

    Rows that would get a cutout and rows that would not, images to read,
    bytes of each plane (also of those that were not asked for), core-hours,
    and the free space that is needed.  With --out also a picture of the sky.
    Nothing else is written but temporary files, which are deleted.
    """
    from ..estimate.forecast import estimate_request
    from ..progress import Progress
    from ..submit import refusals_at

    refusals = refusals_at(site, policy)
    with contextlib.closing(Progress("Locating targets")) as progress:
        found = estimate_request(request, out, refusals=refusals, progress=progress.add)
    click.echo(found.to_json() if as_json else str(found))


@cli.command()
@click.argument("request", type=click.Path(path_type=Path))
@click.option(
    "--site",
    default="local",
    show_default=True,
    help="Where to run: local (this machine), usdf (the US Data Facility), htcondor (any pool), slurm_pool "
    "(the pool of bin/cluster), panda (a stub), or the path of a BPS configuration.",
)
@click.option(
    "--campaign",
    type=click.Path(path_type=Path),
    help="Directory for all that is not the product.  [default: OUTPUT.campaign]",
)
@click.option(
    "--build-on-cluster", is_flag=True, help="Have a job of the site find the images of all targets."
)
@click.option(
    "--policy", type=click.Path(path_type=Path), help="Policy of the site.  [default: what the site names]"
)
@click.option("--prepare-only", is_flag=True, help="Only write the file that `bps submit` takes.")
def submit(
    request: Path,
    site: str,
    campaign: Path | None,
    build_on_cluster: bool,
    policy: Path | None,
    prepare_only: bool,
) -> None:
    """Run REQUEST, a YAML or JSON file.

    The product goes to the `output` of the request.  With the site local the
    command ends when the product is there; with the others when the jobs are
    queued, and `bulkcutout status` tells then how far they are.

    For a catalog of many millions --build-on-cluster returns at once, and
    needs no memory here; errors of the request then show in `bulkcutout
    status`.
    """
    from ..submit import prepare

    prepared = prepare(
        request, site=site, directory=campaign, build_on_cluster=build_on_cluster, policy_file=policy
    )
    click.echo(f"Campaign: {prepared.root}")
    if prepare_only:
        click.echo(f"Submit it with: bps submit {prepared.bps_config}")
    else:
        _run(prepared.root)


@cli.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--repo", required=True, type=click.Path(path_type=Path), help="Repository to make, or add to.")
@click.option("--dataset-type", default="image", show_default=True, help="Name for this kind of image.")
@click.option("--collection", default="images", show_default=True, help="RUN collection for the images.")
@click.option("--skymap", help="Name for the tracts of these images.  [default: DATASET-TYPE_footprints]")
@click.option("--band", help="Band of all images.")
@click.option(
    "--band-from",
    metavar="CARD|REGEX",
    help="FITS card with the band, or an expression with one group for the file's name, such as "
    "'([gri])-band'.  [default: BAND, FILTER, FILTER1 or FILTNAM]",
)
@click.option(
    "--companion",
    "companions",
    multiple=True,
    metavar="KIND=PATTERN",
    help="Files with the variance, weight, mask or psf of the images, by their names: weight='*_wht.fits' "
    "belongs to the image whose name has the same in place of the *.  Can be given several times.",
)
def ingest(
    paths: tuple[Path, ...],
    repo: Path,
    dataset_type: str,
    collection: str,
    skymap: str | None,
    band: str | None,
    band_from: str | None,
    companions: tuple[str, ...],
) -> None:
    """Make a Butler repository of FITS images: PATHS, files and folders.

    For those who have images and no repository.  The files stay where they
    are.  Images on one grid of pixels become a tract, their footprints its
    patches; bands of the same footprint share a patch.  Files that cannot be
    used are listed, and the others go on; the command ends with 1 if none
    can be used.  At the end it prints what a request needs.
    """
    from ..ingest.options import ingest_named

    report = ingest_named(
        paths,
        repo,
        dataset_type=dataset_type,
        collection=collection,
        skymap=skymap,
        band=band,
        band_from=band_from,
        companions=companions,
    )
    for text in report.complaints:
        click.echo(text, err=True)
    if not (report.ingested or report.present):
        click.echo("bulkcutout: none of the files can be used.", err=True)
        sys.exit(YOUR_TURN)
    click.echo(report.summary)
    click.echo(report.request)


def _run(root: Path) -> None:
    from ..bps.run import run_bps
    from ..campaign import Campaign
    from ..watch.live import watching

    with watching(Campaign(root)):
        run_bps(Campaign(root))
    report_outcome(root)
