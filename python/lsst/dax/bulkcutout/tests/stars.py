# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Stars for photometry: isolated ones to add to a sky, and columns of true
fluxes with the names of Rubin's object tables.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from .layouts import Layout
from .sky import BANDS, Sky, Sources, point_sources, star_flux

__all__ = ("add_isolated_stars", "is_isolated", "photometry_columns")


def add_isolated_stars(
    sky: Sky, layout: Layout, n: int, *, mag_i: tuple[float, float] = (20.0, 23.0), seed: int = 11
) -> Sky:
    """Add stars where a sky is empty.

    Parameters
    ----------
    sky
        The sky.
    layout
        Its images: the stars are in inner regions of their patches.
    n
        Number of stars; fewer are added if there is no room for them.
    mag_i
        Range of their magnitudes in i.
    seed
        For everything random.

    Returns
    -------
    sky
        The sky with those stars besides what it had.
    """
    rng = np.random.default_rng(seed)
    sources = Sources.concatenate(
        [
            sky.sources(layout.tracts[tract], layout.patch(tract, patch).outer, margin=60)
            for tract, patch in layout.images
        ]
    )
    flux = star_flux(rng.uniform(*mag_i, n), rng.random(n))
    i = BANDS.index("i")
    found_ra: list[float] = []
    found_dec: list[float] = []
    for _ in range(40 * n):
        n_found = len(found_ra)
        if n_found == n:
            break
        tract, patch = layout.images[int(rng.integers(len(layout.images)))]
        box = layout.patch(tract, patch).inner
        x, y = rng.uniform(box.x0, box.x1 - 1), rng.uniform(box.y0, box.y1 - 1)
        ra, dec = (float(value) for value in layout.tracts[tract].pixel_to_sky(x, y))
        others_ra = np.concatenate([sources.ra, found_ra])
        others_dec = np.concatenate([sources.dec, found_dec])
        others_flux = np.concatenate([sources.flux[:, i], flux[:n_found, i]])
        if not _near(ra, dec, others_ra, others_dec, others_flux).any():
            found_ra.append(ra % 360.0)
            found_dec.append(dec)
    stars = point_sources(found_ra, found_dec, flux[: len(found_ra)], first_id=1)
    extra = stars if sky.extra is None else Sources.concatenate([sky.extra, stars])
    return dataclasses.replace(sky, extra=extra)


def is_isolated(sources: Sequence[Mapping[str, Any]]) -> list[bool]:
    """Tell which sources have no other one near.

    Parameters
    ----------
    sources
        Rows of `SkyRepository.truth`.

    Returns
    -------
    isolated
        One for each.
    """
    ra = np.array([source["ra"] for source in sources])
    dec = np.array([source["dec"] for source in sources])
    # Itself is near.
    flux = np.array([source["i_flux"] for source in sources])
    return [int(_near(ra[k], dec[k], ra, dec, flux).sum()) == 1 for k in range(len(sources))]


def photometry_columns(
    bands: Sequence[str], sources: Sequence[Mapping[str, Any] | None], isolated: Sequence[bool | None]
) -> dict[str, tuple[pa.Array, pa.Field]]:
    """Make columns for a catalog of targets.

    Parameters
    ----------
    bands
        Bands of the images.
    sources
        For each target the row of `SkyRepository.truth` that it is on; `None`
        for a target on none.
    isolated
        Whether that source has no other near; `None` as in ``sources``.

    Returns
    -------
    columns
        Values and field by name; null where a target is on no source.
    """
    columns = {}
    for band in bands:
        flux = pa.array([source and source[f"{band}_flux"] for source in sources], pa.float64())
        metadata = {"unit": "nJy", "description": f"True flux in {band}; of a galaxy the total."}
        columns[f"{band}_psfFlux"] = (flux, pa.field("", flux.type, metadata=metadata))
    extended = [source and float(source["kind"] != "star") for source in sources]
    columns["refExtendedness"] = (
        pa.array(extended, pa.float32()),
        pa.field("", pa.float32(), metadata={"description": "0 for a star, 1 for a galaxy."}),
    )
    columns["detect_isIsolated"] = (
        pa.array(isolated, pa.bool_()),
        pa.field("", pa.bool_(), metadata={"description": "Whether no other source is near."}),
    )
    return columns


def _near(
    ra: float, dec: float, others_ra: np.ndarray, others_dec: np.ndarray, flux: np.ndarray
) -> np.ndarray:
    """Whether others shine into a place: the brighter, the farther."""
    d_ra = ((others_ra - ra + 180.0) % 360.0 - 180.0) * np.cos(np.radians(dec))
    reach_arcsec = 2.5 + 1.2 * np.log10(np.maximum(flux, 300.0) / 300.0)
    return np.asarray(np.hypot(d_ra, others_dec - dec) * 3600.0 < reach_arcsec)
