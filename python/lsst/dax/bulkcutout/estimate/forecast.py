# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""What a request will cost, without carrying it out.

The same discovery as for a submission runs in a directory that is deleted
afterwards; then sizes are worked out from what it has found.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from ..campaign import Campaign, Plan, write_atomically
from ..campaign_butler import open_source
from ..cutout_formatter import define_storage_class
from ..discovery.source_images import Coverage, SourceImages
from ..planning import plan_campaign
from ..request import CutoutRequest, load_request
from ..sphere import corners_of
from ..target_table import read_targets
from .numbers import Estimate
from .outlines import Outline
from .picture import SkyPicture
from .working_out import work_out

__all__ = ("estimate_request",)

PICTURE_NAME = "sky.png"
JSON_NAME = "estimate.json"


def estimate_request(
    request_file: Path,
    out: Path | None = None,
    *,
    refusals: Callable[[CutoutRequest, Estimate], tuple[str, ...]] | None = None,
    progress: Callable[[int], None] = lambda rows: None,
) -> Estimate:
    """Work out what a request will cost.

    Parameters
    ----------
    request_file
        The request.
    out
        Directory for a picture of the sky and the numbers as JSON; nothing is
        written if `None`.
    refusals
        Says what of it is refused; nobody is asked if `None`.
    progress
        Called with the number of rows of each batch that was located.

    Returns
    -------
    estimate
        The numbers.

    Raises
    ------
    UserError
        Raised if request, catalog or repository are not fit for it.
    """
    request = load_request(request_file)
    define_storage_class()
    with (
        tempfile.TemporaryDirectory(prefix="bulkcutout-estimate-") as scratch,
        open_source(request.butler) as butler,
    ):
        campaign = Campaign(Path(scratch))
        images = SourceImages(butler, request)
        plan, coverage = plan_campaign(campaign, request, images, progress)
        estimate = work_out(request, campaign, plan, coverage, images)
        if refusals is not None:
            estimate = dataclasses.replace(estimate, refusals=refusals(request, estimate))
        if out is not None:
            out.mkdir(parents=True, exist_ok=True)
            _draw(out / PICTURE_NAME, campaign, estimate, plan, coverage, images)
            write_atomically(out / JSON_NAME, estimate.to_json() + "\n")
    return estimate


def _draw(
    path: Path,
    campaign: Campaign,
    estimate: Estimate,
    plan: Plan,
    coverage: Sequence[Coverage],
    images: SourceImages,
) -> None:
    regions = images.regions([tract.tract for tract in plan.tracts])
    outlines = [
        Outline(
            patch.tract, np.stack(corners_of(regions[patch.tract, patch.patch]), axis=-1), len(patch.datasets)
        )
        for patch in coverage
        if (patch.tract, patch.patch) in regions
    ]
    if not outlines:
        return
    picture = SkyPicture(outlines, len(plan.bands))
    with pq.ParquetFile(campaign.refused) as refused:
        for batch in refused.iter_batches(columns=["ra", "dec"]):
            picture.add(_degrees(batch, "ra"), _degrees(batch, "dec"), refused=True)
    for tract in plan.tracts:
        for batch in read_targets(campaign.targets / tract.path, columns=["ra", "dec"]):
            picture.add(_degrees(batch, "ra"), _degrees(batch, "dec"))
    picture.write(
        path,
        f"{estimate.request_id}: {estimate.targets:,} targets in {estimate.patches:,} patches of "
        f"{estimate.tracts:,} tract{'s' if estimate.tracts > 1 else ''}",
    )


def _degrees(batch: Any, name: str) -> np.ndarray:
    return np.asarray(batch.column(name).fill_null(np.nan).to_numpy(zero_copy_only=False))
