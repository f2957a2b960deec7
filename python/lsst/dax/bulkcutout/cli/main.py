# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Runs the command line; errors become exit codes."""

from __future__ import annotations

import sys

import click

from ..errors import BulkCutoutError, InternalError, TransientError
from .exit_codes import OUR_FAULT, TRY_AGAIN, WRONG_USAGE, YOUR_TURN
from .root import cli

__all__ = ("main",)


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
