# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""What a campaign is going to do: settled once, before its first graph."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from pathlib import Path

from .callback.secret_file import check_secret_file
from .campaign import Campaign, Plan, write_atomically
from .catalog import open_catalog
from .discovery.companion_census import lacking_companions
from .discovery.discover import discover
from .discovery.image_probe import probe_images
from .discovery.neighbors import find_neighbors
from .discovery.source_images import Coverage, SourceImages
from .errors import InternalError, UserError
from .patch_list import write_patches
from .repackage.product_files import ProductFiles
from .request import CutoutRequest, load_request

__all__ = ("plan_campaign", "request_of")

_LOG = logging.getLogger(__name__)


def request_of(campaign: Campaign, request_file: Path | None) -> CutoutRequest:
    """Find the request of a campaign, or give it one.

    Parameters
    ----------
    campaign
        The campaign.
    request_file
        What the user asks for; if `None`, what the campaign has.

    Returns
    -------
    request
        The request.  Before the first graph the user may still change it.

    Raises
    ------
    UserError
        Raised if there is none, or another one than was planned.
    """
    if request_file is None or (campaign.request.exists() and not request_file.exists()):
        if not campaign.request.exists():
            raise UserError(
                f"Campaign {campaign.root} has no {campaign.request.name}: name one with --request."
            )
        return load_request(campaign.request)
    asked = load_request(request_file)
    if campaign.request.exists() and load_request(campaign.request) == asked:
        return asked
    # Who is told of the end may change at any time.
    is_same = (
        campaign.request.exists() and load_request(campaign.request).fingerprint() == asked.fingerprint()
    )
    if campaign.graph_files() and not is_same:
        raise UserError(
            f"Request file {request_file} is not what campaign {campaign.root} was planned for: `bulkcutout "
            "restart --request FILE` changes a campaign."
        )
    check_secret_file(asked)
    campaign.root.mkdir(parents=True, exist_ok=True)
    write_atomically(campaign.request, asked.to_yaml())
    return asked


def plan_campaign(
    campaign: Campaign,
    request: CutoutRequest,
    images: SourceImages,
    progress: Callable[[int], None] = lambda rows: None,
) -> tuple[Plan, list[Coverage]]:
    """Make the plan of a campaign, if it has none yet.

    Parameters
    ----------
    campaign
        The campaign.
    request
        Its request.
    images
        The images of the source repository.
    progress
        Called with the number of rows of each batch that was located.

    Returns
    -------
    plan
        What the campaign is going to do.
    coverage
        The patches that have targets, with their datasets and those of
        neighbours that their cutouts reach.

    Raises
    ------
    UserError
        Raised if request, catalog or repository are not fit for it.
    """
    # A plan that no graph was built for may be of an earlier request, or of a
    # catalog that was mended since.
    if campaign.plan.exists() and campaign.graph_files():
        plan = campaign.read_plan()
        if plan.request_fingerprint != request.fingerprint():
            raise UserError(
                f"{campaign.request} was changed after the campaign was planned: `bulkcutout restart "
                "--request FILE` changes a campaign."
            )
        coverage = images.coverage([campaign.targets / tract.path for tract in plan.tracts])
        return plan, images.with_companions(find_neighbors(images, campaign, plan, coverage))
    shutil.rmtree(campaign.targets, ignore_errors=True)
    campaign.plan.unlink(missing_ok=True)
    catalog = open_catalog(
        request.catalog,
        request.size,
        size_bins=request.size_bins or (),
        image_epoch=request.image_epoch,
        find_objects=images.object_tables,
    )
    found = discover(request, catalog, images, campaign, progress=progress)
    probe = probe_images(images, request, found.coverage)
    plan = Plan(
        request_fingerprint=request.fingerprint(),
        skymap=found.skymap,
        bands=found.bands,
        catalog_rows=catalog.n_rows,
        refused=found.refused,
        tracts=found.tracts,
        warnings=(*found.warnings, *probe.warnings),
        extra_planes=dict(probe.extra_planes),
    )
    if (total := plan.targets + sum(plan.refused.values())) != catalog.n_rows:
        raise InternalError(f"The catalog has {catalog.n_rows} rows, but {total} of them were accounted for.")
    files = ProductFiles(request, plan, campaign)
    coverage = images.with_companions(find_neighbors(images, campaign, plan, found.coverage))
    lacking = lacking_companions(coverage, request.companions.types)
    plan = plan.model_copy(update={"warnings": (*plan.warnings, *lacking)})
    write_patches(
        campaign.patches,
        [campaign.targets / tract.path for tract in plan.tracts],
        images.regions([tract.tract for tract in plan.tracts]),
    )
    campaign.write_plan(plan)
    for warning in plan.warnings:
        _LOG.warning("%s", warning)
    _LOG.info(
        "%d rows: %d targets in %d patches of %d tracts, bands %s, %d files at most; refused %s.",
        plan.catalog_rows,
        plan.targets,
        len(found.coverage),
        len(plan.tracts),
        ", ".join(plan.bands),
        len(files),
        plan.refused or "none",
    )
    return plan, coverage
