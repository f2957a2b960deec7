# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Limits of a site on what a campaign costs."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from ..campaign import Campaign
from ..estimate.numbers import Estimate, bytes_text
from .site_policy import SitePolicy

__all__ = ("broken_limits", "has_limits")


def has_limits(policy: SitePolicy) -> bool:
    """Tell whether a policy needs an estimate.

    Parameters
    ----------
    policy
        What the site allows.

    Returns
    -------
    needed
        Whether anything in it is about the cost of a campaign.
    """
    return any(
        limit is not None
        for limit in (
            policy.max_rows,
            policy.max_quanta,
            policy.max_read_bytes,
            policy.max_product_bytes,
            policy.max_packaging_bytes,
            policy.free_space_margin,
            policy.min_free_bytes,
        )
    )


def broken_limits(policy: SitePolicy, estimate: Estimate, campaign: Campaign) -> Iterator[str]:
    """Say which limits a campaign would go beyond.

    Parameters
    ----------
    policy
        What the site allows.
    estimate
        What the campaign costs.
    campaign
        The campaign.  What it has written already needs no more space.

    Yields
    ------
    refusal
        The number, the limit, and what would help.
    """
    if policy.max_rows is not None and estimate.rows > policy.max_rows:
        yield f"{estimate.rows:,} rows: at most {policy.max_rows:,}; split the catalog"
    if policy.max_quanta is not None and estimate.patches > policy.max_quanta:
        yield (
            f"{estimate.patches:,} quanta: at most {policy.max_quanta:,}; split the catalog by areas of the "
            "sky"
        )
    if policy.max_read_bytes is not None and estimate.image_bytes > policy.max_read_bytes:
        yield (
            f"{bytes_text(estimate.image_bytes)} of images to read: at most "
            f"{bytes_text(policy.max_read_bytes)}; split the catalog by areas of the sky, or ask for "
            "fewer bands"
        )
    smaller = "ask for smaller cutouts or fewer planes or bands, or split the catalog"
    if policy.max_product_bytes is not None and estimate.product_bytes > policy.max_product_bytes:
        yield (
            f"{bytes_text(estimate.product_bytes)} of product: at most "
            f"{bytes_text(policy.max_product_bytes)}; {smaller}"
        )
    if policy.max_packaging_bytes is not None and estimate.product_bytes > policy.max_packaging_bytes:
        yield (
            f"{bytes_text(estimate.product_bytes)} to be packaged by one node: at most "
            f"{bytes_text(policy.max_packaging_bytes)}; {smaller}"
        )
    yield from _lack_of_space(policy, estimate, campaign)


def _lack_of_space(policy: SitePolicy, estimate: Estimate, campaign: Campaign) -> Iterator[str]:
    if policy.free_space_margin is None and policy.min_free_bytes is None:
        return
    needed: Counter[int] = Counter()
    places: dict[int, Path] = {}
    for directory, written, n_bytes in (
        (Path(estimate.output_path), Path(estimate.output_path), estimate.product_bytes),
        (campaign.root, campaign.datastore, estimate.intermediate_bytes),
    ):
        place = _existing(directory)
        # Both may be on one disk, or not.
        device = place.stat().st_dev
        places.setdefault(device, place)
        needed[device] += max(0, n_bytes - _bytes_in(written))
    for device, n_bytes in needed.items():
        free = shutil.disk_usage(places[device]).free
        margin = round(n_bytes * (policy.free_space_margin or 0) / 100)
        if free < n_bytes + margin + (policy.min_free_bytes or 0):
            yield (
                f"{bytes_text(free)} are free at {places[device]}: needed are {bytes_text(n_bytes)} for "
                f"intermediates and product, {bytes_text(margin)} as a margin and "
                f"{bytes_text(policy.min_free_bytes or 0)} to be left; name another place with output and "
                "--campaign, or `bulkcutout purge` old campaigns"
            )


def _existing(path: Path) -> Path:
    while not path.exists():
        path = path.parent
    return path


def _bytes_in(directory: Path) -> int:
    return sum(
        os.lstat(os.path.join(parent, name)).st_size
        for parent, _, names in os.walk(directory)
        for name in names
    )
