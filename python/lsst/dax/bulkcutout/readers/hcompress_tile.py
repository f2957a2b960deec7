# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Tiles that are compressed with HCOMPRESS_1.

The decoder is the one of CFITSIO that astropy has. It believes what the
stream says of its shape and never asks where the stream ends; so the shape is
compared here, and more bytes than it can possibly want follow the stream.
"""

from __future__ import annotations

import struct
import threading

import numpy as np

__all__ = ("unhcompress",)

_HEADER = struct.Struct(">2siiiq3B")
_MAGIC = b"\xdd\x99"
_LONG = 8
"""Bytes of the decoder's integers, with which no tile overflows."""

_MOST_BIT_PLANES = 62
_MOST_PIXELS = 1 << 25
_LOCK = threading.Lock()
"""The decoder keeps its place in global variables."""


def unhcompress(packed: bytes, *, shape: tuple[int, int], smooth: bool) -> np.ndarray:
    """Undo HCOMPRESS compression.

    Parameters
    ----------
    packed
        The whole stream.
    shape
        Rows and columns of the tile.
    smooth
        Whether to smooth what a lossy compression made blocky (SMOOTH).

    Returns
    -------
    pixels
        Int32, shape ``(rows * columns,)``. Without a checksum in the format,
        most damage shows as other values.

    Raises
    ------
    ValueError
        Raised if the stream contradicts itself, or ends too early.
    """
    # A private name, but the only decoder there is; it takes half a second to
    # import.
    from astropy.io.fits.hdu.compressed import _compression

    if len(packed) < _HEADER.size:
        raise ValueError("the stream ends within its header")
    magic, rows, columns, scale, _, *bit_planes = _HEADER.unpack_from(packed)
    if magic != _MAGIC or (rows, columns) != shape or scale < 0 or max(bit_planes) > _MOST_BIT_PLANES:
        raise ValueError("the stream has a wrong header")
    if rows * columns > _MOST_PIXELS:
        raise ValueError(f"a tile of {rows} x {columns} pixels is larger than this compression takes")
    # Of each bit plane a pixel takes two bits at most, in its quarter of the
    # transform, and one for its sign; this is at least twice as much.
    quarters = bit_planes[0] + 2 * bit_planes[1] + bit_planes[2]
    padding = (quarters + 4) * (rows + 16) * (columns + 16) // 8 + 4096
    plain = []
    # A stream that is cut short takes something else from either filling.
    for filling in (b"\xff", b"\0"):
        try:
            with _LOCK:
                plain.append(
                    _compression.decompress_hcompress_1_c(
                        packed + filling * padding, rows, columns, scale, int(smooth), _LONG
                    )
                )
        except (_compression.CfitsioException, ValueError) as error:
            raise ValueError(str(error)) from None
    if plain[0] != plain[1]:
        raise ValueError("the stream ends too early")
    pixels: np.ndarray = np.frombuffer(plain[0], dtype=np.int32)
    return pixels
