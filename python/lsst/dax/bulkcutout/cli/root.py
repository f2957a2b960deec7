# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""The group that all commands belong to, and arguments that several have."""

from __future__ import annotations

import logging
from pathlib import Path

import click

from .exit_codes import EXIT_CODES

__all__ = ("CAMPAIGN", "OUT", "cli")

CAMPAIGN = click.argument("campaign", type=click.Path(path_type=Path))
OUT = click.argument("out", type=click.Path(path_type=Path, exists=True, file_okay=False))


@click.group(epilog=EXIT_CODES, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("-v", "--verbose", is_flag=True, help="Say more on standard error.")
@click.version_option(package_name="lsst-dax-bulkcutout")
def cli(verbose: bool) -> None:
    """Cut images for all positions of a catalog out of a Butler repository.

    `estimate` tells what a request costs; `submit` runs it; `status` tells
    how far it is; `cancel` ends it; `restart` goes on with one that has
    stopped.
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
