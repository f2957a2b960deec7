# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Where the images of a tract are in its pixels, and how large these are.

The formula of a rings map tells it.  On other maps one image of each tract is
opened for its projection, which the recorded regions of the patches are then
brought to pixels with.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import logging
from typing import TYPE_CHECKING, Any

import numpy as np

from ..boxes import Box
from ..errors import CorruptInputError, TransientError, UserError
from ..sphere import corners_of

if TYPE_CHECKING:
    from ..skymap.rings import RingsSkyMap
    from ..wcs import Wcs
    from .source_images import SourceImages

__all__ = ("TractGeometry",)

_LOG = logging.getLogger(__name__)

MOST_TRIED = 20
"""Images of a tract that are tried before it is given up."""

EDGE_TOLERANCE_PIXELS = 0.01
"""How far a recorded region may reach into a pixel that it does not hold."""


class TractGeometry:
    """What is known of the tracts of a sky map before images are read.

    Parameters
    ----------
    images
        The images on it.
    """

    def __init__(self, images: SourceImages) -> None:
        self._images = images
        self._known: dict[int, _Tract] = {}

    def pixel_scale_arcsec(self, tract: int) -> float | None:
        """Tell how large pixels are.

        Parameters
        ----------
        tract
            Tract identifier.

        Returns
        -------
        scale
            Side of a pixel at the reference pixel, arcsec; `None` if no image
            of the tract can be used to tell.

        Raises
        ------
        TransientError
            Raised if images cannot be read for now.
        """
        if (rings := self._images.rings_map(tract)) is not None:
            return rings.pixel_scale_arcsec
        wcs = self._tract(tract).wcs
        return None if wcs is None else float(wcs.pixel_scale_arcsec)

    def pixels(self, tract: int, ra: np.ndarray, dec: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Find positions in a tract.

        Parameters
        ----------
        tract
            Tract identifier.
        ra, dec
            ICRS degrees.

        Returns
        -------
        x, y
            Zero-based tract pixels; NaN where no image tells.
        """
        rings = self._images.rings_map(tract)
        wcs: Wcs | None = self._tract(tract).wcs if rings is None else rings.wcs(tract)
        if wcs is None:
            return np.full(len(ra), np.nan), np.full(len(ra), np.nan)
        x, y = wcs.sky_to_pixel(ra, dec)
        return x, y

    def boxes(self, tract: int) -> dict[int, Box]:
        """Tell where the images of a tract are.

        Parameters
        ----------
        tract
            Tract identifier.

        Returns
        -------
        boxes
            Tract pixels of the image of each patch; none where no image
            tells.
        """
        if (rings := self._images.rings_map(tract)) is not None:
            return _rings_boxes(rings)
        return self._tract(tract).boxes

    def _tract(self, tract: int) -> _Tract:
        if tract not in self._known:
            wcs = self._projection(tract)
            regions = {} if wcs is None else self._images.patch_regions(tract)
            boxes = {patch: wcs and _pixel_box(wcs, region) for patch, region in sorted(regions.items())}
            self._known[tract] = _Tract(wcs, {patch: box for patch, box in boxes.items() if box})
        return self._known[tract]

    def _projection(self, tract: int) -> Wcs | None:
        """Projection of the first image that can be opened."""
        problem: Exception | None = None
        for _, datasets in itertools.islice(sorted(self._images.datasets([tract]).items()), MOST_TRIED):
            for _, ref in sorted(datasets.items()):
                try:
                    with self._images.open(ref) as image:
                        return image.wcs
                except (CorruptInputError, UserError) as error:
                    _LOG.warning("An image of tract %d cannot be used: %s", tract, error)
                except OSError as error:
                    problem = error
        if problem is not None:
            raise TransientError(
                f"No image of tract {tract} can be read, of which one is needed for its pixels: {problem}"
            ) from problem
        return None


@dataclasses.dataclass(frozen=True)
class _Tract:
    """A tract of a map without a formula."""

    wcs: Wcs | None
    """Projection; `None` if no image tells."""

    boxes: dict[int, Box]
    """Tract pixels of the image of each patch."""


@functools.lru_cache(maxsize=4)
def _rings_boxes(rings: RingsSkyMap) -> dict[int, Box]:
    return {patch: rings.patch_outer_box(patch) for patch in range(rings.n_patches**2)}


def _pixel_box(wcs: Wcs, region: Any) -> Box | None:
    """Pixels within a polygon, whose corners are outer edges of pixels."""
    x, y = wcs.sky_to_pixel(*corners_of(region))
    if not np.isfinite([x, y]).all():
        return None
    y0, x0 = (int(np.floor(v.min() + 0.5 + EDGE_TOLERANCE_PIXELS)) for v in (y, x))
    y1, x1 = (int(np.ceil(v.max() + 0.5 - EDGE_TOLERANCE_PIXELS)) for v in (y, x))
    return Box(y0=y0, y1=y1, x0=x0, x1=x1)
