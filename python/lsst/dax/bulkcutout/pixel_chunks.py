# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Compressed pixels: one plane of a cutout is a chunk, for HDF5's own filters
"shuffle" and "deflate", which every HDF5 library has.

The chunks are made here and handed to HDF5 as they are: its own pipeline
takes several times as long, and would give the bytes of its zlib's version.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

__all__ = ("FILTERS", "compress")

FILTERS = {"shuffle": True, "compression": "gzip", "compression_opts": 1}
"""How h5py names the filters; the level is only a note of how it was made."""

_OUT_BYTES = 1 << 22

_WINDOW_BYTES = 1 << 15
"""Farthest that deflate can refer to."""


def compress(pixels: np.ndarray) -> Iterator[memoryview]:
    """Compress planes, each by itself.

    Parameters
    ----------
    pixels
        Any number of planes, shape ``(n, ny, nx)``, of 32 or 64 bits.

    Yields
    ------
    chunk
        What a chunk of HDF5 holds; to be used before the next one is
        asked for.
    """
    # Numba is only for those who write pixels.
    from .kernels.deflate import compress_chunks, most_words

    if not len(pixels):
        return
    flat = np.ascontiguousarray(pixels).reshape(len(pixels), -1)
    words = flat.view(f"u{flat.dtype.itemsize}")
    is_mask = pixels.dtype.kind in "iu" and pixels.shape[2] <= _WINDOW_BYTES
    row = pixels.shape[2] if is_mask else 0
    room = max(_OUT_BYTES // 4, most_words(words.shape[1], words.dtype.itemsize))
    out = np.empty(room, dtype=np.uint32)
    stream = memoryview(out.view(np.uint8))
    starts, sizes = np.empty((2, len(words)), dtype=np.int64)
    done = 0
    while done < len(words):
        n = compress_chunks(words[done:], row, out, starts, sizes)
        for start, size in zip(starts[:n].tolist(), sizes[:n].tolist(), strict=True):
            yield stream[4 * start : 4 * start + size]
        done += n
