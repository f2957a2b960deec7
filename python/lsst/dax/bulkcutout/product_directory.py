# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""The directory that a product goes to: it must be writable, and ours."""

from __future__ import annotations

import errno
import json
import os
import tempfile
from pathlib import Path

from .campaign import Campaign, write_atomically
from .errors import TransientError, UserError

__all__ = ("CLAIM_NAME", "claim_product_directory")

_MAY_PASS = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ESTALE, errno.ETIMEDOUT)

CLAIM_NAME = ".bulkcutout-campaign.json"
"""File in a product's directory that says whose it is."""


def claim_product_directory(directory: Path, campaign: Campaign) -> None:
    """Reserve a directory for the product of a campaign.

    Parameters
    ----------
    directory
        The directory; made if need be.
    campaign
        Whose product it is to hold.

    Raises
    ------
    UserError
        Raised if the directory holds anything else or cannot be written.
    TransientError
        Raised if there is no space, or the disk does not answer.
    """
    claim = directory / CLAIM_NAME
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            pass
        contents = os.listdir(directory)
        owner = json.loads(claim.read_text()).get("campaign") if claim.exists() else None
    except (OSError, ValueError, AttributeError) as error:
        if isinstance(error, OSError) and error.errno in _MAY_PASS:
            raise TransientError(f"{directory} takes nothing at present: {error}") from error
        raise UserError(
            f"Request field 'output': {directory} cannot be used for the product ({error}). Name a directory "
            "that you may write to."
        ) from error
    if owner == str(campaign.root):
        return
    if contents:
        what = f"the product of campaign {owner}" if owner else f"other files ({sorted(contents)[0]}, ...)"
        raise UserError(
            f"Request field 'output': {directory} holds {what}. Name another directory, or remove this one."
        )
    write_atomically(claim, json.dumps({"campaign": str(campaign.root)}) + "\n")
