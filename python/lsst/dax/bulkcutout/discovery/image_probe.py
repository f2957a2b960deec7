# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""A look into one image of each band, before anything is cut.

Whether images have what a request names (background models, noise, mask
fractions) is in the files alone.  A request that none of them can fulfil is
refused here, not after a million rows.
"""

from __future__ import annotations

import dataclasses
import itertools
import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from lsst.daf.butler import DatasetRef

from ..errors import CorruptInputError, UserError
from ..extract.background_swap import BackgroundSwap
from ..planes import BACKGROUND_STORED, EXTRA_PLANES
from ..request import CutoutRequest
from .source_images import Coverage, SourceImages

__all__ = ("Probe", "probe_images")

_LOG = logging.getLogger(__name__)

MOST_TRIES = 3
"""How many images of a band are opened, if the first ones are bad."""


@dataclasses.dataclass(frozen=True)
class Probe:
    """What a look into some images has shown."""

    extra_planes: Mapping[str, int] = dataclasses.field(default_factory=dict)
    """Number of planes of noise and mask fractions, of those that are wanted:
    the most of all bands."""

    warnings: tuple[str, ...] = ()
    """What the user should know of it."""


def probe_images(images: SourceImages, request: CutoutRequest, coverage: Sequence[Coverage]) -> Probe:
    """Look into one image of each band, if the request gives a reason.

    Parameters
    ----------
    images
        The images of the source repository.
    request
        What the user asked for.
    coverage
        Patches that have targets, with their datasets.

    Returns
    -------
    probe
        What was found.  A band whose images cannot be read is left to the
        jobs, which say of each row what became of it.

    Raises
    ------
    UserError
        Raised if the image of a band lacks the background model that is asked
        for, or has one that cannot be evaluated.
    """
    wanted = [kind for kind in EXTRA_PLANES if kind in request.planes]
    extra = tuple(wanted)
    if "variance" in request.planes and not {"variance", "weight"} & request.companions.types.keys():
        wanted.append("variance")
    if request.background == BACKGROUND_STORED and not wanted:
        return Probe()
    counts: dict[str, Counter[str]] = {}
    for band in sorted({band for patch in coverage for band in patch.datasets}):
        for ref in itertools.islice(_images(coverage, band), MOST_TRIES):
            try:
                with images.open(ref) as image:
                    BackgroundSwap(image, request.background)
                    counts[band] = Counter(name.partition("/")[0] for name in image.extra_planes)
                    counts[band]["variance"] = "variance" in image.planes
                break
            except (CorruptInputError, OSError) as error:
                _LOG.warning("Band %s: an image cannot be looked into: %s", band, error)
            except UserError as error:
                raise UserError(f"Band {band}, image {images.uri(ref)}: {error}") from error
    warnings = []
    for kind in wanted:
        without = [band for band, found in counts.items() if not found[kind]]
        if without and len(without) == len(counts):
            warnings.append(
                f"Plane {kind!r} is asked for, but the images have none: one was looked into in each of the "
                f"bands {', '.join(without)}."
            )
        elif without:
            warnings.append(
                f"Plane {kind!r} is asked for, but the images in {', '.join(without)} have none, as far as "
                "one of each band tells: it is NaN there."
            )
    most = {kind: max((found[kind] for found in counts.values()), default=0) for kind in extra}
    return Probe(most, tuple(warnings))


def _images(coverage: Sequence[Coverage], band: str) -> Iterator[DatasetRef]:
    return (patch.datasets[band] for patch in coverage if band in patch.datasets)
