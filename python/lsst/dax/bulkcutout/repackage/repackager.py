# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Cutout datasets of patches become the data files of the product.

What belongs into which file follows from the target table alone, so that it
is the same however many quanta have failed.  Memory is bounded by
`BLOCK_BYTES`.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import hashlib
import json
import logging
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from .. import tables
from ..campaign import Campaign, Plan
from ..cutout_dataset import BAND_COLUMNS, CutoutDataset
from ..errors import InternalError
from ..formats import writer_class
from ..formats.layout import WRITER_VERSION, PatchProvenance, ProductLayout
from ..masks import is_same_encoding, reencode_mask
from ..precision import EXACT
from ..quantum_output import QuantumOutput
from ..request import CutoutRequest
from ..stored_rows import ChunkRows, FloatRows
from .piece_rows import Part, PieceRows
from .product_files import Piece, ProductFilePlan
from .row_answers import answer_rows, not_processed, status_rows
from .shared_contents import SharedContents, find_shared

__all__ = ("Repackager",)

_LOG = logging.getLogger(__name__)

BLOCK_BYTES = 64 * 1024 * 1024
"""Pixels that are moved at a time."""


_MOST_OPEN_FILES = 64

type StoredRows = np.ndarray | FloatRows | ChunkRows


class Repackager:
    """Writes data files from cutout datasets.

    Parameters
    ----------
    request
        What the user asked for.
    campaign
        The campaign.
    plan
        Its plan.
    outputs
        State of the quanta by tract and patch.
    shared
        What was found in all of them; if `None` they are opened.
    """

    def __init__(
        self,
        request: CutoutRequest,
        campaign: Campaign,
        plan: Plan,
        outputs: Mapping[tuple[int, int], QuantumOutput],
        shared: SharedContents | None = None,
    ) -> None:
        self._request = request
        self._plan = plan
        self._outputs = outputs
        self._given = shared
        self._tracts = {tract.tract: tract for tract in plan.tracts}
        order = request.partition.order
        self._healpix_order = tables.HEALPIX_ORDER if order is None else order
        self._rows = PieceRows(campaign, self._tracts, order)
        self._datasets: collections.OrderedDict[tuple[int, int], CutoutDataset] = collections.OrderedDict()

    @functools.cached_property
    def shared(self) -> SharedContents:
        """What all files have in common; found when it is first needed."""
        return find_shared(self._outputs.values()) if self._given is None else self._given

    def source_key(self, file: ProductFilePlan) -> str:
        """Identify all that the contents of a file depend on.

        Parameters
        ----------
        file
            The file.

        Returns
        -------
        key
            A checksum: two files with the same key have the same bytes.
        """
        sources = [self._outputs.get((piece.tract, piece.patch)) for piece in file.pieces]
        parts = {
            "request": self._plan.request_fingerprint,
            "bands": self._plan.bands,
            "targets": [self._tracts[tract].sha256 for tract in file.tracts],
            "size": file.size,
            "healpix": file.healpix,
            "pieces": [dataclasses.astuple(piece) for piece in file.pieces],
            "sources": [source.dataset_id if source and source.done else "" for source in sources],
            "mask_planes": [dataclasses.astuple(plane) for plane in self.shared.mask_planes],
            "psf_shape": self.shared.psf_shape,
            "extra_planes": [self.shared.n_noise, self.shared.mask_fractions],
            "writer": WRITER_VERSION,
        }
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def statuses(self, file: ProductFilePlan, *, put_off: str = "") -> Iterator[pa.RecordBatch]:
        """What becomes of each target of a file.

        Parameters
        ----------
        file
            The file.
        put_off
            Why the file is not written now, if it is not.

        Yields
        ------
        rows
            Rows of `tables.status_schema`, in the order of the target table.
        """
        index = 0
        for piece in file.pieces:
            source = None if put_off else self._open(piece)
            reason = put_off or f"The job for {piece.place} did not finish; restart the campaign."
            for rows, part in self._rows.read(file, piece):
                if source is None:
                    answer = not_processed(rows.num_rows, reason)
                else:
                    answer = answer_rows(source, file, piece, part, self._plan.bands)
                n = int(answer.delivered.sum())
                yield status_rows(rows, file, answer, index)
                index += n

    def write(self, file: ProductFilePlan, directory: Path, progress: Callable[[int], None]) -> int:
        """Write a data file.

        Parameters
        ----------
        file
            What goes into it.
        directory
            Directory of the product.
        progress
            Called with the number of rows of each block that was written.

        Returns
        -------
        rows
            Number of cutouts; no file is written if there are none.

        Raises
        ------
        TransientError
            Raised if the disk takes no more.
        """
        selected: list[np.ndarray] = []
        provenance = {}
        for piece in file.pieces:
            source = self._open(piece)
            delivered = np.zeros(piece.stop - piece.start, dtype=bool)
            if source is not None:
                parts = (part for _, part in self._rows.read(file, piece))
                status = np.concatenate([source.read(file.size, "band_status", part) for part in parts])
                delivered = (status == tables.BAND_OK).any(axis=1)
                if delivered.any():
                    provenance[piece.tract, piece.patch] = PatchProvenance(
                        piece.tract,
                        piece.patch,
                        source.inputs,
                        source.backgrounds,
                        source.neighbors,
                        source.wcs_cards,
                        source.units,
                        source.psf_notes,
                        source.companions,
                        # Cutouts of an earlier request may have more.
                        extra_planes=tuple(
                            tuple(name for name in names if name.partition("/")[0] in self._request.planes)
                            for names in source.extra_of_band
                        ),
                    )
            selected.append(delivered)
        n_rows = int(sum(each.sum() for each in selected))
        if not n_rows:
            return 0
        layout = self._layout(file, tuple(provenance.values()))
        writer = writer_class(self._request.formats[0])
        # Of planes that are compressed one comes after the other: they lie in
        # the file in the order in which they are written.
        first, *others = [path for path, column in layout.columns.items() if column.is_compressed] or [""]
        with writer(directory / file.path, layout, n_rows) as product:
            for start, block in self._blocks(file, selected, layout):
                columns = self._columns(block, layout)
                columns |= self._pixels(block, layout, {*layout.columns} - {*others})
                product.write(start, columns)
                progress(len(block.kept))
            for path in others:
                for start, block in self._blocks(file, selected, layout):
                    product.write(start, self._pixels(block, layout, {path}))
        return n_rows

    def close(self) -> None:
        """Close all files."""
        self._rows.close()
        while self._datasets:
            self._datasets.popitem()[1].close()

    def _open(self, piece: Piece) -> CutoutDataset | None:
        """Cutout dataset of a piece, if there is one.  Files of small HEALPix
        pixels have pieces of the same few patches, so some are kept open.
        """
        place = (piece.tract, piece.patch)
        output = self._outputs.get(place)
        if output is None or output.path is None:
            return None
        if place not in self._datasets:
            self._datasets[place] = CutoutDataset(output.path)
        self._datasets.move_to_end(place)
        if len(self._datasets) > _MOST_OPEN_FILES:
            self._datasets.popitem(last=False)[1].close()
        return self._datasets[place]

    def _block_rows(self, layout: ProductLayout) -> int:
        planes = max(1, layout.n_noise, len(layout.mask_fractions))
        return max(1, BLOCK_BYTES // (4 * len(layout.bands) * planes * layout.size**2))

    def _layout(self, file: ProductFilePlan, provenance: tuple[PatchProvenance, ...]) -> ProductLayout:
        schema = self._rows.schema(file.tracts[0])
        request = self._request
        return ProductLayout(
            size=file.size,
            bands=self._plan.bands,
            planes=request.planes,
            psf_shape=self.shared.psf_shape,
            mask_planes=self.shared.mask_planes,
            id_type=schema.field("target_id").type,
            carried=tables.carried_fields(schema),
            n_noise=self.shared.n_noise,
            mask_fractions=self.shared.mask_fractions,
            background=request.background,
            precision=request.precision,
            dataset_type=request.dataset_type,
            skymap=self._plan.skymap,
            request_id=request.request_id,
            survey=request.labels.survey,
            instrument=request.labels.instrument,
            release=request.labels.release,
            provenance=provenance,
            healpix_order=self._healpix_order,
        )

    def _blocks(
        self, file: ProductFilePlan, selected: Sequence[np.ndarray], layout: ProductLayout
    ) -> Iterator[tuple[int, _Block]]:
        """Row of the file where each block begins, and the block."""
        start = 0
        for piece, delivered in zip(file.pieces, selected, strict=True):
            source = self._open(piece)
            if source is None or not delivered.any():
                continue
            offset = 0
            for rows, part in self._rows.read(file, piece, max_rows=self._block_rows(layout)):
                keep = delivered[offset : offset + rows.num_rows]
                offset += rows.num_rows
                if keep.any():
                    block = _Block(source, rows.filter(pa.array(keep)), part, keep)
                    yield start, block
                    start += len(block.kept)

    def _columns(self, block: _Block, layout: ProductLayout) -> dict[str, object]:
        """Values of a block, by dataset of the product, but for pixels."""
        source, rows = block.source, block.rows
        size, n = layout.size, len(block.kept)
        read = functools.partial(_read_kept, source, size, block.part, block.keep)
        if not np.array_equal(read("row"), rows.column("row").to_numpy()):
            raise InternalError(
                f"The cutout dataset of tract {source.tract}, patch {source.patch} is not of these targets."
            )
        x, y, x0, y0 = (read(name) for name in ("x", "y", "x0", "y0"))
        # A delivered target has an image, and so a projection.
        assert source.wcs is not None
        terms = source.wcs.tangent_terms(rows.column("ra").to_numpy(), rows.column("dec").to_numpy())
        scale = np.sqrt(abs(np.linalg.det(terms.cd))) * 3600.0
        n_bands = len(layout.bands)
        columns: dict[str, object] = {
            "catalog/row": rows.column("row").to_numpy(),
            "catalog/object_id": rows.column("target_id"),
            "catalog/ra": rows.column("ra").to_numpy(),
            "catalog/dec": rows.column("dec").to_numpy(),
            "catalog/tract": np.full(n, source.tract, dtype=np.int32),
            "catalog/patch": np.full(n, source.patch, dtype=np.int32),
            "catalog/fallback": rows.column("fallback").to_numpy(zero_copy_only=False),
            "catalog/x": x,
            "catalog/y": y,
            "catalog/x_cutout": x - x0,
            "catalog/y_cutout": y - y0,
            "images/pixel_scale": np.repeat(scale[:, np.newaxis], n_bands, axis=1).astype(np.float32),
            "images/band_present": read("band_status") != tables.BAND_NO_DATASET,
            "images/psf_cell": read("psf_cell"),
            "wcs/crval": terms.crval,
            "wcs/crpix": terms.crpix + 1.0 - np.stack([x0, y0], axis=1),
            "wcs/cd": terms.cd,
            "wcs/exact": np.full(n, not source.wcs.cards),
            **{f"images/{name}": read(name) for name in BAND_COLUMNS},
        }
        for field in layout.carried:
            columns[f"carried/{field.name}"] = rows.column(tables.CARRIED_PREFIX + field.name)
        if layout.precision != EXACT:
            columns |= {"images/flux_step": read("image_step"), "images/variance_step": read("variance_step")}
        return columns

    def _pixels(self, block: _Block, layout: ProductLayout, wanted: Collection[str]) -> dict[str, StoredRows]:
        """Pixels of a block, by dataset of the product: what can be moved as
        it is, else arrays.
        """
        source = block.source
        moved = functools.partial(source.rows, layout.size, rows=block.kept)
        there = {*wanted} & {*layout.columns}
        pixels: dict[str, StoredRows] = {}
        for plane, path in (("image", "images/flux"), ("variance", "images/variance")):
            if path in there:
                pixels[path] = moved(plane)
        if "images/mask" in there:
            pixels["images/mask"] = moved("mask")
            if not is_same_encoding(source.mask_planes, self.shared.mask_planes):
                values = np.asarray(pixels["images/mask"])
                pixels["images/mask"] = reencode_mask(values, source.mask_planes, self.shared.mask_planes)
        for kind, names in (
            ("noise", tuple(map(str, range(layout.n_noise)))),
            ("mask_fraction", layout.mask_fractions),
        ):
            if (path := f"images/{kind}") in there:
                pixels[path] = _spread(moved(kind), source.extra_planes[kind], names)
        if layout.psf_shape is not None and "images/psf" in there:
            pixels["images/psf"] = _pad_kernels(moved("psf"), layout.psf_shape)
        return pixels


@dataclasses.dataclass(frozen=True)
class _Block:
    """Delivered targets of one patch that follow on each other in a file."""

    source: CutoutDataset
    """Where they are."""

    rows: pa.RecordBatch
    """Their rows of the target table."""

    part: Part
    """Some targets of the patch."""

    keep: np.ndarray
    """Which of them are these."""

    @functools.cached_property
    def kept(self) -> np.ndarray:
        """Their numbers in the cutout dataset."""
        numbers = self.part
        if isinstance(numbers, slice):
            numbers = np.arange(numbers.start, numbers.stop)
        kept: np.ndarray = numbers[self.keep]
        return kept


def _read_kept(source: CutoutDataset, size: int, part: Part, keep: np.ndarray, name: str) -> np.ndarray:
    values = source.read(size, name, part)
    return values if keep.all() else values[keep]


def _spread[R: StoredRows](stored: R, names: Sequence[str], wanted: Sequence[str]) -> R | np.ndarray:
    """Bring sets of planes to those that are wanted, by name."""
    if tuple(names) == tuple(wanted):
        return stored
    planes = np.asarray(stored)
    shape = (*planes.shape[:2], len(wanted), *planes.shape[3:])
    spread = np.full(shape, np.nan, dtype=planes.dtype)
    for number, name in enumerate(names):
        spread[:, :, wanted.index(name)] = planes[:, :, number]
    return spread


def _pad_kernels[R: StoredRows](stored: R, shape: tuple[int, int]) -> R | np.ndarray:
    """Bring kernels to a larger shape with their centre at [ky//2, kx//2]."""
    ky, kx = stored.shape[2:]
    if (ky, kx) == shape:
        return stored
    kernels = np.asarray(stored)
    padded = np.zeros((*kernels.shape[:2], *shape), dtype=kernels.dtype)
    y0, x0 = shape[0] // 2 - ky // 2, shape[1] // 2 - kx // 2
    padded[:, :, y0 : y0 + ky, x0 : x0 + kx] = kernels
    padded[np.isnan(kernels).any(axis=(2, 3))] = np.nan
    return padded
