# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""A campaign gets more rows or bands, or tries some again: only what is
missing is cut.
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from pathlib import Path

from .callback.secret_file import check_secret_file
from .campaign import Campaign, write_atomically
from .campaign_butler import open_source
from .cutout_formatter import define_storage_class
from .discovery.source_images import SourceImages
from .errors import UserError
from .planning import plan_campaign
from .quantum_outputs import keep_registered, read_outputs
from .registered_outputs import RegisteredOutputs
from .request import load_request

__all__ = ("top_up",)

_LOG = logging.getLogger(__name__)


def top_up(
    campaign: Campaign, request_file: Path | None = None, *, again: Collection[tuple[int, int]] = ()
) -> int:
    """Plan a campaign anew, and keep what still fits.

    Parameters
    ----------
    campaign
        A campaign that was submitted; nothing of it may be running.
    request_file
        The request as it is now.  Its catalog may have more rows, it may name
        more bands; whatever has changed, a patch is cut again only if its
        targets, images, bands, planes, background or precision are no longer
        those of its cutouts.  If `None`, it has not changed; its catalog, and
        the images in the repository, may have.
    again
        Patches (tract, patch) that are cut again in any case.

    Returns
    -------
    patches
        Number of patches that are to be cut.

    Raises
    ------
    UserError
        Raised if the request is for another product, or not fit.
    """
    before = load_request(campaign.request)
    request = before if request_file is None else load_request(request_file)
    if (request.request_id, request.output) != (before.request_id, before.output):
        raise UserError(
            f"Request file {request_file} has request_id {request.request_id!r} and output "
            f"{request.output!r}, but campaign {campaign.root} has {before.request_id!r} and "
            f"{before.output!r}: what is for another product is a campaign of its own."
        )
    check_secret_file(request)
    outputs = read_outputs(campaign)
    # Up to the end the same command can be given again if it is cut short:
    # graphs and registered outputs, which say what is there, change last.
    write_atomically(campaign.request, request.to_yaml())
    campaign.plan.unlink(missing_ok=True)
    define_storage_class()
    with open_source(request.butler) as butler:
        plan, coverage = plan_campaign(campaign, request, SourceImages(butler, request))
        registered = RegisteredOutputs(butler, campaign, plan, request)
        kept = []
        for patch in coverage:
            output = outputs.get(place := (patch.tract, patch.patch))
            if place in again or output is None or output.path is None:
                continue
            if registered.fits(output.path, patch):
                kept.append(output)
    campaign.registered.unlink(missing_ok=True)
    keep_registered(campaign, kept)
    _put_graphs_aside(campaign)
    _LOG.info("Of %d patches, the cutouts of %d are there already.", len(coverage), len(kept))
    return len(coverage) - len(kept)


def _put_graphs_aside(campaign: Campaign) -> None:
    """Graphs of another plan say nothing of this one."""
    number = len(list(campaign.graphs.glob("before-*")))
    aside = campaign.graphs / f"before-{number:04d}"
    for path in campaign.graph_files():
        aside.mkdir(exist_ok=True)
        path.replace(aside / path.name)
