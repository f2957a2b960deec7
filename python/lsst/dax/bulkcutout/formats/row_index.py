# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Which of a product's cutouts has a catalog row, an identifier, a place."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from ..errors import UserError

if TYPE_CHECKING:
    from .hdf5_reader import HDF5Reader

__all__ = ("RowIndex",)


class RowIndex:
    """The identifying columns of all rows of a product.

    Parameters
    ----------
    readers
        The data files in order; each is used up before the next is taken.
    """

    def __init__(self, readers: Iterable[HDF5Reader]) -> None:
        parts: dict[str, list[np.ndarray]] = {"row": [], "object_id": [], "ra": [], "dec": []}
        for reader in readers:
            for name, arrays in parts.items():
                arrays.append(reader.read(f"catalog/{name}"))
        columns = {name: np.concatenate(arrays) if arrays else np.zeros(0) for name, arrays in parts.items()}
        self._row, self._id = columns["row"], columns["object_id"]
        self._ra, self._dec = columns["ra"], columns["dec"]

    def by_row(self, row: int) -> int | None:
        """Find a catalog row.

        Parameters
        ----------
        row
            Number of the catalog row.

        Returns
        -------
        number
            Number of its cutout; `None` if it has none.
        """
        found = _equal(self._row, self._row_order, row)
        return int(found[0]) if len(found) else None

    def by_id(self, identifier: int | str) -> list[int]:
        """Find an identifier.

        Parameters
        ----------
        identifier
            Number or text.

        Returns
        -------
        numbers
            Numbers of its cutouts, ascending.
        """
        if not len(self._id):
            return []
        is_text = self._id.dtype.kind == "U"
        if is_text != isinstance(identifier, str):
            kind, given = ("text", "a number") if is_text else ("numbers", "text")
            raise UserError(f"The identifiers of this product are {kind}; {identifier!r} is {given}.")
        found: list[int] = np.sort(_equal(self._id, self._id_order, identifier)).tolist()
        return found

    def near(self, ra: float, dec: float, radius_arcsec: float) -> list[int]:
        """Find a position.

        Parameters
        ----------
        ra, dec
            ICRS degrees.
        radius_arcsec
            Largest distance.

        Returns
        -------
        numbers
            Numbers of the cutouts, the nearest first.
        """
        radius = radius_arcsec / 3600.0
        # The margin is for the rounding of the difference.
        candidates = np.flatnonzero(np.abs(self._dec - dec) <= radius * (1 + 1e-9) + 1e-12)
        distance = _distance(ra, dec, self._ra[candidates], self._dec[candidates])
        inside = distance <= radius
        numbers: list[int] = candidates[inside][np.argsort(distance[inside], kind="stable")].tolist()
        return numbers

    @functools.cached_property
    def _row_order(self) -> np.ndarray:
        return np.argsort(self._row, kind="stable")

    @functools.cached_property
    def _id_order(self) -> np.ndarray:
        return np.argsort(self._id, kind="stable")


def _equal(values: np.ndarray, order: np.ndarray, wanted: int | str) -> np.ndarray:
    first = np.searchsorted(values, wanted, side="left", sorter=order)
    last = np.searchsorted(values, wanted, side="right", sorter=order)
    return order[first:last]


def _distance(ra: float, dec: float, others_ra: np.ndarray, others_dec: np.ndarray) -> np.ndarray:
    # Haversine: exact for the small distances that matter here.
    d_ra, d_dec = np.radians(others_ra - ra) / 2, np.radians(others_dec - dec) / 2
    cos = np.cos(np.radians(dec)) * np.cos(np.radians(others_dec))
    return np.asarray(2 * np.degrees(np.arcsin(np.sqrt(np.sin(d_dec) ** 2 + cos * np.sin(d_ra) ** 2))))
