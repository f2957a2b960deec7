# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Neighbouring tiles are read together, and decoded by one kernel call."""

from __future__ import annotations

import concurrent.futures
from collections.abc import Callable

import numpy as np

__all__ = ("pieces_of", "run_pieces")


def pieces_of(
    addresses: np.ndarray, sizes: np.ndarray, pixels: np.ndarray, *, piece_bytes: int, gap_bytes: int
) -> list[slice]:
    """Split tiles into pieces that are read together.

    Parameters
    ----------
    addresses, sizes
        First byte and number of bytes of each tile, shape ``(n,)``.
    pixels
        Pixels of each tile.
    piece_bytes
        So much is read at a time, or half as many pixels.
    gap_bytes
        Reading so many bytes for nothing is cheaper than reading twice.

    Returns
    -------
    pieces
        Tiles of each piece, in order; within a piece addresses grow.
    """
    if not len(addresses):
        return []
    ends = addresses + sizes
    gaps = addresses[1:] - ends[:-1]
    is_apart = np.concatenate([[True], (gaps < 0) | (gaps > gap_bytes)])
    # Bytes and pixels since the last gap, in units of a piece.
    starts = np.maximum.accumulate(np.where(is_apart, np.arange(len(ends)), 0))
    before = np.cumsum(pixels) - pixels
    by_bytes = (addresses - addresses[starts]) // piece_bytes
    by_pixels = (before - before[starts]) // (piece_bytes // 2)
    is_apart[1:] |= (by_bytes[1:] != by_bytes[:-1]) | (by_pixels[1:] != by_pixels[:-1])
    firsts = np.flatnonzero(is_apart).tolist()
    return [slice(first, stop) for first, stop in zip(firsts, [*firsts[1:], len(ends)], strict=True)]


def run_pieces(pieces: list[slice], work: Callable[[slice], None], *, threads: int) -> None:
    """Do something with all pieces.

    Parameters
    ----------
    pieces
        What `pieces_of` gave.
    work
        What to do with one.
    threads
        How many threads may work; the first error is raised when all are
        done.
    """
    if threads < 2 or len(pieces) < 2:
        for piece in pieces:
            work(piece)
        return
    with concurrent.futures.ThreadPoolExecutor(min(threads, len(pieces))) as pool:
        for future in [pool.submit(work, piece) for piece in pieces]:
            future.result()
