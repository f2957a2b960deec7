# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Commands that look at a product."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from .exit_codes import FAULTS_FOUND
from .root import OUT, cli

__all__ = ("preview", "verify")


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
    from ..verify.product import verify_product

    context = click.get_current_context()
    for name in ("flux_column", "flux_unit", "where", "same_images", "stars"):
        given = context.get_parameter_source(name) is not click.core.ParameterSource.DEFAULT
        if given and not photometry:
            raise click.UsageError(f"--{name.replace('_', '-')} is for --photometry: give both.")
    report = verify_product(out, sample=sample)
    click.echo(str(report))
    passed = report.ok
    if photometry:
        from ..certificate.certify import certify, write_certificate

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
    from ..preview import write_preview

    click.echo(f"Preview: {write_preview(out, file)}")
