# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Tiles that are compressed with the Rice algorithm.

The decoder is the one of CFITSIO that astropy has, called in such a way that
it cannot leave its input: in a damaged stream it looks for the next bit that
is set, far beyond the end if need be, and the process dies of it. (Both
astropy and CFITSIO itself let it.)
"""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ("MOST_BLOCK_PIXELS", "PIXEL_TYPES", "unrice")

MOST_BLOCK_PIXELS = 1024
"""Largest block size that is taken for one; 16 and 32 are in use."""

PIXEL_TYPES: dict[int, np.dtype[Any]] = {1: np.dtype("u1"), 2: np.dtype("i2"), 4: np.dtype("i4")}
"""Type of the integers by their number of bytes (BYTEPIX)."""


def unrice(packed: bytes, *, n_pixels: int, block_pixels: int, pixel_bytes: int = 4) -> np.ndarray:
    """Undo Rice compression.

    Parameters
    ----------
    packed
        The whole stream.
    n_pixels
        Number of pixels in it.
    block_pixels
        Pixels that share a code (BLOCKSIZE).
    pixel_bytes
        One of `PIXEL_TYPES`.

    Returns
    -------
    pixels
        Integers of that type, shape ``(n_pixels,)``. Without a checksum in
        the format, most damage shows as other values.

    Raises
    ------
    ValueError
        Raised if the stream ends too early.
    """
    # A private name, but the only decoder there is that tells the length of
    # its input from the input. Imported here because it takes half a second.
    from astropy.io.fits.hdu.compressed import _compression

    # The decoder looks for the end after each block only. Each pixel takes 32
    # bits at most from bits that are set, so this is more than a block takes.
    padding = b"\xff" * (4 * min(block_pixels, n_pixels) + 64)
    padded = np.frombuffer(packed + padding, dtype=np.uint8)
    try:
        plain: bytes = _compression.decompress_rice_1_c(
            padded[: len(packed)], block_pixels, pixel_bytes, n_pixels
        )
    except _compression.CfitsioException as error:
        raise ValueError(str(error)) from None
    pixels: np.ndarray = np.frombuffer(plain, dtype=PIXEL_TYPES[pixel_bytes])
    return pixels
