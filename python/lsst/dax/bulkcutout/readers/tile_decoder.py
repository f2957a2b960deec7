# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""From the bytes of compressed tiles to pixels: many tiles a call."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from ..errors import CorruptInputError
from .canvas import Canvas, Scaling
from .fits_extension import Extension
from .gzip_tile import gunzip
from .hcompress_tile import unhcompress
from .plain_tiles import PlainTiles, dequantizing
from .tile_codec import Store, TileCodec
from .tile_pieces import pieces_of, run_pieces

__all__ = ("TileDecoder",)

_MOST_INFLATED = 1 << 20
"""Bytes of tiles that are inflated before they are converted."""

_MOST_PIXELS_A_BYTE = 8 * 1032
"""More than the best compression of nothing but zeros reaches."""


class TileDecoder:
    """Decodes tiles of one HDU onto a canvas.

    Parameters
    ----------
    extension
        The HDU.
    codec
        What its header says.
    canvas
        Where pixels go.
    scaling
        From numbers to pixels.
    """

    def __init__(self, extension: Extension, codec: TileCodec, canvas: Canvas, scaling: Scaling) -> None:
        self._extension = extension
        self._file = extension.header.file
        self._codec = codec
        self._canvas = canvas
        self._scaling = scaling
        self._damaged: dict[int, CorruptInputError] = {}

    def load(self, numbers: np.ndarray, places: np.ndarray, *, threads: int) -> dict[int, CorruptInputError]:
        """Decode tiles.

        Parameters
        ----------
        numbers
            Numbers of the tiles, growing.
        places
            First row, first column, rows, columns and wanted rows of each, on
            the canvas; int64, shape ``(n, 5)``.
        threads
            How many threads may decode.

        Returns
        -------
        damaged
            What is wrong, for each of ``numbers`` (by its index) that is.
        """
        from ..kernels.tile_runs import TileColumn

        codec, quantization = self._codec, self._codec.quantization
        tiles = np.zeros((len(numbers), len(TileColumn)), dtype=np.int64)
        tiles[:, :5] = places
        if quantization is not None:
            tiles[:, TileColumn.RANDOM] = numbers + quantization.seed
            tiles[:, TileColumn.BLANK] = quantization.blanks[numbers]
        elif self._scaling.blank is not None:
            tiles[:, TileColumn.BLANK] = self._scaling.blank
        stores = codec.stores[numbers]
        for index in np.flatnonzero(stores == Store.NOWHERE).tolist():
            self._damage(index, "it has no bytes, or bytes outside the HDU")
        n_pixels = tiles[:, TileColumn.N_ROWS] * tiles[:, TileColumn.N_COLUMNS]
        if codec.name != "PLIO_1":
            # A damaged header must not ask for all the memory there is.
            is_sparse = n_pixels > _MOST_PIXELS_A_BYTE * codec.sizes[numbers]
            for index in np.flatnonzero(is_sparse & (stores != Store.NOWHERE)).tolist():
                self._damage(index, f"{codec.sizes[numbers[index]]} bytes are too few for its pixels")
            stores[is_sparse] = Store.NOWHERE
        for store in (Store.COMPRESSED_DATA, Store.GZIP_COMPRESSED_DATA, Store.UNCOMPRESSED_DATA):
            members = np.flatnonzero(stores == store)
            here = numbers[members]
            source = self._file.source
            pieces = pieces_of(
                codec.addresses[here],
                codec.sizes[here],
                n_pixels[members],
                piece_bytes=source.piece_bytes,
                gap_bytes=source.gap_bytes,
            )

            def work(
                piece: slice, members: np.ndarray = members, here: np.ndarray = here, store: Store = store
            ) -> None:
                self._load_piece(store, members[piece], here[piece], tiles)

            run_pieces(pieces, work, threads=threads)
        return self._damaged

    def _damage(self, index: int, why: str) -> None:
        what = f"a tile of {self._extension.name} is damaged ({why})"
        self._damaged[index] = self._file.corrupt(what)

    def _load_piece(self, store: Store, indices: np.ndarray, numbers: np.ndarray, tiles: np.ndarray) -> None:
        """Read and decode tiles that lie side by side."""
        from ..kernels.rice import MARGIN
        from ..kernels.tile_runs import TileColumn

        codec = self._codec
        addresses, sizes = codec.addresses[numbers], codec.sizes[numbers]
        begin, end = int(addresses[0]), int(addresses[-1] + sizes[-1])
        margin = 8 * codec.rice.block_pixels + MARGIN
        try:
            stream = self._file.read_array(begin, end - begin, self._extension.name, margin=margin)
        except CorruptInputError as error:
            if len(indices) == 1:
                self._damaged[int(indices[0])] = error
                return
            # One by one, so that only the tiles are lost that are not there.
            for one in range(len(indices)):
                self._load_piece(store, indices[one : one + 1], numbers[one : one + 1], tiles)
            return
        mine = tiles[indices]
        mine[:, TileColumn.FIRST_BYTE] = addresses - begin
        mine[:, TileColumn.LAST_BYTE] = addresses - begin + sizes
        scales = codec.quantization.scales[numbers] if codec.quantization is not None else None
        if store is Store.COMPRESSED_DATA and codec.name.startswith(("RICE", "PLIO")):
            for one in self._unpack(stream, mine, scales):
                self._damage(int(indices[one]), _WHY[codec.name[:4]])
            return
        is_own = store is Store.COMPRESSED_DATA
        converter = PlainTiles(
            self._canvas,
            self._scaling,
            is_float=codec.dtype.kind == "f" and not (is_own and codec.quantization is not None),
            quantization=codec.quantization if is_own else None,
        )
        is_shuffled = is_own and codec.name == "GZIP_2"
        groups: Iterable[tuple[list[int], np.ndarray, np.ndarray]] = [(list(range(len(mine))), stream, mine)]
        if store is Store.GZIP_COMPRESSED_DATA or is_own and codec.name != "NOCOMPRESS":
            groups = self._inflate(store, stream, mine, indices)
        for members, content, group in groups:
            scales_here = scales[members] if is_own and scales is not None else None
            for one, why in converter.place(content, group, scales_here, is_shuffled=is_shuffled).items():
                self._damage(int(indices[members[one]]), why)

    def _unpack(self, stream: np.ndarray, tiles: np.ndarray, scales: np.ndarray | None) -> list[int]:
        """Tiles of Rice or PLIO; returns the damaged ones."""
        from ..kernels import tile_runs

        canvas, scaling, rice = self._canvas, self._scaling, self._codec.rice
        pixels = np.empty(int((tiles[:, 2] * tiles[:, 3]).max()), dtype=np.int32)
        complete = np.zeros(len(tiles), dtype=bool)
        common = (stream, tiles, rice.block_pixels, rice.pixel_bytes)
        room = (pixels, canvas.flat, canvas.extent, complete)
        if canvas.flat.dtype.kind == "f":
            rule = dequantizing(scaling, self._codec.quantization, scales, len(tiles))
            arguments: tuple[Any, ...] = (*common, *rule, *room)
            tile_runs.packed_to_floats(*arguments)
        else:
            tile_runs.packed_to_integers(*common, scaling.whole_zero, *room)
        found: list[int] = np.flatnonzero(~complete).tolist()
        return found

    def _inflate(
        self, store: Store, stream: np.ndarray, tiles: np.ndarray, indices: np.ndarray
    ) -> Iterator[tuple[list[int], np.ndarray, np.ndarray]]:
        """Undo compressions that are not the kernels': some tiles at a time,
        by their place in ``tiles``, with their bytes and where those are.
        """
        members: list[int] = []
        contents: list[bytes] = []
        size = 0
        for one, (height, width, _, _, first, stop, _) in enumerate(tiles[:, 2:].tolist()):
            packed = memoryview(stream)[first:stop]
            try:
                if store is Store.COMPRESSED_DATA and self._codec.name == "HCOMPRESS_1":
                    pixels = unhcompress(bytes(packed), shape=(height, width), smooth=self._codec.is_smoothed)
                    content = pixels.astype(">i4").tobytes()
                else:
                    content = gunzip(packed, most_bytes=8 * height * width)
            except ValueError as error:
                self._damage(int(indices[one]), str(error))
                continue
            members.append(one)
            contents.append(content)
            size += len(content)
            if size >= _MOST_INFLATED:
                yield members, *_joined(contents, tiles[members])
                members, contents, size = [], [], 0
        if members:
            yield members, *_joined(contents, tiles[members])


def _joined(contents: list[bytes], tiles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Bytes of tiles in one array, and the tiles with their places in it."""
    from ..kernels.tile_runs import TileColumn

    ends = np.cumsum([len(content) for content in contents])
    tiles[:, TileColumn.FIRST_BYTE] = ends - [len(content) for content in contents]
    tiles[:, TileColumn.LAST_BYTE] = ends
    # Kernels are compiled for arrays that may be written.
    stream = np.empty(int(ends[-1]), dtype=np.uint8)
    memoryview(stream)[:] = b"".join(contents)
    return stream, tiles


_WHY = {
    "RICE": "the stream ends too early",
    "PLIO": "the line list ends too early, or has more pixels or other values than it may",
}
"""What a tile is that a kernel could not decode."""
