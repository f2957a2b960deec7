# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Errors become messages and exit codes, the same for all commands."""

from __future__ import annotations

from collections.abc import Callable

import click

from ..errors import BulkCutoutError, InternalError, TransientError
from .exit_codes import OUR_FAULT, TRY_AGAIN, WRONG_USAGE, YOUR_TURN

__all__ = ("exit_code_of",)

INTERRUPTED = 130

_NOT_WORTH_ANOTHER_TRY = (
    FileExistsError,
    FileNotFoundError,
    IsADirectoryError,
    NotADirectoryError,
    PermissionError,
)


def exit_code_of(work: Callable[[], object]) -> int:
    """Do something, and say what went wrong if anything did.

    Parameters
    ----------
    work
        What to do; may give an exit code.

    Returns
    -------
    code
        One of those that --help lists.
    """
    try:
        code = work()
    except click.exceptions.Abort:
        return INTERRUPTED
    except click.ClickException as error:
        error.show()
        return WRONG_USAGE
    except BulkCutoutError as error:
        click.echo(f"bulkcutout: {error}", err=True)
        if isinstance(error, TransientError):
            return TRY_AGAIN
        return OUR_FAULT if isinstance(error, InternalError) else YOUR_TURN
    except OSError as error:
        # Disks that are full, files that may not be written.
        click.echo(f"bulkcutout: {error}", err=True)
        return YOUR_TURN if isinstance(error, _NOT_WORTH_ANOTHER_TRY) else TRY_AGAIN
    return code if isinstance(code, int) else 0
