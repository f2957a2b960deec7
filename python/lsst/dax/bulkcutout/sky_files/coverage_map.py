# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""The coverage map of a product: a MOC, as the IVOA defines it (version 2.0).

It is the union of the boxes of all cutouts: every cell that a box touches.
"""

from __future__ import annotations

import math
from pathlib import Path

import hpgeom
import numpy as np
from astropy.io import fits

from ..errors import TransientError
from ..formats.healpix import nested_pixel

__all__ = ("COVERAGE_NAME", "CoverageMap", "coverage_order")

COVERAGE_NAME = "coverage.moc.fits"

MAX_CELLS = 2_000_000
"""Most cells of the highest order; with more the order goes down."""

_FINENESS = 32

_CELL_SIDE_ARCSEC = 58.6323 * 3600
"""Root of the area of a base pixel."""


def coverage_order(size_arcsec: float) -> int:
    """Choose the order of a coverage map.

    Parameters
    ----------
    size_arcsec
        Side of the smallest cutouts.

    Returns
    -------
    order
        The highest one whose cells are twice as wide: 13 for 64 pixels of 0.2
        arcsec.  Not above 18.
    """
    return max(0, min(18, math.floor(math.log2(_CELL_SIDE_ARCSEC / (2 * size_arcsec)))))


class CoverageMap:
    """The part of the sky that some boxes cover.

    Parameters
    ----------
    order
        Order of the cells; lower in the end if there are too many.
    """

    def __init__(self, order: int) -> None:
        self.order = order
        # Ranges of cells, ascending, with gaps between them: shape (n, 2).
        self._ranges = np.zeros((0, 2), dtype=np.int64)

    def add(self, corners: np.ndarray) -> None:
        """Take boxes in.

        Parameters
        ----------
        corners
            What `cutout_corners.corners` gives, shape ``(n, 4, 2)``.
        """
        cells = nested_pixel(corners[..., 0], corners[..., 1], self.order)
        # Smaller than a cell, and all corners in one: so is the box.
        inside = (cells == cells[:, :1]).all(axis=1)
        first = np.unique(cells[inside, 0])
        found = [np.stack([first, first + 1], axis=1)]
        # The factor is how finely it looks: some cells that a box misses by
        # less than this part of their side are in it, too.
        for ra, dec in np.moveaxis(corners[~inside], 1, 2):
            touched = hpgeom.query_polygon(1 << self.order, ra, dec, inclusive=True, fact=_FINENESS)
            found.append(np.stack([touched, touched + 1], axis=1))
        self._ranges = _merged(np.concatenate([self._ranges, *found]))
        while (self._ranges[:, 1] - self._ranges[:, 0]).sum() > MAX_CELLS and self.order > 0:
            self.order -= 1
            self._ranges = _merged(np.stack([self._ranges[:, 0] >> 2, (self._ranges[:, 1] + 3) >> 2], axis=1))

    def cells(self) -> np.ndarray:
        """Name the cells.

        Returns
        -------
        uniq
            Numbers in the NUNIQ scheme (``4 * 4**order + pixel``), ascending,
            int64; four cells that make a larger one are that one.
        """
        left, found = self._ranges, []
        for order in range(self.order + 1):
            shift = 2 * (self.order - order)
            first, last = -(-left[:, 0] >> shift), left[:, 1] >> shift
            some = first < last
            found.append(_numbers(first[some], last[some]) + 4 * 4**order)
            rest = [left[~some]]
            for start, stop in ((left[some, 0], first[some] << shift), (last[some] << shift, left[some, 1])):
                rest.append(np.stack([start, stop], axis=1)[start < stop])
            left = np.concatenate(rest)
        return np.concatenate(found)

    def write(self, path: Path) -> None:
        """Write the map.

        Parameters
        ----------
        path
            File to write (FITS).

        Raises
        ------
        TransientError
            Raised if the disk takes no more.
        """
        cells = self.cells()
        column = fits.Column(name="UNIQ", format="1K", array=cells)
        table = fits.BinTableHDU.from_columns([column], nrows=len(cells))
        for name, value, comment in (
            ("PIXTYPE", "HEALPIX", "HEALPix magic code"),
            ("ORDERING", "NUNIQ", "NUNIQ coding method"),
            ("COORDSYS", "C", "ICRS reference frame"),
            ("MOCVERS", "2.0", "MOC version"),
            ("MOCDIM", "SPACE", "Physical dimension"),
            ("MOCORD_S", self.order, "MOC resolution (best order)"),
            ("MOCORDER", self.order, "The same, for older readers"),
            ("MOCTOOL", "dax_bulkcutout", "Name of the MOC generator"),
        ):
            table.header[name] = (value, comment)
        part = path.with_name(f".{path.name}")
        try:
            fits.HDUList([fits.PrimaryHDU(), table]).writeto(part, overwrite=True)
            part.replace(path)
        except OSError as error:
            raise TransientError(f"Cannot write {path}: {error}") from error
        finally:
            part.unlink(missing_ok=True)


def _merged(ranges: np.ndarray) -> np.ndarray:
    """Sort ranges, and make one of those that touch."""
    ranges = ranges[np.lexsort((ranges[:, 1], ranges[:, 0]))]
    if not len(ranges):
        return ranges
    stops = np.maximum.accumulate(ranges[:, 1])
    is_first = np.ones(len(ranges), dtype=bool)
    is_first[1:] = ranges[1:, 0] > stops[:-1]
    is_last = np.append(is_first[1:], True)
    return np.stack([ranges[is_first, 0], stops[is_last]], axis=1)


def _numbers(first: np.ndarray, last: np.ndarray) -> np.ndarray:
    """All numbers of some ranges."""
    lengths = last - first
    offsets = np.repeat(first - np.cumsum(lengths) + lengths, lengths)
    return np.asarray(np.arange(lengths.sum()) + offsets)
