# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Positions that are said to be degrees, and do not look so."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pyarrow as pa

__all__ = ("PositionLimits",)

FEW_ROWS = 10
"""With fewer rows than this, nothing is guessed from their positions."""

WIDE_DEG = 30.0
"""Declinations over more than this belong to right ascensions over more than
24 degrees, most likely."""


class PositionLimits:
    """Tells whether positions look like radians or hours.

    Parameters
    ----------
    path
        The catalog, for messages.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._n_rows = 0
        self._ra = self._dec = (math.inf, -math.inf)

    def see(self, rows: pa.RecordBatch) -> None:
        """Look at the rows that nothing is wrong with.

        Parameters
        ----------
        rows
            Target rows.
        """
        is_good = np.asarray(rows.column("status").is_null())
        if not is_good.any():
            return
        ra = rows.column("ra").to_numpy(zero_copy_only=False)[is_good]
        dec = rows.column("dec").to_numpy(zero_copy_only=False)[is_good]
        self._n_rows += len(ra)
        self._ra = (min(self._ra[0], ra.min()), max(self._ra[1], ra.max()))
        self._dec = (min(self._dec[0], dec.min()), max(self._dec[1], dec.max()))

    def warnings(self) -> list[str]:
        """Tell it in words.

        Returns
        -------
        warnings
            A sentence, if they do.
        """
        if self._n_rows < FEW_ROWS:
            return []
        ra = f"right ascensions are from {self._ra[0]:.4f} to {self._ra[1]:.4f}"
        dec = f"declinations from {self._dec[0]:.4f} to {self._dec[1]:.4f}"
        if self._ra[1] <= 2 * math.pi and max(map(abs, self._dec)) <= math.pi / 2:
            unit = "radians"
        elif self._ra[1] <= 24 and self._dec[1] - self._dec[0] > WIDE_DEG:
            unit = "hours"
        else:
            return []
        return [
            f"Catalog {self._path}: all {ra} and {dec}, as if they were in {unit}. They are taken for "
            "degrees."
        ]
