# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""What is special about a cutout, in a few words for the contact sheet, and
which cutouts of a product show each of these things best.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from .masks import ALIASES
from .tables import BAND_STATUS

if TYPE_CHECKING:
    from .formats.cutouts import Cutouts
    from .formats.hdf5_reader import HDF5Reader

__all__ = ("NotableRows",)

_CODES = {name: code for code, name in BAND_STATUS.items()}
_WHOLE = 0.98
"""Part of the pixels that have data, from which a cutout counts as whole."""

_CORE = 3
"""Saturated pixels count up to this far from the target's own one."""
_LEAST_SATURATED = 5

_MOST_MASKS = 4000
_MOST_MASK_BYTES = 4e8
"""What is read of the masks, at most, to find saturated targets."""


@dataclasses.dataclass(frozen=True)
class _Columns:
    """What the columns say of some rows, each ``(n, bands)``."""

    bands: tuple[str, ...]
    status: np.ndarray
    valid_fraction: np.ndarray
    psf_valid: np.ndarray
    center_valid: np.ndarray
    n_patches: np.ndarray
    stitched: np.ndarray
    fallback: np.ndarray
    """Shape ``(n,)``."""
    at_edge: np.ndarray
    """Whether the target's cell is one of the outermost of its image."""

    @property
    def ok(self) -> np.ndarray:
        """Whether a band has pixels."""
        return np.asarray(self.status == _CODES["ok"])

    @property
    def no_band(self) -> np.ndarray:
        """Whether a band has no image where others have."""
        return np.asarray((self.status == _CODES["no_dataset"]) & self.ok.any(axis=1)[:, None])

    @property
    def missing_cell(self) -> np.ndarray:
        """Whether the image of a band has nothing in the target's cell."""
        read = (self.status == _CODES["ok"]) | (self.status == _CODES["no_data"])
        return np.asarray(read & ~self.center_valid & ~self.psf_valid)

    @property
    def part(self) -> np.ndarray:
        """Part of the pixels with data, mean of the bands with any."""
        count = np.maximum(self.ok.sum(axis=1), 1)
        return np.asarray(np.where(self.ok, self.valid_fraction, 0.0).sum(axis=1) / count)

    @property
    def edge(self) -> np.ndarray:
        """Whether the cutout leaves the images, shape ``(n,)``."""
        cut_off = np.where(self.ok, self.valid_fraction < _WHOLE, True).all(axis=1) & self.ok.any(axis=1)
        at_edge = np.where(self.ok, self.at_edge, True).all(axis=1)
        return np.asarray(cut_off & at_edge & ~self.missing_cell.any(axis=1))


class NotableRows:
    """Cutouts that show what a product may hold besides ordinary ones.

    Parameters
    ----------
    cutouts
        The product, which must stay open.
    each
        Number of cutouts to choose for each of: leaving the images, without a
        band, in a missing cell, saturated, completed from other patches.

    Notes
    -----
    The columns of a file are read as a whole, one file at a time; of the
    masks no more than the surroundings of some thousand targets.
    """

    def __init__(self, cutouts: Cutouts, each: int = 2) -> None:
        self._cutouts = cutouts
        self._last_cells: list[dict[tuple[int, int], np.ndarray]] = []
        self._has_cells: list[bool] = []
        candidates: dict[str, list[tuple[float, int]]] = {}
        first, total = 0, len(cutouts)
        for file in range(len(cutouts.files)):
            reader = cutouts.reader(file)
            self._last_cells.append(_last_cells(reader))
            self._has_cells.append(bool(reader.read("images/psf_valid").any()))
            columns = _read_columns(reader, slice(None), self._last_cells[file])
            part = columns.part
            for kind, rows, badness in (
                ("edge", columns.edge & ~columns.stitched.any(axis=1), np.abs(part - 0.6)),
                ("no band", columns.no_band.any(axis=1), 1.0 - part),
                (
                    "missing cell",
                    columns.missing_cell.any(axis=1) & columns.ok.any(axis=1),
                    np.abs(part - 0.6),
                ),
                ("saturated", *_find_saturated(reader, total)),
                (
                    "stitched",
                    columns.stitched.any(axis=1),
                    1.0 - part - columns.n_patches.max(axis=1, initial=0),
                ),
            ):
                found = np.flatnonzero(rows)
                # Equally good ones are taken from the middle of the file.
                order = np.lexsort((np.abs(found - len(rows) / 2), np.round(badness[found], 2)))
                best = found[order[:each]].tolist()
                # Files that hold most of the product show it best.
                rare = 0.5 * (1.0 - len(rows) / total)
                candidates.setdefault(kind, []).extend(
                    (float(badness[row]) + rare, first + row) for row in best
                )
            first += reader.n_rows
        chosen: list[int] = []
        for of_kind in candidates.values():
            chosen += [number for _, number in sorted(of_kind) if number not in chosen][:each]
        self.numbers = tuple(chosen)
        """Numbers of the cutouts, those of a kind beside each other; the same
        for the same product."""

    def describe(self, number: int) -> tuple[str, ...]:
        """Say what is special about a cutout.

        Parameters
        ----------
        number
            Number of the cutout, any in the product.

        Returns
        -------
        words
            The most important first; none for an ordinary cutout.
        """
        file, index = self._cutouts.place(number)
        reader = self._cutouts.reader(file)
        columns = _read_columns(reader, slice(index, index + 1), self._last_cells[file])
        words = []
        saturated = _saturated(reader, [index])[0]
        if saturated is not None and (saturated >= _LEAST_SATURATED).any():
            words.append(f"saturated in {_names(columns.bands, saturated >= _LEAST_SATURATED)}")
        if columns.stitched.any():
            words.append(f"stitched from {int(columns.n_patches.max())} patches")
        if columns.no_band.any():
            words.append(f"no {_names(columns.bands, columns.no_band[0])} band")
        if columns.missing_cell.any():
            # Images without any PSF have no cells either.
            what = "missing cell in" if self._has_cells[file] else "hole in"
            words.append(f"{what} {_names(columns.bands, columns.missing_cell[0])}")
        if columns.edge[0]:
            words.append("edge of coverage")
        elif not columns.missing_cell.any() and columns.part[0] < _WHOLE:
            words.append(f"{100 * columns.part[0]:.0f} % covered")
        for name, text in (("read_failed", "unreadable in"), ("no_data", "no data in")):
            bands = (columns.status[0] == _CODES[name]) & ~columns.missing_cell[0]
            if bands.any():
                words.append(f"{text} {_names(columns.bands, bands)}")
        if columns.fallback[0]:
            words.append("patch standing in")
        return tuple(words)


