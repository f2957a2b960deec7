# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""The numbers of an estimate, as JSON and as a table."""

from __future__ import annotations

import dataclasses
import json

from .cost import Price

__all__ = ("Estimate", "bytes_text")


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

    refusals: tuple[str, ...] | None = None
    """What of it the policy of the site refuses; `None` if no policy was
    asked."""

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
    add("patches", f"{estimate.patches:,}", "each cut by one job", 1)
    unknown = estimate.images_of_unknown_size
    add("images", f"{estimate.images:,}", f"{unknown:,} of unknown size" if unknown else "", 1)
    add("files", bytes_text(estimate.image_bytes), "", 1)
    add("touched", f"{100 * estimate.touched_fraction:.1f} %", "of the pixels, in whole tiles", 1)
    lines.append("")
    add("To write")
    for price in estimate.output:
        if price.wanted:
            add(price.plane, bytes_text(price.bytes), price.remark, 1)
    add("product", bytes_text(estimate.product_bytes), "", 1)
    if not all(price.wanted for price in estimate.output):
        add("not asked for:", depth=1)
    for price in estimate.output:
        if not price.wanted:
            add(price.plane, bytes_text(price.bytes), price.remark, 2)
    lines.append("")
    add("Core-hours", f"{estimate.core_hours:.2f}")
    enough = "enough" if estimate.free_bytes >= estimate.needed_bytes else "NOT ENOUGH"
    add(
        "Space needed", bytes_text(estimate.needed_bytes), "product, and the cutouts that it is packaged from"
    )
    add("Space free", bytes_text(estimate.free_bytes), f"{enough}, for {estimate.output_path}")
    for note in estimate.notes:
        lines.append(f"Note: {note}")
    if estimate.refusals is not None:
        lines.append("")
        add("Site policy", "would refuse it:" if estimate.refusals else "allows it")
        lines += [f"  {refusal}" for refusal in estimate.refusals]
    return "\n".join(lines)


def bytes_text(n: float) -> str:
    """Write a number of bytes for people.

    Parameters
    ----------
    n
        The number.

    Returns
    -------
    text
        At most four digits and a unit of powers of 1000.
    """
    for unit in ("B", "kB", "MB", "GB"):
        if n < 1000:
            return f"{n:.0f} {unit}" if unit == "B" else f"{n:.1f} {unit}"
        n /= 1000
    return f"{n:,.1f} TB"
