# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Which targets go into which file of the product.

The answer follows from request and target table alone: it is the same however
many quanta have failed.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pyarrow as pa

from ..campaign import Campaign, Plan
from ..errors import UserError
from ..formats import FORMATS
from ..formats.healpix import nested_pixel
from ..planes import EXTRA_PLANES
from ..request import CutoutRequest
from ..target_table import read_targets

__all__ = ("MAX_FILES", "Piece", "ProductFilePlan", "ProductFiles", "pixels_of", "rows_per_file")

MAX_FILES = 100_000
"""Most data files that a product may have."""

PSF_SIDE_ALLOWANCE = 51
"""Side of the PSF kernels that is assumed where file sizes are planned, which
is before any file was read."""


@dataclasses.dataclass(frozen=True)
class Piece:
    """Targets of one patch that follow on each other in a file."""

    tract: int
    """Tract identifier."""

    patch: int
    """Patch identifier."""

    start: int
    """First target, counted among those of the patch that have the file's
    size and HEALPix pixel."""

    stop: int
    """Target after the last."""

    @property
    def place(self) -> str:
        """The patch, for people."""
        return f"tract {self.tract}, patch {self.patch}"


@dataclasses.dataclass(frozen=True)
class ProductFilePlan:
    """What may go into one data file."""

    path: str
    """Path relative to the product."""

    size: int
    """Side of the cutouts in pixels."""

    pieces: tuple[Piece, ...]
    """Targets, in the order of the file: by tract, patch and row."""

    tract: int | None = None
    """Tract of all targets, if the files are by tract or patch."""

    healpix: int | None = None
    """Nested pixel of all targets, if the files are by HEALPix."""

    @property
    def n_targets(self) -> int:
        """Number of targets; some may turn out to have no cutout."""
        return sum(piece.stop - piece.start for piece in self.pieces)

    @property
    def tracts(self) -> tuple[int, ...]:
        """The tracts that have targets in the file, ascending."""
        return tuple(dict.fromkeys(piece.tract for piece in self.pieces))


