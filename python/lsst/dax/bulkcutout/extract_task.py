# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""The pipeline task: all targets of one patch, out of all its images."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from lsst.daf.butler import DataCoordinate
from lsst.pipe.base import (
    InputQuantizedConnection,
    InvalidQuantumError,
    OutputQuantizedConnection,
    PipelineTask,
    QuantumContext,
)
from lsst.resources import ResourcePath
from lsst.sphgeom import ConvexPolygon

from .campaign import Campaign, Plan
from .cutout_formatter import CutoutStream
from .errors import CorruptInputError, InternalError, UserError
from .extract.patch_cut import NeighborImage, PatchCut
from .extract_connections import COMPANION_CONNECTIONS, ExtractCutoutsConfig
from .readers import Companions, ImageReader, open_image
from .readers.companions import describe_companions
from .sphere import corners_of
from .tables import NeighborInput
from .target_table import sha256_of

__all__ = ("CancelledError", "ExtractCutoutsConfig", "ExtractCutoutsTask", "SourceImage")

T = TypeVar("T")

READ_TRIES = 3
RETRY_WAIT_S = 2.0


@dataclasses.dataclass(frozen=True)
class SourceImage:
    """One input image."""

    band: str
    """Band of the image."""

    dataset_id: str
    """Identifier (UUID) of the dataset."""

    uri: ResourcePath
    """Where the file is."""

    neighbor: int | None = None
    """Patch identifier, if it is another patch than the targets'."""

    corners: tuple[np.ndarray, np.ndarray] | None = None
    """Right ascensions and declinations of the corners of that patch, ICRS
    degrees; `None` if they are not known."""

    companions: Mapping[str, tuple[str, ResourcePath]] = dataclasses.field(default_factory=dict)
    """Identifier and file of what belongs to the image, by kind."""


class CancelledError(InvalidQuantumError):
    """The campaign was cancelled: the job ends, with all its quanta."""

    EXIT_CODE = 2
    """The status that BPS does not try again."""