def _last_cells(reader: HDF5Reader) -> dict[tuple[int, int], np.ndarray]:
    """For each patch the last cell (y, x) that any of its rows has."""
    tract, patch = reader.read("catalog/tract"), reader.read("catalog/patch")
    cell = reader.read("images/psf_cell").max(axis=1)
    return {
        key: cell[(tract == key[0]) & (patch == key[1])].max(axis=0)
        for key in sorted(set(zip(tract.tolist(), patch.tolist(), strict=True)))
    }


def _read_columns(
    reader: HDF5Reader, rows: slice, last_cells: Mapping[tuple[int, int], np.ndarray]
) -> _Columns:
    cell = reader.read("images/psf_cell", rows).astype(np.int64)
    shape = cell.shape[:2]
    patches = zip(
        *(reader.read(f"catalog/{name}", rows).tolist() for name in ("tract", "patch")), strict=True
    )
    last = np.array([last_cells[key] for key in patches]).reshape(shape[0], 1, 2)
    return _Columns(
        bands=reader.bands,
        status=reader.read("images/band_status", rows),
        valid_fraction=reader.read("images/valid_fraction", rows),
        psf_valid=reader.read("images/psf_valid", rows).astype(bool),
        center_valid=reader.read("images/center_valid", rows).astype(bool),
        n_patches=_optional(reader, "images/n_patches", rows, shape),
        stitched=_optional(reader, "images/stitched", rows, shape).astype(bool),
        fallback=_optional(reader, "catalog/fallback", rows, shape[:1]).astype(bool),
        # A cell without PSF has no number, -1.
        at_edge=((cell == 0) | ((cell == last) & (cell > 0))).any(axis=2),
    )


def _optional(reader: HDF5Reader, path: str, rows: slice, shape: tuple[int, ...]) -> np.ndarray:
    """Read a column that files of older versions have not."""
    return reader.read(path, rows) if path in reader else np.zeros(shape, dtype=np.int64)


def _find_saturated(reader: HDF5Reader, n_all: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows with a saturated target, and minus its number of such pixels."""
    saturated = np.zeros(reader.n_rows, dtype=bool)
    badness = np.zeros(reader.n_rows)
    a_mask = 4.0 * len(reader.bands) * reader.size**2
    most = max(1, int(min(_MOST_MASKS, _MOST_MASK_BYTES / a_mask)) * reader.n_rows // max(n_all, 1))
    rows = np.unique(np.linspace(0, reader.n_rows - 1, min(most, reader.n_rows)).astype(int)).tolist()
    for row, found in zip(rows, _saturated(reader, rows), strict=True):
        if found is not None:
            saturated[row] = found.max(initial=0) >= _LEAST_SATURATED
            badness[row] = -float(found.sum())
    return saturated, badness


def _saturated(reader: HDF5Reader, rows: list[int]) -> list[np.ndarray | None]:
    """For each row the number of saturated pixels on the target, by band."""
    bits = {ALIASES.get(plane.name, plane.name): plane.bit for plane in reader.mask_planes}
    if "images/mask" not in reader or "SATURATED" not in bits:
        return [None] * len(rows)
    answers: list[np.ndarray | None] = []
    for row in rows:
        x, y = (int(np.floor(reader.read(f"catalog/{name}", row) + 0.5)) for name in ("x_cutout", "y_cutout"))
        core = (slice(max(y - _CORE, 0), y + _CORE + 1), slice(max(x - _CORE, 0), x + _CORE + 1))
        mask = reader.read("images/mask", (row, slice(None), *core))
        answers.append(((mask >> bits["SATURATED"]) & 1).sum(axis=(1, 2)))
    return answers


def _names(bands: tuple[str, ...], which: np.ndarray) -> str:
    names = [band for band, here in zip(bands, which.tolist(), strict=True) if here]
    return ", ".join(names)
