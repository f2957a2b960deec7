# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""The command line: ``bulkcutout``."""

from __future__ import annotations

import contextlib
import json
import logging
import sys
from pathlib import Path

import click

from .errors import BulkCutoutError, InternalError, TransientError

__all__ = ("cli", "main")

YOUR_TURN = 1
PARTIAL = 2
FAULTS_FOUND = 3
WRONG_USAGE = 64
OUR_FAULT = 70
TRY_AGAIN = 75

EXIT_CODES = """
\b
Exit codes:
  0   all is well
  1   something to put right on your side; the message says what
  2   a product was made, but some rows were not processed
  3   verify has found faults, or the photometry is not certified
  64  wrong usage of a command
  70  a fault of this software
  75  storage or another machine failed; try again
"""

CAMPAIGN = click.argument("campaign", type=click.Path(path_type=Path))
OUT = click.argument("out", type=click.Path(path_type=Path, exists=True, file_okay=False))


@click.group(epilog=EXIT_CODES, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("-v", "--verbose", is_flag=True, help="Say more on standard error.")
@click.version_option(package_name="lsst-dax-bulkcutout")
def cli(verbose: bool) -> None:
    """Cut images for all positions of a catalog out of a Butler repository.

    `estimate` tells what a request costs; `submit` runs it; `status` tells
    how far it is; `restart` goes on with a campaign that has stopped.
    `verify` and `preview` look at a product.  The other commands are what
    BPS runs in between.  Each has a --help of its own.
    """
    # The level is that of the handler: workflow systems lower their own
    # loggers' levels, and would be heard in detail.
    handler = logging.StreamHandler()
    handler.setLevel(logging.INFO if verbose else logging.WARNING)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logging.getLogger().addHandler(handler)
    logging.getLogger("lsst.dax.bulkcutout").setLevel(logging.INFO)
    # It warns wherever EUPS is not used, which is no fault.
    logging.getLogger("lsst.utils.packages").setLevel(logging.ERROR)


@cli.command()
@click.argument("request", type=click.Path(path_type=Path))
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), help="Directory for sky.png and estimate.json."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def estimate(request: Path, out: Path | None, as_json: bool) -> None:
    """Tell what REQUEST would give and cost; submit nothing.

    Rows that would get a cutout and rows that would not, images to read,
    bytes of each plane (also of those that were not asked for), core-hours,
    and the free space that is needed.  With --out also a picture of the sky.
    Nothing else is written but temporary files, which are deleted.
    """
    from .estimate.forecast import estimate_request
    from .progress import Progress

    with contextlib.closing(Progress("Locating targets")) as progress:
        found = estimate_request(request, out, progress=progress.add)
    click.echo(found.to_json() if as_json else str(found))


@cli.command()
@click.argument("request", type=click.Path(path_type=Path))
@click.option(
    "--site",
    default="parsl",
    show_default=True,
    help="Where to run: parsl (this machine), htcondor, or the path of a BPS configuration.",
)
@click.option(
    "--campaign",
    type=click.Path(path_type=Path),
    help="Directory for all that is not the product.  [default: OUTPUT.campaign]",
)
@click.option("--prepare-only", is_flag=True, help="Only write the file that `bps submit` takes.")
def submit(request: Path, site: str, campaign: Path | None, prepare_only: bool) -> None:
    """Run REQUEST, a YAML or JSON file.

    The product goes to the `output` of the request.  With the site parsl the
    command ends when the product is there; with htcondor when the jobs are
    queued, and `bulkcutout status` tells then how far they are.
    """
    from .submit import prepare

    prepared = prepare(request, site=site, directory=campaign)
    click.echo(f"Campaign: {prepared.root}")
    if prepare_only:
        click.echo(f"Submit it with: bps submit {prepared.bps_config}")
    else:
        _run(prepared.root)


@cli.command()
@CAMPAIGN
@click.option("--request", type=click.Path(path_type=Path), help="The request, if it has changed.")
def restart(campaign: Path, request: Path | None) -> None:
    """Go on with CAMPAIGN where it has stopped.

    Only patches that have not finished are cut again; the product is then
    packaged from what all attempts have left.  Nothing of the campaign may
    be running.  With --request, the catalog may have more rows or the
    request more bands: only what is missing is cut.  CAMPAIGN is its
    directory, or the product's beside it.
    """
    from .campaign_status import watching
    from .restart import restart as restart_campaign
    from .submit import find_campaign

    found = find_campaign(campaign)
    with watching(found):
        restart_campaign(found, request)
    _report(found.root)


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

    from .campaign_status import read_status
    from .submit import find_campaign

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
    from .ingest.options import ingest_named

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


