# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Tiles that are compressed with gzip.

They are undone here and not in CFITSIO, for which a damaged stream may never
end: it waits for the last byte and meanwhile takes all memory there is.

isal (ISA-L) is twice as fast as zlib and lets other threads go on meanwhile.
libdeflate would be faster by another quarter; but its small bindings are not
in conda-forge, and imagecodecs brings 90 MB of libraries with it.
"""

from __future__ import annotations

from typing import cast

import numpy as np
from isal import igzip_lib

__all__ = ("gunzip", "pixels_of")

# The stubs call it an instance.
_Error = cast(type[Exception], igzip_lib.error)


def gunzip(packed: bytes | memoryview, *, most_bytes: int) -> bytes:
    """Undo gzip.

    Parameters
    ----------
    packed
        The whole stream; its checksum is verified.
    most_bytes
        Largest size that the result may have.

    Returns
    -------
    plain
        The content.

    Raises
    ------
    ValueError
        Raised if the stream is damaged, incomplete or too long.
    """
    inflater = igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)
    try:
        # One byte more shows a stream that is too long, without inflating all
        # that it may pretend to hold.
        plain = inflater.decompress(packed, most_bytes + 1)
    except _Error as error:
        raise ValueError(str(error)) from None
    if not inflater.eof or len(plain) > most_bytes:
        raise ValueError("the compressed stream has no end where it should")
    return plain


def pixels_of(plain: bytes, dtype: np.dtype[np.generic], *, shuffled: bool, n_tiles: int = 1) -> np.ndarray:
    """Pixels of a tile from its bytes.

    Parameters
    ----------
    plain
        Big-endian pixels.
    dtype
        Type of a pixel.
    shuffled
        Whether the first bytes of all pixels come first, then all the second
        ones, and so on (GZIP_2).
    n_tiles
        Number of tiles, all of one size, that ``plain`` holds.

    Returns
    -------
    pixels
        Little-endian or native, shape ``(n,)``.
    """
    if not shuffled or dtype.itemsize == 1:
        return np.frombuffer(plain, dtype=dtype.newbyteorder(">")).astype(dtype)
    by_byte = np.frombuffer(plain, dtype=np.uint8).reshape(n_tiles, dtype.itemsize, -1)
    pixels = np.empty((n_tiles, by_byte.shape[2], dtype.itemsize), dtype=np.uint8)
    # Eight times as fast as a transposed copy of the whole.
    for byte in range(dtype.itemsize):
        pixels[:, :, byte] = by_byte[:, dtype.itemsize - 1 - byte]
    return pixels.view(dtype.newbyteorder("<")).reshape(-1).astype(dtype, copy=False)
