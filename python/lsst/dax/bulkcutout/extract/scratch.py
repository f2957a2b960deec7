# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Memory that is used again for plane after plane, block after block."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

__all__ = ("Scratch",)


class Scratch:
    """Arrays without content, from memory that stays.

    New memory from the system costs as much as filling it: the first touch
    of a page is a fault.
    """

    def __init__(self) -> None:
        self._kept: dict[str, np.ndarray] = {}
        self._others: dict[str, Scratch] = {}

    def take(self, name: str, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        """Get an array; the one that had the name before is overwritten.

        Parameters
        ----------
        name
            What it is for.
        shape, dtype
            Shape and type.

        Returns
        -------
        array
            Contiguous, with anything in it.
        """
        n_bytes = math.prod(shape) * np.dtype(dtype).itemsize
        kept = self._kept.get(name)
        if kept is None or kept.size < n_bytes:
            # Given back first, so that there are never both.
            self._kept.pop(name, None)
            del kept
            kept = self._kept[name] = np.empty(n_bytes, dtype=np.uint8)
        array: np.ndarray = kept[:n_bytes].view(dtype).reshape(shape)
        return array

    def other(self, name: str) -> Scratch:
        """Get memory for something else at the same time.

        Parameters
        ----------
        name
            What it is for.

        Returns
        -------
        scratch
            The same for the same name.
        """
        return self._others.setdefault(name, Scratch())
