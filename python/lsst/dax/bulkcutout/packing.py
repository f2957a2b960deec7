# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Pieces of work, in order, become jobs of about the same length."""

from __future__ import annotations

import math

import numpy as np

__all__ = ("pack",)

LEAST_SECONDS = 25.0
"""Jobs are not made shorter than this to have several a slot: their start
would be more than a tenth of them."""

JOBS_PER_SLOT = 4
"""So that a slow slot does not hold up the end."""

_TICKS_PER_SECOND = 1_000_000


def pack(
    seconds: np.ndarray, *, most_seconds: float, most_pieces: int, slots: int, start_seconds: float
) -> list[slice]:
    """Divide a row of pieces into jobs.

    Parameters
    ----------
    seconds
        Length of each piece, in their order; shape ``(n,)``.
    most_seconds
        Length that no job of more than one piece exceeds.
    most_pieces
        Number of pieces that no job exceeds.
    slots
        Number of jobs that can run at the same time.  Where the bounds alone
        would make fewer, there are more and shorter jobs, as far as that
        brings the end nearer.
    start_seconds
        What it costs to start a job.

    Returns
    -------
    jobs
        The pieces of each job, in order; every piece is in exactly one.

    Notes
    -----
    The number of jobs is settled first, then the longest job is made as short
    as that number allows.  So, where the number of pieces does not end jobs
    early, the longest job exceeds the mean by no more than the longest piece.
    """
    if not len(seconds):
        return []
    # Whole numbers: sums are exact, and the search ends.
    ticks = np.maximum(1, np.rint(np.asarray(seconds) * _TICKS_PER_SECOND)).astype(np.int64)
    ends = np.cumsum(ticks)
    total = float(ends[-1]) / _TICKS_PER_SECOND
    # To start a job is worth it where that takes less than what it does.
    busy = min(slots, total / (2.0 * start_seconds))
    balanced = min(JOBS_PER_SLOT * slots, total / LEAST_SECONDS)
    high = math.floor(most_seconds * _TICKS_PER_SECOND)
    number = max(len(_fill(ends, high, most_pieces)), math.floor(max(busy, balanced)))
    low = 0
    while high - low > 1:
        middle = (low + high) // 2
        if len(_fill(ends, middle, most_pieces)) > number:
            low = middle
        else:
            high = middle
    return _fill(ends, high, most_pieces)


def _fill(ends: np.ndarray, most: int, most_pieces: int) -> list[slice]:
    """Fill one job after the other; this makes as few as can be."""
    jobs = []
    start = before = 0
    while start < len(ends):
        stop = int(np.searchsorted(ends, before + most, side="right"))
        stop = max(start + 1, min(stop, start + most_pieces))
        jobs.append(slice(start, stop))
        start, before = stop, int(ends[stop - 1])
    return jobs