class ExtractCutoutsTask(PipelineTask):
    """Cuts all targets of a patch out of all its images."""

    ConfigClass = ExtractCutoutsConfig
    _DefaultName = "extractCutouts"
    config: ExtractCutoutsConfig

    def runQuantum(  # noqa: N802
        self,
        butlerQC: QuantumContext,
        inputRefs: InputQuantizedConnection,
        outputRefs: OutputQuantizedConnection,
    ) -> None:
        """Cut the targets of one quantum.

        Parameters
        ----------
        butlerQC
            Access to the quantum's datasets.
        inputRefs
            The images.
        outputRefs
            The cutout dataset.

        Raises
        ------
        CancelledError
            Raised if the campaign was cancelled.
        """
        root = Path(ResourcePath(self.config.plan).ospath).parent
        if Campaign(root).cancelled.exists():
            raise CancelledError(f"Campaign {root} was cancelled.")
        data_id = butlerQC.quantum.dataId
        assert data_id is not None
        companions: dict[tuple[int, str], dict[str, tuple[str, ResourcePath]]] = {}
        for kind in self.config.companions:
            for handle in butlerQC.get(getattr(inputRefs, COMPANION_CONNECTIONS[kind])):
                where = int(handle.ref.dataId["patch"]), str(handle.ref.dataId["band"])
                uri = self._retry(functools.partial(handle.butler.getURI, handle.ref))
                companions.setdefault(where, {})[kind] = str(handle.ref.id), uri
        images = []
        for handle in butlerQC.get(inputRefs.images):
            ref, is_home = handle.ref, handle.ref.dataId["patch"] == data_id["patch"]
            images.append(
                SourceImage(
                    band=str(ref.dataId["band"]),
                    dataset_id=str(ref.id),
                    uri=self._retry(functools.partial(handle.butler.getURI, ref)),
                    neighbor=None if is_home else int(ref.dataId["patch"]),
                    corners=None if is_home else _corners(ref.dataId),
                    companions=companions.get((int(ref.dataId["patch"]), str(ref.dataId["band"])), {}),
                )
            )
        stream = CutoutStream(
            functools.partial(self.extract, images, tract=int(data_id["tract"]), patch=int(data_id["patch"]))
        )
        try:
            butlerQC.put(stream, outputRefs.cutouts)
        except Exception:
            if stream.error is not None:
                raise stream.error from None
            raise

    def extract(self, images: Sequence[SourceImage], path: Path, *, tract: int, patch: int) -> None:
        """Write the cutout dataset of a patch.

        Parameters
        ----------
        images
            Images of the patch, and of neighbours.
        path
            File to write.
        tract, patch
            The patch.

        Raises
        ------
        InternalError
            Raised if the targets are not those that the graph was built for,
            or an image's projection contradicts discovery.
        OSError
            Raised if a file cannot be read for a reason that is not its own
            damage, after some tries.
        """
        started = time.monotonic()
        plan, targets = self._plan(tract)
        with contextlib.ExitStack() as stack:
            readers: dict[str, ImageReader] = {}
            unusable: list[str] = []
            neighbors: list[NeighborImage] = []
            for image in sorted(images, key=lambda image: image.band):
                reader = self._open(image, stack, unusable)
                if image.neighbor is not None:
                    source = NeighborInput(image.neighbor, image.band, image.dataset_id)
                    neighbors.append(NeighborImage(source, reader, image.corners))
                elif reader is not None:
                    readers[image.band] = reader
            patch_cut = PatchCut(
                plan.bands,
                {image.band: image.dataset_id for image in images if image.neighbor is None},
                readers,
                planes=tuple(self.config.planes),
                memory_bytes=self.config.max_memory_mb * 1024 * 1024 // 2,
                retry=self._retry,
                neighbors=neighbors,
                background=self.config.background,
                precision=self.config.precision,
                unusable=unusable,
                companions={image.dataset_id: self._describe(image) for image in images if image.companions},
                threads=self.config.threads,
            )
            rows = patch_cut.write(path, targets, tract=tract, patch=patch)
        self.metadata["rows"] = rows
        self.metadata["bytes"] = path.stat().st_size
        self.metadata["seconds"] = time.monotonic() - started
        self.metadata["damage"] = patch_cut.damage
        for message in patch_cut.damage:
            self.log.warning("%s", message)
        self.metadata["counts"] = dict(patch_cut.counts)
        # For programs that collect logs: one line, the same keys for ever.
        told = {name: self.metadata[name] for name in ("rows", "bytes", "seconds")}
        told["write_bytes_per_second"] = patch_cut.bytes_per_second
        line = {"event": "quantum", "request": self.config.request_id, "tract": tract, "patch": patch, **told}
        self.log.info("%s", json.dumps(line))

    def _plan(self, tract: int) -> tuple[Plan, Path]:
        uri = ResourcePath(self.config.plan)
        text = self._retry(uri.read)
        if sha256_of(text) != self.config.plan_sha256:
            raise InternalError(f"Plan {uri} is not the one that this graph was built for.")
        plan = Plan.model_validate_json(text)
        (entry,) = (entry for entry in plan.tracts if entry.tract == tract)
        path = Path(uri.ospath).parent / "targets" / entry.path
        if self._retry(path.stat).st_size != entry.bytes:
            raise InternalError(f"Target file {path} is not the one that this graph was built for.")
        return plan, path

    def _open(
        self, image: SourceImage, stack: contextlib.ExitStack, unusable: list[str]
    ) -> ImageReader | None:
        """Open an image; `None` if it is proven bad, or cannot be used, which
        is then said.
        """

        def attempt() -> ImageReader:
            # What is in an object store is read in ranges, not fetched whole.
            location = image.uri.ospath if image.uri.isLocal else image.uri
            paths = {kind: uri.ospath if uri.isLocal else uri for kind, (_, uri) in image.companions.items()}
            if not paths:
                return stack.enter_context(open_image(location))
            companions = Companions(paths, dict(self.config.mask_codes) or None)
            return stack.enter_context(open_image(location, companions=companions))

        whose = "" if image.neighbor is None else f" of patch {image.neighbor}"
        try:
            return self._retry(attempt)
        except CorruptInputError as error:
            self.log.warning("Band %s%s is lost: %s", image.band, whose, error)
        except UserError as error:
            self.log.warning("Band %s%s cannot be used: %s", image.band, whose, error)
            unusable.append(f"Band {image.band}{whose}: {error}")
        return None

    def _describe(self, image: SourceImage) -> dict[str, dict[str, Any]]:
        """Companions of an image, for those who read the product."""
        uuids = {kind: uuid for kind, (uuid, _) in image.companions.items()}
        return describe_companions(uuids, self.config.mask_codes)

    def _retry(self, action: Callable[[], T]) -> T:
        """Do something that storage can spoil, and again if it does."""
        for attempt in range(1, READ_TRIES + 1):
            try:
                return action()
            except CorruptInputError:
                raise
            except OSError as error:
                if attempt == READ_TRIES:
                    raise
                self.log.warning("Try %d of %d failed: %s", attempt, READ_TRIES, error)
                time.sleep(RETRY_WAIT_S * attempt)
        raise AssertionError("unreachable")


def _corners(data_id: DataCoordinate) -> tuple[np.ndarray, np.ndarray] | None:
    """Corners of a patch, as its record has them; ICRS degrees."""
    region = data_id.region if data_id.hasRecords() else None
    return corners_of(region) if isinstance(region, ConvexPolygon) else None
