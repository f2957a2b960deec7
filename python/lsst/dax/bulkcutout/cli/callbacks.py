# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Commands around callbacks."""

from __future__ import annotations

import json
from pathlib import Path

import click

from .root import cli

__all__ = ("callback_receiver",)


@cli.command("callback-receiver")
@click.option(
    "--secret-file",
    "secret_files",
    type=click.Path(path_type=Path),
    multiple=True,
    required=True,
    help="File with a secret (mode 0600); give several while one is changed for another.",
)
@click.option("--new-secret", is_flag=True, help="Make the file first, with a new secret.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen at.")
@click.option(
    "--port", default=8000, show_default=True, type=click.IntRange(0, 65535), help="Port; 0 for any free one."
)
@click.option("--count", type=click.IntRange(min=1), help="End after so many callbacks.  [default: never]")
@click.option(
    "--store",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File to add callbacks to before they are answered; those in it are known.",
)
def callback_receiver(
    secret_files: tuple[Path, ...],
    new_secret: bool,
    host: str,
    port: int,
    count: int | None,
    store: Path | None,
) -> None:
    """Receive callbacks, verify them, and print a line of JSON for each.

    For trying out what campaigns tell, and for tests; a line comes once for
    each outcome, however often it is sent.  What is not rightly signed is
    answered with 401 and not printed.  It speaks HTTP only, and listens on
    this machine only unless --host says otherwise.
    """
    from ..callback.receiver import Receiver
    from ..callback.secret_file import read_secret, write_new_secret

    read = write_new_secret if new_secret else read_secret
    receiver = Receiver(
        [read(path) for path in secret_files],
        lambda record: click.echo(json.dumps(record)),
        host=host,
        port=port,
        count=count,
        store=store,
    )
    click.echo(f"Listening at {receiver.url}", err=True)
    receiver.serve()