class ProductFiles:
    """The data files that a product may have, planned anew at each iteration.

    Parameters
    ----------
    request
        What the user asked for.
    plan
        The campaign's plan.
    campaign
        The campaign, for its target table.

    Raises
    ------
    UserError
        Raised if there would be more than `MAX_FILES`.

    Notes
    -----
    What is kept in memory is a number for each set of targets that share
    patch, size and pixel, not the files.
    """

    def __init__(self, request: CutoutRequest, plan: Plan, campaign: Campaign) -> None:
        self._request = request
        self._n_bands = len(plan.bands)
        self._extra_planes = plan.extra_planes
        self._by = request.partition.by
        paths = [campaign.targets / tract.path for tract in plan.tracts]
        self._counts = _sorted(_count_targets(paths, request.partition.order), _FILE_KEYS[self._by])
        self._check_number()

    def __len__(self) -> int:
        return sum(-(-sum(n for _, n in patches) // limit) for _, patches, limit in self._sets())

    def __iter__(self) -> Iterator[ProductFilePlan]:
        suffix = FORMATS[self._request.formats[0]].suffix
        for key, patches, limit in self._sets():
            for number, pieces in enumerate(_divide(patches, limit)):
                yield ProductFilePlan(
                    path=self._path(key, number) + suffix,
                    size=key["size"],
                    pieces=pieces,
                    tract=key.get("tract"),
                    healpix=key.get("pixel"),
                )

    def bytes_of(self, file: ProductFilePlan) -> int:
        """Most bytes of pixels that a file can have.

        Parameters
        ----------
        file
            One of the files.

        Returns
        -------
        n
            Without compression.
        """
        row_bytes = _row_bytes(self._request, file.size, self._n_bands, self._extra_planes)
        return file.n_targets * row_bytes

    def _sets(self) -> Iterator[tuple[dict[str, int], list[tuple[tuple[int, int], int]], int]]:
        """For each set of targets that files are made of: what they share,
        their number by (tract, patch), and the most rows of a file.
        """
        keys = _FILE_KEYS[self._by]
        rows = (dict(zip(_COUNTS, row.tolist(), strict=True)) for row in self._counts)
        for values, group in itertools.groupby(rows, key=lambda row: [row[name] for name in keys]):
            key = dict(zip(keys, values, strict=True))
            limit = rows_per_file(
                self._request, size=key["size"], n_bands=self._n_bands, extra_planes=self._extra_planes
            )
            yield key, [((row["tract"], row["patch"]), row["n"]) for row in group], limit

    def _path(self, key: dict[str, int], number: int) -> str:
        size = key["size"]
        order = self._request.partition.order
        if order is not None:
            return f"size={size}/{healpix_directory(key['pixel'], order)}/part-{number:04d}"
        patch = f"_patch{key['patch']}" if "patch" in key else ""
        return f"size={size}/cutouts_size{size}_tract{key['tract']}{patch}_{number:04d}"

    def _check_number(self) -> None:
        if (n := len(self)) > MAX_FILES:
            limits = self._request.partition
            raise UserError(
                f"Request field 'partition': {n:,} data files would be made, and {MAX_FILES:,} is the most. "
                f"Raise max_rows_per_file ({limits.max_rows_per_file:,}) or max_bytes_per_file "
                f"({limits.max_bytes_per_file:,}), or partition by "
                + ("a lower order of healpix, or by tract." if self._by == "healpix" else "tract or healpix.")
            )


def healpix_directory(pixel: int, order: int) -> str:
    """Name the directory of a HEALPix pixel.

    Parameters
    ----------
    pixel
        Nested pixel number.
    order
        Order of the pixelisation.

    Returns
    -------
    name
        ``healpix=`` and the number with as many digits as the largest one of
        the order has, but four at least, so that names sort as numbers do.
    """
    digits = max(4, len(str(12 * 4**order - 1)))
    return f"healpix={pixel:0{digits}d}"


def rows_per_file(
    request: CutoutRequest, *, size: int, n_bands: int, extra_planes: Mapping[str, int] = MappingProxyType({})
) -> int:
    """Most rows that a data file may have.

    Parameters
    ----------
    request
        What the user asked for.
    size
        Side of the cutouts in pixels.
    n_bands
        Length of the band axis.
    extra_planes
        Number of planes of noise and mask fractions, where it is known; else
        one of each that is asked for, as in DP2.

    Returns
    -------
    rows
        At least one.
    """
    limits = request.partition
    bytes_a_row = _row_bytes(request, size, n_bands, extra_planes)
    return max(1, min(limits.max_rows_per_file, limits.max_bytes_per_file // bytes_a_row))


def pixels_of(rows: pa.RecordBatch, order: int) -> np.ndarray:
    """HEALPix pixels of targets.

    Parameters
    ----------
    rows
        Targets, with the columns ``ra`` and ``dec``.
    order
        Order of the pixelisation.

    Returns
    -------
    pixels
        Nested pixel numbers, one for each target.
    """
    return nested_pixel(rows.column("ra").to_numpy(), rows.column("dec").to_numpy(), order)


def _row_bytes(request: CutoutRequest, size: int, n_bands: int, extra_planes: Mapping[str, int]) -> int:
    planes = sum(plane in request.planes for plane in ("image", "variance", "mask"))
    planes += sum(extra_planes.get(kind, 1) for kind in EXTRA_PLANES if kind in request.planes)
    psf = PSF_SIDE_ALLOWANCE**2 if "psf" in request.planes else 0
    return 4 * n_bands * (planes * size * size + psf)


_COUNTS = ("size", "tract", "patch", "pixel", "n")

_FILE_KEYS: dict[str, tuple[str, ...]] = {
    "tract": ("tract", "size"),
    "patch": ("tract", "patch", "size"),
    "healpix": ("size", "pixel"),
}
"""What the targets of a file have in common, in the order of the files."""


def _count_targets(paths: Sequence[Path], order: int | None) -> np.ndarray:
    """Number of targets by size, tract, patch and pixel: rows of `_COUNTS`;
    the pixel is 0 if files are not by HEALPix.
    """
    columns = ["tract", "patch", "size_pixels", *(() if order is None else ("ra", "dec"))]
    parts = [np.zeros((0, len(_COUNTS)), dtype=np.int64)]
    used = _UsedPixels(order) if order is not None else None
    for path in paths:
        of_tract = parts[:1]
        for batch in read_targets(path, columns=columns):
            if not batch.num_rows:
                continue
            sizes = batch.column("size_pixels").to_numpy()
            pixels = np.zeros(len(sizes), dtype=np.int64) if order is None else pixels_of(batch, order)
            size, pixel, n = _tally(sizes, pixels)
            place = [np.full(len(n), batch.column(name)[0].as_py()) for name in ("tract", "patch")]
            of_tract.append(np.stack([size, *place, pixel, n], axis=1))
        if used is not None:
            used.add(np.concatenate(of_tract))
        if used is None or not used.too_many:
            parts.append(_sum_equal(np.concatenate(of_tract)))
    if used is not None:
        used.check()
    return np.concatenate(parts)


def _tally(sizes: np.ndarray, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The different pairs of size and pixel, and how often each comes; what
    numpy has for this is ten times slower.
    """
    order = np.lexsort((pixels, sizes))
    sizes, pixels = sizes[order], pixels[order]
    is_first = np.ones(len(order), dtype=bool)
    is_first[1:] = (sizes[1:] != sizes[:-1]) | (pixels[1:] != pixels[:-1])
    first = np.flatnonzero(is_first)
    return sizes[first], pixels[first], np.diff(np.append(first, len(order)))


class _UsedPixels:
    """Counts the pixels that have targets, in bounded memory: where they are
    too many, at the highest order at which they are not.
    """

    def __init__(self, order: int) -> None:
        self._asked = self._order = order
        self._pixels = np.zeros((2, 0), dtype=np.int64)

    @property
    def too_many(self) -> bool:
        return self._order < self._asked

    def add(self, counts: np.ndarray) -> None:
        pixels = counts[:, [_COUNTS.index("size"), _COUNTS.index("pixel")]].T.copy()
        pixels[1] >>= 2 * (self._asked - self._order)
        self._pixels = _pairs(np.concatenate([self._pixels, pixels], axis=1))
        while self._pixels.shape[1] > MAX_FILES and self._order > 0:
            self._order -= 1
            self._pixels[1] >>= 2
            self._pixels = _pairs(self._pixels)

    def check(self) -> None:
        if self.too_many:
            raise UserError(
                f"Request field 'partition.order': of the pixels of order {self._asked} more than "
                f"{MAX_FILES:,} have targets, each of which would be a file, and that is the most. Order "
                f"{self._order} or a lower one will do ({self._pixels.shape[1]:,} files or more)."
            )


def _pairs(values: np.ndarray) -> np.ndarray:
    return np.stack(_tally(values[0], values[1])[:2])


def _sum_equal(counts: np.ndarray) -> np.ndarray:
    """Add up what a patch of several row groups has."""
    groups, members = np.unique(counts[:, :-1], axis=0, return_inverse=True)
    total = np.bincount(members.reshape(-1), weights=counts[:, -1], minlength=len(groups))
    return np.concatenate([groups, total.astype(np.int64)[:, None]], axis=1)


def _sorted(counts: np.ndarray, keys: Sequence[str]) -> np.ndarray:
    """Bring counts to the order of the files, and of the targets in them."""
    by = [*keys, "tract", "patch"]
    return counts[np.lexsort([counts[:, _COUNTS.index(name)] for name in reversed(by)])]


def _divide(patches: Sequence[tuple[tuple[int, int], int]], limit: int) -> Iterator[tuple[Piece, ...]]:
    """Cut the row of all patches' targets into lengths of ``limit``."""
    pieces: list[Piece] = []
    room = limit
    for (tract, patch), n in patches:
        start = 0
        while start < n:
            stop = min(n, start + room)
            pieces.append(Piece(tract, patch, start, stop))
            room -= stop - start
            start = stop
            if room == 0:
                yield tuple(pieces)
                pieces, room = [], limit
    if pieces:
        yield tuple(pieces)