@cli.command()
@OUT
@click.option(
    "--sample",
    default=200,
    show_default=True,
    help="Number of cutouts to compare with the input images; 0 where these are not at hand.",
)
@click.option("--photometry", is_flag=True, help="Measure stars, and write certificate.png and .json.")
@click.option(
    "--flux-column",
    default="{band}_psfFlux",
    show_default=True,
    metavar="NAME",
    help="Carried columns with known fluxes of stars; {band} stands for the band.",
)
@click.option("--flux-unit", metavar="UNIT", help="Their unit, if the columns do not say.")
@click.option(
    "--where",
    multiple=True,
    metavar="CONDITION",
    help="What a carried column says of stars: 'NAME < 0.5', 'NAME', 'not NAME'; can be given again.  "
    "[default: refExtendedness and others, where they are carried]",
)
@click.option("--same-images", is_flag=True, help="The fluxes were measured on these same images.")
@click.option("--stars", default=1000, show_default=True, type=click.IntRange(min=1), help="Stars a band.")
def verify(
    out: Path,
    sample: int,
    photometry: bool,
    flux_column: str,
    flux_unit: str | None,
    where: tuple[str, ...],
    same_images: bool,
    stars: int,
) -> None:
    """Check the product in OUT: checksums, rows and pixels.

    Every file must have its checksum, every row of the catalog its one
    answer, and the pixels of a random sample must be those of the input
    images, which astropy reads anew.  With --photometry, isolated unsaturated
    stars must have the fluxes and places that the catalog says, measured with
    the product's own PSF, variance, mask and projection.  Ends with 3 if
    anything is wrong.
    """
    from .verify.product import verify_product

    context = click.get_current_context()
    for name in ("flux_column", "flux_unit", "where", "same_images", "stars"):
        given = context.get_parameter_source(name) is not click.core.ParameterSource.DEFAULT
        if given and not photometry:
            raise click.UsageError(f"--{name.replace('_', '-')} is for --photometry: give both.")
    report = verify_product(out, sample=sample)
    click.echo(str(report))
    passed = report.ok
    if photometry:
        from .certificate.certify import certify, write_certificate

        certificate = certify(
            out,
            flux_column=flux_column,
            flux_unit=flux_unit,
            conditions=where or None,
            same_images=same_images,
            most_stars=stars,
        )
        click.echo(str(certificate))
        for path in write_certificate(certificate):
            click.echo(f"Certificate: {path}")
        passed = passed and certificate.passed
    sys.exit(0 if passed else FAULTS_FOUND)


@cli.command()
@OUT
@click.option("--file", type=click.Path(path_type=Path), help="Picture to write.  [default: OUT/preview.png]")
def preview(out: Path, file: Path | None) -> None:
    """Make a contact sheet of the product in OUT, a PNG.

    First some that are special, which is said below them: at the edge of
    coverage, without a band, in a missing cell, saturated, stitched from
    several patches.  Then others, evenly spread over the product.  In colour
    where it has two bands or more; hatched where there are no data.
    """
    from .preview import write_preview

    click.echo(f"Preview: {write_preview(out, file)}")


@cli.command("build-graph")
@CAMPAIGN
@click.option("--request", type=click.Path(path_type=Path), help="Request, for a new campaign.")
@click.option("--graph", type=click.Path(path_type=Path), required=True, help="File to write (.qg).")
@click.option("--output-run", required=True, help="RUN collection of the outputs.")
@click.option("--skip-existing-in", multiple=True, help="Collection with outputs that need not be remade.")
@click.option("--max-memory-mb", type=click.IntRange(min=64), help="Memory for pixels of a quantum.")
@click.option("--clobber-outputs", is_flag=True, help="Replace registered outputs that are in the way.")
def build_graph(
    campaign: Path,
    request: Path | None,
    graph: Path,
    output_run: str,
    skip_existing_in: tuple[str, ...],
    max_memory_mb: int | None,
    clobber_outputs: bool,
) -> None:
    """Find the images of all targets; write a quantum graph.

    What BPS runs as createQuantumGraph.  Makes the plan of CAMPAIGN if there
    is none; if there is one, the graph has only what has not finished.
    """
    from .campaign import Campaign
    from .progress import Progress
    from .quantum_graph_builder import build_graph

    with contextlib.closing(Progress("Locating targets")) as progress:
        plan = build_graph(
            Campaign(campaign.absolute()),
            graph,
            output_run=output_run,
            request_file=request,
            skip_existing_in=skip_existing_in,
            clobber=clobber_outputs,
            max_memory_mb=max_memory_mb,
            progress=progress.add,
        )
    click.echo(f"{plan.targets:,} targets of {plan.catalog_rows:,} rows; refused: {plan.refused or 'none'}")


