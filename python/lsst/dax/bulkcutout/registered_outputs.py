# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Cutout datasets that an earlier campaign has left in a repository, and
whether this one can use them in place of its own.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from lsst.daf.butler import Butler, DatasetRef

from .campaign import Campaign, Plan
from .cutout_dataset import CutoutDataset
from .discovery.source_images import Coverage
from .errors import CorruptInputError
from .quantum_output import QuantumOutput
from .readers.companions import describe_companions
from .request import CutoutRequest
from .tables import NeighborInput
from .target_table import read_targets

__all__ = ("RegisteredOutputs",)

PLACE_TOLERANCE_PIXELS = 1e-6


class RegisteredOutputs:
    """The registered cutout datasets that a campaign can use.

    Parameters
    ----------
    butler
        The source repository.
    campaign, plan
        The campaign and its plan.
    request
        Planes, background, precision and companions that are wanted.
    """

    def __init__(self, butler: Butler, campaign: Campaign, plan: Plan, request: CutoutRequest) -> None:
        self._butler = butler
        self._bands = plan.bands
        self._targets = {tract.tract: campaign.targets / tract.path for tract in plan.tracts}
        self._planes = frozenset(request.planes)
        self._background = request.background
        self._precision = request.precision
        self._mask_codes = request.companions.mask_codes
        self.used: list[QuantumOutput] = []
        """Those that were found to be usable."""

    def use(self, patch: Coverage, ref: DatasetRef) -> bool:
        """Take a dataset, if it is what a quantum would make.

        Parameters
        ----------
        patch
            The patch, with the images that the quantum would cut.
        ref
            The dataset.

        Returns
        -------
        used
            Whether it is there and of the same images, companions, bands and
            targets, and has the planes and the background.
        """
        uri = self._butler.getURI(ref)
        if not uri.isLocal or not self.fits(Path(uri.ospath), patch):
            return False
        self.used.append(
            QuantumOutput(
                tract=patch.tract,
                patch=patch.patch,
                done=True,
                path=Path(uri.ospath),
                dataset_id=str(ref.id),
                run=ref.run,
                inputs={
                    str(image.id): self._butler.getURI(image).ospath
                    for image in (
                        *patch.datasets.values(),
                        *patch.neighbors.values(),
                        *patch.all_companions,
                    )
                },
            )
        )
        return True

    def fits(self, path: Path, patch: Coverage) -> bool:
        """Tell whether a file is what a quantum would make.

        Parameters
        ----------
        path
            A cutout dataset.
        patch
            The patch, with the images that the quantum would cut.

        Returns
        -------
        fits
            Whether it is there and of the same images, companions, bands and
            targets, and has the planes and the background.
        """
        inputs = [str(patch.datasets[band].id) if band in patch.datasets else "" for band in self._bands]
        neighbors = [NeighborInput(*which, str(ref.id)) for which, ref in sorted(patch.neighbors.items())]
        try:
            with CutoutDataset(path) as dataset:
                return (
                    dataset.bands == self._bands
                    and dataset.inputs == tuple(inputs)
                    and dataset.neighbors == tuple(neighbors)
                    and dataset.background == self._background
                    and dataset.precision == self._precision
                    and json.loads(dataset.companions or "{}") == self._companions(patch)
                    and self._has_targets(dataset, patch)
                )
        except (CorruptInputError, FileNotFoundError):
            # Known of, but damaged or not stored.
            return False

    def _companions(self, patch: Coverage) -> dict[str, dict[str, dict[str, object]]]:
        """What a quantum would say of the companions of its images."""
        images = {(patch.patch, band): ref for band, ref in patch.datasets.items()} | patch.neighbors
        found = {
            str(image.id): describe_companions(
                {kind: str(refs[place].id) for kind, refs in patch.companions.items() if place in refs},
                self._mask_codes,
            )
            for place, image in images.items()
        }
        return {image: kinds for image, kinds in found.items() if kinds}

    def _has_targets(self, dataset: CutoutDataset, patch: Coverage) -> bool:
        # Without a projection, where all images are damaged, such a patch is
        # worth another try.
        if (wcs := dataset.wcs) is None:
            return False
        seen: dict[int, int] = {}
        for batch in read_targets(self._targets[patch.tract], patch.patch):
            sizes = batch.column("size_pixels").to_numpy()
            x, y = wcs.sky_to_pixel(batch.column("ra").to_numpy(), batch.column("dec").to_numpy())
            for size in np.unique(sizes).tolist():
                if not self._planes <= dataset.planes_of(size):
                    return False
                mine = sizes == size
                start = seen.get(size, 0)
                seen[size] = start + int(mine.sum())
                part = slice(start, seen[size])
                if not np.array_equal(dataset.read(size, "row", part), batch.column("row").to_numpy()[mine]):
                    return False
                for name, values in (("x", x), ("y", y)):
                    # Not even equal where the projection does not reach.
                    if not (
                        abs(dataset.read(size, name, part) - values[mine]) < PLACE_TOLERANCE_PIXELS
                    ).all():
                        return False
        return all(dataset.count(size) == n for size, n in seen.items())
