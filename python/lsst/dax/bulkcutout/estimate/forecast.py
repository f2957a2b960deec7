# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""What a request will cost, without carrying it out.

The same discovery as for a submission runs in a directory that is deleted
afterwards; then sizes are worked out from what it has found.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from ..campaign import Campaign, Plan, write_atomically
from ..campaign_butler import open_source
from ..cutout_formatter import define_storage_class
from ..discovery.patch_census import PatchCensus
from ..discovery.source_images import Coverage, SourceImages
from ..discovery.tract_geometry import TractGeometry
from ..errors import CorruptInputError, UserError
from ..planning import plan_campaign
from ..request import CutoutRequest, load_request
from ..sphere import corners_of
from ..target_table import read_targets
from .cost import Price, Sample, core_seconds, prices
from .picture import Outline, SkyPicture

__all__ = ("Estimate", "estimate_request")

_LOG = logging.getLogger(__name__)

PICTURE_NAME = "sky.png"
JSON_NAME = "estimate.json"
SAMPLES_TRIED = 5


@dataclasses.dataclass(frozen=True)
class Estimate:
    """What a request would do, and its cost."""

    request_id: str
    """Name of the request."""

    rows: int
    """Rows of the catalog."""

    refused: dict[str, int]
    """Rows that would get no cutout, by status."""

    targets: int
    """Rows that would be cut."""

    fallback: int
    """Targets that are cut from another patch than that of the rule."""

    leaving: int
    """Targets whose box leaves the image of their patch."""

    stitched: int
    """Those of them that images of neighbouring patches complete."""

    rows_by_size: dict[int, int]
    """Number of targets by side of the cutout in pixels."""

    rows_by_band: dict[str, int]
    """Number of targets whose patch has an image, by band."""

    tracts: int
    """Tracts with targets."""

    patches: int
    """Patches with targets: one job each."""

    images: int
    """Images to open, those of neighbours counted for each job."""

    image_bytes: int
    """Size of their files, as far as the repository knows it."""

    images_of_unknown_size: int
    """Number of images whose size it does not know."""

    touched_fraction: float
    """Part of the images' pixels that lies in tiles which are to be read."""

    output: tuple[Price, ...]
    """Bytes of each plane, also of those that were not asked for."""

    product_bytes: int
    """Bytes of the product."""

    intermediate_bytes: int
    """Bytes of the cutout datasets, which stay until the product is
    complete."""

    free_bytes: int
    """Room where the product goes."""

    output_path: str
    """Where that is."""

    core_hours: float
    """Time of processor cores."""

    notes: tuple[str, ...]
    """What these numbers rest on, where something had to be assumed."""

    warnings: tuple[str, ...]
    """What the user should know of catalog and coverage."""

    @property
    def needed_bytes(self) -> int:
        """Free space that is needed."""
        return self.product_bytes + self.intermediate_bytes

    def to_json(self) -> str:
        """Give all numbers.

        Returns
        -------
        text
            JSON.
        """
        return json.dumps(dataclasses.asdict(self) | {"needed_bytes": self.needed_bytes}, indent=1)

    def __str__(self) -> str:
        return _text(self)


def estimate_request(
    request_file: Path, out: Path | None = None, *, progress: Callable[[int], None] = lambda rows: None
) -> Estimate:
    """Work out what a request will cost.

    Parameters
    ----------
    request_file
        The request.
    out
        Directory for a picture of the sky and the numbers as JSON; nothing is
        written if `None`.
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
        plan, coverage = plan_campaign(campaign, request, butler, progress)
        images = SourceImages(butler, request)
        estimate, census = _work_out(request, campaign, plan, coverage, images)
        if out is not None:
            out.mkdir(parents=True, exist_ok=True)
            _draw(out / PICTURE_NAME, campaign, estimate, plan, coverage, images)
            write_atomically(out / JSON_NAME, estimate.to_json() + "\n")
    return estimate


def _work_out(
    request: CutoutRequest,
    campaign: Campaign,
    plan: Plan,
    coverage: Sequence[Coverage],
    images: SourceImages,
) -> tuple[Estimate, PatchCensus]:
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
    output = prices(request.planes, rows_by_size, n_bands=len(plan.bands), sample=sample)
    product = sum(price.bytes for price in output if price.wanted)
    place = Path(request.output)
    while not place.exists():
        place = place.parent
    estimate = Estimate(
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
    return estimate, census


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


def _outline(region: Any) -> np.ndarray:
    return np.stack(corners_of(region), axis=-1)


def _degrees(batch: Any, name: str) -> np.ndarray:
    return np.asarray(batch.column(name).fill_null(np.nan).to_numpy(zero_copy_only=False))


def _text(estimate: Estimate) -> str:
    lines: list[str] = [f"Estimate of {estimate.request_id}; nothing was submitted.", ""]

    def add(label: str, value: str = "", remark: str = "", depth: int = 0) -> None:
        lines.append(f"{'  ' * depth + label:<24}{value:>14}  {remark}".rstrip())

    def share(n: int, total: int = estimate.rows) -> str:
        return f"{100 * n / total:5.1f} %" if total else ""

    add("Rows", f"{estimate.rows:,}")
    add("targets", f"{estimate.targets:,}", share(estimate.targets), 1)
    if estimate.fallback:
        add("fallback", f"{estimate.fallback:,}", "cut from another patch: their own has no image", 2)
    if estimate.leaving:
        add(
            "leave their image",
            f"{estimate.leaving:,}",
            f"{estimate.stitched:,} are completed from a neighbour's",
            2,
        )
    for status, n in estimate.refused.items():
        add(status, f"{n:,}", share(n), 1)
    lines.append("")
    add("Targets with an image")
    for band, n in estimate.rows_by_band.items():
        add(f"in {band}", f"{n:,}", share(n, estimate.targets), 1)
    lines.append("")
    add("Targets by size")
    for size, n in estimate.rows_by_size.items():
        add(f"{size} px", f"{n:,}", "", 1)
    lines.append("")
    add("To read")
    add("tracts", f"{estimate.tracts:,}", "", 1)
    add("patches", f"{estimate.patches:,}", "a job each", 1)
    unknown = estimate.images_of_unknown_size
    add("images", f"{estimate.images:,}", f"{unknown:,} of unknown size" if unknown else "", 1)
    add("files", _bytes(estimate.image_bytes), "", 1)
    add("touched", f"{100 * estimate.touched_fraction:.1f} %", "of the pixels, in whole tiles", 1)
    lines.append("")
    add("To write")
    for price in estimate.output:
        if price.wanted:
            add(price.plane, _bytes(price.bytes), price.remark, 1)
    add("product", _bytes(estimate.product_bytes), "", 1)
    if not all(price.wanted for price in estimate.output):
        add("not asked for:", depth=1)
    for price in estimate.output:
        if not price.wanted:
            add(price.plane, _bytes(price.bytes), price.remark, 2)
    lines.append("")
    add("Core-hours", f"{estimate.core_hours:.2f}")
    enough = "enough" if estimate.free_bytes >= estimate.needed_bytes else "NOT ENOUGH"
    add("Space needed", _bytes(estimate.needed_bytes), "product, and the cutouts that it is packaged from")
    add("Space free", _bytes(estimate.free_bytes), f"{enough}, for {estimate.output_path}")
    for note in estimate.notes:
        lines.append(f"Note: {note}")
    return "\n".join(lines)


def _bytes(n: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if n < 1000:
            return f"{n:.0f} {unit}" if unit == "B" else f"{n:.1f} {unit}"
        n /= 1000
    return f"{n:,.1f} TB"