PIPETASK = {"ignore_unknown_options": True, "help_option_names": []}


@cli.command("init-run", context_settings=PIPETASK, short_help="Run `pipetask pre-exec-init-qbb`.")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def init_run(arguments: tuple[str, ...]) -> None:
    """Run `pipetask pre-exec-init-qbb` with ARGUMENTS."""
    _pipetask("pre-exec-init-qbb", arguments)


@cli.command("run-quanta", context_settings=PIPETASK, short_help="Run `pipetask run-qbb`.")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def run_quanta(arguments: tuple[str, ...]) -> None:
    """Run `pipetask run-qbb` with ARGUMENTS."""
    _pipetask("run-qbb", arguments)


@cli.command()
@CAMPAIGN
@click.option(
    "--processes",
    type=click.IntRange(min=1),
    help="Most processes that write data files at a time.  [default: the cores of this machine, at most 4]",
)
def finish(campaign: Path, processes: int | None) -> None:
    """Package what the quanta of CAMPAIGN have left.

    What BPS runs as the final job.  Can be given again at any time: what is
    there already and would come out the same is left alone.  Ends with 0
    (complete), 2 (some quanta have not finished) or 75 (try again).
    """
    from .finish import finish as finish_campaign
    from .progress import Progress
    from .repackage.packagers import available_cores
    from .submit import find_campaign

    with contextlib.closing(Progress("Packaging")) as progress:
        status = finish_campaign(
            find_campaign(campaign), progress=progress.set, processes=processes or available_cores()
        )
    sys.exit(status)


def main() -> None:
    """Run the command line; exit with one of the codes that --help lists."""
    try:
        cli(standalone_mode=False)
    except click.exceptions.Abort:
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(WRONG_USAGE)
    except BulkCutoutError as error:
        click.echo(f"bulkcutout: {error}", err=True)
        sys.exit(
            TRY_AGAIN if isinstance(error, TransientError)
            else OUR_FAULT if isinstance(error, InternalError)
            else YOUR_TURN
        )  # fmt: skip
    except OSError as error:
        # Disks that are full, files that may not be written.
        click.echo(f"bulkcutout: {error}", err=True)
        sys.exit(YOUR_TURN if isinstance(error, _NOT_WORTH_ANOTHER_TRY) else TRY_AGAIN)


_NOT_WORTH_ANOTHER_TRY = (
    FileExistsError,
    FileNotFoundError,
    IsADirectoryError,
    NotADirectoryError,
    PermissionError,
)


def _run(root: Path) -> None:
    from .campaign import Campaign
    from .campaign_status import watching
    from .submit import run_bps

    with watching(Campaign(root)):
        run_bps(Campaign(root))
    _report(root)


def _report(root: Path) -> None:
    """Say how a campaign stands after BPS has given control back."""
    from .campaign import Campaign
    from .campaign_status import read_status

    campaign = Campaign(root)
    # BPS keeps to itself what build-graph and finish have said.
    for warning in campaign.read_plan().warnings if campaign.plan.exists() else ():
        click.echo(f"Warning: {warning}", err=True)
    found = read_status(campaign)
    if found.message:
        click.echo(f"bulkcutout: {found.message}", err=True)
    click.echo(f"{found.state}: {found.done} of {found.quanta} quanta done; output: {found.output}")
    sys.exit({"partial": PARTIAL, "failed": TRY_AGAIN}.get(found.state, 0))


def _pipetask(command: str, arguments: tuple[str, ...]) -> None:
    from lsst.ctrl.mpexec.cli.pipetask import cli as pipetask

    from .zipfile_fault import mend_zipfile

    with mend_zipfile():
        pipetask(["--long-log", "--log-level", "VERBOSE", command, *arguments])


if __name__ == "__main__":
    main()
