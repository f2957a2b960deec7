# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Deleting a product, and finding out whether it is all there."""

from __future__ import annotations

import json
from pathlib import Path

from ..campaign import Campaign, write_atomically
from ..errors import CorruptInputError, UserError
from ..manifest import (
    CERTIFICATE_NAME,
    CERTIFICATE_PICTURE_NAME,
    CHECKSUMS_NAME,
    MANIFEST_NAME,
    read_manifest,
)
from ..preview import PREVIEW_NAME
from ..product_directory import CLAIM_NAME
from ..request import load_request
from .deletion import Deletion

__all__ = ("delete_product", "lack")


def lack(directory: Path) -> str:
    """Say what a product lacks, which only the intermediates can give back.

    Parameters
    ----------
    directory
        Directory of the product.

    Returns
    -------
    text
        Why they have to be kept; empty if all files are there.
    """
    remedy = "`bulkcutout finish` makes it again; or say --incomplete"
    try:
        manifest = read_manifest(directory)
    except (UserError, CorruptInputError) as error:
        return f"as its product is not there ({error}): {remedy}"
    for file in manifest.files:
        path = directory / file.path
        if not path.is_file() or path.stat().st_size != file.bytes:
            return f"as its product lacks {path}: {remedy}"
    return ""


def delete_product(campaign: Campaign, *, dry_run: bool) -> Deletion:
    """Delete the product of a campaign.

    Parameters
    ----------
    campaign
        The campaign, which gets a copy of the manifest.
    dry_run
        Whether to tell only.

    Returns
    -------
    deletion
        What was deleted: the files that the manifest lists.
    """
    directory = Path(load_request(campaign.request).output)
    deletion = Deletion(directory, dry_run=dry_run)
    if not directory.exists():
        return deletion
    try:
        owner = json.loads((directory / CLAIM_NAME).read_text()).get("campaign")
    except (OSError, ValueError, AttributeError):
        owner = None
    if owner != str(campaign.root):
        deletion.left.append(f"{directory} belongs to {owner or 'nobody that is known'}")
        return deletion
    # The list of files must outlive the product's own: so that this can be
    # cut short, and because nothing may have a manifest that is not all there.
    if (directory / MANIFEST_NAME).exists() and not dry_run:
        write_atomically(campaign.purged_manifest, (directory / MANIFEST_NAME).read_text())
    try:
        manifest = read_manifest(directory if (directory / MANIFEST_NAME).exists() else campaign.root)
    except (UserError, CorruptInputError) as error:
        deletion.left.append(f"{directory}, of which nobody can tell what belongs to it: {error}")
        return deletion
    for name in (
        MANIFEST_NAME,
        CHECKSUMS_NAME,
        CERTIFICATE_NAME,
        CERTIFICATE_PICTURE_NAME,
        PREVIEW_NAME,
    ):
        deletion.delete(directory / name)
    for file in manifest.files:
        deletion.delete(directory / file.path)
    for parent in sorted(directory.glob("size=*/**/"), reverse=True):
        deletion.delete_empty(parent)
    if others := sorted(path.name for path in directory.iterdir() if path.name != CLAIM_NAME):
        if not dry_run:
            deletion.left.append(f"{directory} has other files ({others[0]}, ...)")
    else:
        deletion.delete(directory / CLAIM_NAME)
        deletion.delete_empty(directory)
    return deletion
