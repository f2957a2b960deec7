# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""What a campaign that has been planned will cost."""

from __future__ import annotations

import logging
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from ..campaign import Campaign, Plan
from ..discovery.patch_census import PatchCensus
from ..discovery.source_images import Coverage, SourceImages
from ..discovery.tract_geometry import TractGeometry
from ..errors import CorruptInputError, UserError
from ..request import CutoutRequest
from ..target_table import read_targets
from .cost import Sample, core_seconds, prices
from .numbers import Estimate

__all__ = ("work_out",)

_LOG = logging.getLogger(__name__)

SAMPLES_TRIED = 5


def work_out(
    request: CutoutRequest,
    campaign: Campaign,
    plan: Plan,
    coverage: Sequence[Coverage],
    images: SourceImages,
) -> Estimate:
    """Work out what a campaign will cost, from its plan.

    Parameters
    ----------
    request
        Its request.
    campaign, plan
        The campaign, which has been planned.
    coverage
        The patches with targets, and their datasets.
    images
        The images that these come from.

    Returns
    -------
    estimate
        The numbers.
    """
    notes: list[str] = []
    sample = _sample(coverage, images)
    if coverage and sample.is_assumed:
        notes.append(
            f"No image could be opened; tiles of {sample.tile_shape[0]} px and PSF kernels of "
            f"{sample.psf_shape[0]} px are assumed."
        )
    census = PatchCensus(TractGeometry(images), sample.tile_shape)
    by_patch = {(patch.tract, patch.patch): patch for patch in coverage}
    rows_by_band: Counter[str] = Counter()
    for tract in plan.tracts:
        for targets in read_targets(campaign.targets / tract.path, columns=PatchCensus.COLUMNS):
            patch = by_patch[tract.tract, targets.column("patch")[0].as_py()]
            census.add(patch, targets)
            rows_by_band.update(dict.fromkeys(patch.datasets, targets.num_rows))
    if census.unknown:
        notes.append(
            f"Of {census.unknown} targets it cannot be told whether their box leaves the image, nor what "
            "part of it they touch: no image of their tract could be opened."
        )
    refs = [ref for patch in coverage for ref in (*patch.datasets.values(), *patch.neighbors.values())]
    files = {ref.id: ref for patch in coverage for ref in patch.all_companions}
    sizes = images.file_sizes([*refs, *files.values()])
    rows_by_size: Counter[int] = Counter()
    for tract in plan.tracts:
        rows_by_size.update(tract.rows_by_size)
    output = prices(
        request.planes, rows_by_size, n_bands=len(plan.bands), sample=sample, precision=request.precision
    )
    product = sum(price.bytes for price in output if price.wanted)
    place = Path(request.output)
    while not place.exists():
        place = place.parent
    return Estimate(
        request_id=request.request_id,
        rows=plan.catalog_rows,
        refused=plan.refused,
        targets=plan.targets,
        fallback=plan.fallback,
        leaving=census.leaving,
        stitched=census.stitched,
        rows_by_size=dict(sorted(rows_by_size.items())),
        rows_by_band={band: rows_by_band[band] for band in plan.bands},
        tracts=len(plan.tracts),
        patches=len(coverage),
        images=len(refs),
        image_bytes=sum(sizes.get(ref.id, 0) for ref in (*refs, *files.values())),
        images_of_unknown_size=sum(ref.id not in sizes for ref in refs),
        touched_fraction=census.touched_fraction,
        output=output,
        product_bytes=product,
        intermediate_bytes=product,
        free_bytes=shutil.disk_usage(place).free,
        output_path=str(request.output),
        core_hours=core_seconds(
            quanta=len(coverage),
            images=len(refs),
            read_pixels=census.touched_pixels,
            n_planes=len({"image", "mask", *request.planes} - {"psf"}),
            written_bytes=product,
        )
        / 3600.0,
        notes=tuple(notes),
        warnings=plan.warnings,
    )


def _sample(coverage: Sequence[Coverage], images: SourceImages) -> Sample:
    """What one image tells of all."""
    found = [
        (ref, patch.companions.get("psf", {}).get((patch.patch, band)))
        for patch in coverage[:SAMPLES_TRIED]
        for band, ref in patch.datasets.items()
    ]
    # One that has a PSF tells more.
    for ref, psf in sorted(found, key=lambda pair: pair[1] is None)[:SAMPLES_TRIED]:
        try:
            with images.open(ref, psf=psf) as image:
                return Sample(
                    is_assumed=False,
                    tile_shape=image.tile_shape,
                    psf_shape=image.psf_shape if image.has_psf else (0, 0),
                    n_noise=sum(name.startswith("noise/") for name in image.extra_planes),
                    n_fractions=sum(name.startswith("mask_fraction/") for name in image.extra_planes),
                )
        except (CorruptInputError, UserError, OSError) as error:
            _LOG.info("Image %s cannot be opened: %s", ref, error)
    return Sample()
