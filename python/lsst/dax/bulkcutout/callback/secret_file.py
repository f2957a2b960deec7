# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Files with secrets: readable by their owner alone, or refused."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from ..errors import UserError
from ..request import CutoutRequest
from .secret import Secret

__all__ = ("check_secret_file", "read_secret", "write_new_secret")

MOST_BYTES = 1000
"""A file with more holds something else."""


def check_secret_file(request: CutoutRequest) -> None:
    """Make sure that a callback can be signed.

    At the end of a campaign nobody would be there to mend it.

    Parameters
    ----------
    request
        The request.

    Raises
    ------
    UserError
        Raised if it names a file with a secret that is not fit for it.
    """
    if request.notify.secret_file is None:
        return
    path = Path(request.notify.secret_file)
    if path.resolve().is_relative_to(Path(request.output).resolve()):
        raise UserError(
            f"Request field 'notify.secret_file': {path} is in the directory of the product, which is handed "
            "to others. Move it."
        )
    try:
        read_secret(path)
    except UserError as error:
        raise UserError(f"Request field 'notify.secret_file': {error}") from None


def read_secret(path: Path) -> Secret:
    """Read the secret in a file.

    Parameters
    ----------
    path
        A file of ours, of mode 0600 or 0400, with ``whsec_`` and 24 to 64
        bytes in base64 on one line.

    Returns
    -------
    secret
        The secret.

    Raises
    ------
    UserError
        Raised if the file is not there, not ours, a link, open to others, or
        holds anything else; the message shows nothing of what it holds.
    """
    try:
        # Not through a link, and not waiting for whoever may write to a pipe.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if path.is_symlink():
            raise UserError(f"Secret file {path} is a symbolic link: name the file itself.") from None
        raise UserError(f"Secret file {path} cannot be read: {error.strerror or error}.") from None
    try:
        _check_file(path, os.fstat(descriptor))
        raw = os.read(descriptor, MOST_BYTES + 1)
    finally:
        os.close(descriptor)
    try:
        if len(raw) > MOST_BYTES:
            raise ValueError("it has more than a thousand bytes")
        return Secret.from_text(raw.decode("ascii"))
    except UnicodeDecodeError:
        problem = "it is no text in ASCII"
    except ValueError as error:
        problem = str(error)
    raise UserError(f"Secret file {path} holds no secret: {problem}.")


def _check_file(path: Path, found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise UserError(f"Secret file {path} is no file, but a directory or a device.")
    if found.st_uid != os.geteuid():
        raise UserError(
            f"Secret file {path} belongs to another user (number {found.st_uid}): it must be yours alone."
        )
    if found.st_mode & 0o077:
        raise UserError(
            f"Secret file {path} is open to others (mode {stat.S_IMODE(found.st_mode):04o}): `chmod 600` it, "
            "and make a new secret if others may have read it."
        )


def write_new_secret(path: Path) -> Secret:
    """Make a file with a new secret.

    Parameters
    ----------
    path
        A file that is not there yet; it gets the mode 0600.

    Returns
    -------
    secret
        The secret.

    Raises
    ------
    UserError
        Raised if the file is there, or cannot be written.
    """
    secret = Secret.new()
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(descriptor, "w") as stream:
            stream.write(f"{secret.to_text()}\n")
    except OSError as error:
        raise UserError(f"Secret file {path} cannot be made: {error.strerror or error}.") from None
    return secret
