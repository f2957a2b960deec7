# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Chunks of pixels as HDF5's filters "shuffle" and "deflate" leave them.

The first brings equal bytes of all pixels together: a plane of lowest bytes,
and so on. The second is a zlib stream (RFC 1950 and 1951). Here each plane is
a block with a Huffman code of its own; a byte or row that is like the one
before it is referred to, and nothing else is looked for: pixels are masks,
which are constant over large areas, or noise, which has no repetitions.

The bytes follow from the pixels alone. A compression library's would be those
of its version.
"""

from __future__ import annotations

import numpy as np

from .compiled import compiled
from .huffman import code_lengths, codes_of

__all__ = ("compress_chunks", "most_words")

_BASE = 65521
_END = 256
_LONGEST = 258
_SHORTEST = 4
_NEAREST_ROW = 5

_LENGTHS = np.array(
    [3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31]
    + [35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227, 258]
)
"""First length of each code from 257 on."""

_LENGTH_BITS = np.array([0] * 8 + [1] * 4 + [2] * 4 + [3] * 4 + [4] * 4 + [5] * 4 + [0])

_LENGTH_CODES = np.searchsorted(_LENGTHS, np.arange(_LONGEST + 1), side="right") - 1

_ORDER = np.array([16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15])


@compiled
def most_words(pixels: int, item_bytes: int) -> int:
    """Room that a chunk needs at most.

    Parameters
    ----------
    pixels
        Number of pixels.
    item_bytes
        Bytes of each.

    Returns
    -------
    words
        Number of 32-bit words. A code for 286 symbols that are all the same
        has nine bits, and the one that is chosen is no worse.
    """
    return (pixels * item_bytes * 9 // 8 + 512 * item_bytes) // 4 + 16


@compiled
def compress_chunks(
    chunks: np.ndarray, row: int, out: np.ndarray, starts: np.ndarray, sizes: np.ndarray
) -> int:
    """Compress chunks, as many as there is room for.

    Parameters
    ----------
    chunks
        Pixels as unsigned integers, shape ``(n, pixels)``.
    row
        Pixels in a row, to look for equal rows; 0 not to.
    out
        Room for the streams, uint32: at least `most_words` of a chunk.
    starts
        Filled with the word of ``out`` where each stream begins.
    sizes
        Filled with the number of bytes of each stream.

    Returns
    -------
    done
        Number of chunks that were compressed, the first ones.
    """
    n = len(chunks)
    pixels = chunks.shape[1]
    item_bytes = chunks.itemsize
    room = most_words(pixels, item_bytes)
    padded = np.zeros((pixels + 7) // 8, dtype=np.uint64)
    plane = padded.view(np.uint8)
    tokens = np.empty(pixels + 16 * item_bytes * (pixels // _LONGEST // 16 + 4), dtype=np.int32)
    counts = np.zeros(320, dtype=np.int64)
    position = 0
    alike = -1
    for number in range(n):
        if len(out) - position < room:
            return number
        chunk = chunks[number]
        every, some = chunk[0], chunk[0]
        for value in chunk:
            every &= value
            some |= value
        if every == some:
            # What is all one value has the same stream as the last such.
            if alike >= 0 and chunks[alike, 0] == every:
                starts[number], sizes[number] = starts[alike], sizes[alike]
                continue
            alike = number
        # The stream's header: deflate, window of 32 kB, fastest.
        bits, count, place = 0x0178, 16, position
        a, b = 1, 0
        n_tokens = 0
        counts[:] = 0
        for byte in range(item_bytes):
            shift = 8 * byte
            value = (int(some) >> shift) & 255
            if value == (int(every) >> shift) & 255:
                n_tokens = _constant(pixels, value, tokens, n_tokens, counts)
                b += pixels * a + value * (pixels * (pixels + 1) // 2)
                a += pixels * value
            else:
                if n_tokens:
                    bits, count, place = _block(tokens, n_tokens, counts, row, False, out, bits, count, place)
                for index in range(pixels):
                    plane[index] = (chunk[index] >> shift) & 255
                a, b = _sums(plane, pixels, a, b)
                n_tokens = _tokens(plane, padded, pixels, row, tokens, counts)
                if byte < item_bytes - 1:
                    bits, count, place = _block(tokens, n_tokens, counts, row, False, out, bits, count, place)
                    n_tokens = 0
            a %= _BASE
            b %= _BASE
        bits, count, place = _block(tokens, n_tokens, counts, row, True, out, bits, count, place)
        # The checksum begins with a whole byte, its highest first.
        count = (count + 7) // 8 * 8
        for value in (b >> 8, b & 255, a >> 8, a & 255):
            bits |= value << count
            count += 8
        starts[number] = position
        sizes[number] = 4 * (place - position) + count // 8
        while count > 0:
            out[place] = bits & 0xFFFFFFFF
            place += 1
            bits >>= 32
            count -= 32
        position = place
    return n


@compiled
def _sums(plane: np.ndarray, pixels: int, a: int, b: int) -> tuple[int, int]:
    """Add the bytes of a plane to both sums of the checksum (Adler-32)."""
    total = weighted = 0
    for index in range(pixels):
        total += int(plane[index])
        weighted += int(plane[index]) * (pixels - index)
    return a + total, b + pixels * a + weighted


@compiled
def _constant(pixels: int, value: int, tokens: np.ndarray, n: int, counts: np.ndarray) -> int:
    """Add the tokens of a plane that is all one value."""
    tokens[n] = value
    counts[value] += 1
    return _run(pixels - 1, 0, value, tokens, n + 1, counts)


@compiled
def _run(length: int, which: int, value: int, tokens: np.ndarray, n: int, counts: np.ndarray) -> int:
    """Add the tokens of a repetition; ``value`` is what it ends with where
    it is too short to be one.
    """
    while length >= _SHORTEST:
        part = min(length, _LONGEST)
        tokens[n] = 512 + 2 * part + which
        counts[257 + _LENGTH_CODES[part]] += 1
        counts[300 + which] += 1
        n += 1
        length -= part
    for _ in range(length):
        tokens[n] = value
        counts[value] += 1
        n += 1
    return n


@compiled
def _tokens(
    plane: np.ndarray, padded: np.ndarray, pixels: int, row: int, tokens: np.ndarray, counts: np.ndarray
) -> int:
    """Say a plane in literal bytes and repetitions."""
    index, n = 0, 0
    words = pixels // 8
    while index < pixels:
        value = plane[index]
        end = index
        which = 0
        if index > 0 and value == plane[index - 1]:
            end = _same(plane, padded, pixels, words, index, 1)
        if row >= _NEAREST_ROW and index >= row and value == plane[index - row]:
            other = _same(plane, padded, pixels, words, index, row)
            if other > end:
                end, which = other, 1
        length = end - index
        if length >= _SHORTEST:
            # What is left of it is looked at anew.
            length -= length % _LONGEST if length % _LONGEST < _SHORTEST else 0
            n = _run(length, which, 0, tokens, n, counts)
            index += length
        else:
            tokens[n] = value
            counts[value] += 1
            n += 1
            index += 1
    return n


@compiled
def _same(plane: np.ndarray, padded: np.ndarray, pixels: int, words: int, index: int, distance: int) -> int:
    """Where a repetition ends that has begun."""
    while index < pixels and index % 8:
        if plane[index] != plane[index - distance]:
            return index
        index += 1
    word = index // 8
    if distance == 1:
        # All bytes of a word are the last byte of the one before it.
        expected = np.uint64(plane[index - 1]) * np.uint64(0x0101010101010101)
        while word < words and padded[word] == expected:
            word += 1
    elif distance % 8 == 0:
        while word < words and padded[word] == padded[word - distance // 8]:
            word += 1
    index = 8 * word
    while index < pixels and plane[index] == plane[index - distance]:
        index += 1
    return index


@compiled
def _block(
    tokens: np.ndarray,
    n_tokens: int,
    counts: np.ndarray,
    row: int,
    is_last: bool,
    out: np.ndarray,
    bits: int,
    count: int,
    place: int,
) -> tuple[int, int, int]:
    """Write a block with a code of its own; clears the counts."""
    counts[_END] = 1
    lengths = np.zeros(320, dtype=np.int64)
    codes = np.zeros(320, dtype=np.int64)
    code_lengths(counts, 286, 15, lengths)
    codes_of(lengths, 286, codes)
    n_symbols = 286
    while n_symbols > 257 and lengths[n_symbols - 1] == 0:
        n_symbols -= 1
    # Of distances there are two: to the byte before, and to the row before.
    far, far_bits, far_extra = _distance(row)
    distances = np.zeros(30, dtype=np.int64)
    near_used, far_used = counts[300] > 0, counts[301] > 0
    distances[0] = near_used
    n_distances = 1
    if far_used:
        distances[far] = 1
        n_distances = far + 1
    far_code = 1 if near_used else 0
    bits, count, place = _header(lengths, n_symbols, distances, n_distances, is_last, out, bits, count, place)
    for index in range(n_tokens):
        token = np.int64(tokens[index])
        if token < 256:
            bits |= codes[token] << count
            count += lengths[token]
        else:
            length = (token - 512) >> 1
            code = _LENGTH_CODES[length]
            bits |= codes[257 + code] << count
            count += lengths[257 + code]
            bits |= (length - _LENGTHS[code]) << count
            count += _LENGTH_BITS[code]
            if count >= 32:
                out[place] = bits & 0xFFFFFFFF
                place, bits, count = place + 1, bits >> 32, count - 32
            if token & 1:
                bits |= (far_code | far_extra << 1) << count
                count += 1 + far_bits
            else:
                count += 1
        if count >= 32:
            out[place] = bits & 0xFFFFFFFF
            place, bits, count = place + 1, bits >> 32, count - 32
    bits |= codes[_END] << count
    count += lengths[_END]
    if count >= 32:
        out[place] = bits & 0xFFFFFFFF
        place, bits, count = place + 1, bits >> 32, count - 32
    counts[:] = 0
    return bits, count, place


@compiled
def _distance(distance: int) -> tuple[int, int, int]:
    """Code of a distance from 5 on, its extra bits, and their value."""
    above = max(distance, _NEAREST_ROW) - 1
    extra = 0
    while above >> (extra + 2):
        extra += 1
    return 2 * extra + 2 + ((above >> extra) & 1), extra, above & ((1 << extra) - 1)


@compiled
def _header(
    lengths: np.ndarray,
    n_symbols: int,
    distances: np.ndarray,
    n_distances: int,
    is_last: bool,
    out: np.ndarray,
    bits: int,
    count: int,
    place: int,
) -> tuple[int, int, int]:
    """Write the beginning of a block: the lengths of its codes."""
    total = n_symbols + n_distances
    symbols = np.empty(total, dtype=np.int64)
    extras = np.empty(total, dtype=np.int64)
    counts = np.zeros(19, dtype=np.int64)
    n = index = 0
    while index < total:
        length = lengths[index] if index < n_symbols else distances[index - n_symbols]
        end = index + 1
        while end < total and length == (lengths[end] if end < n_symbols else distances[end - n_symbols]):
            end += 1
        run = end - index
        if length == 0 and run >= 3:
            run = min(run, 138)
            symbols[n], extras[n] = (18, run - 11) if run > 10 else (17, run - 3)
        elif n > 0 and symbols[n - 1] == length and run >= 3:
            run = min(run, 6)
            symbols[n], extras[n] = 16, run - 3
        else:
            run = 1
            symbols[n], extras[n] = length, 0
        # A repetition of a repetition begins with the length itself.
        counts[symbols[n]] += 1
        n += 1
        index += run
    own_lengths = np.zeros(19, dtype=np.int64)
    own_codes = np.zeros(19, dtype=np.int64)
    code_lengths(counts, 19, 7, own_lengths)
    codes_of(own_lengths, 19, own_codes)
    n_own = 19
    while n_own > 4 and own_lengths[_ORDER[n_own - 1]] == 0:
        n_own -= 1
    start = int(is_last) | 2 << 1 | (n_symbols - 257) << 3 | (n_distances - 1) << 8 | (n_own - 4) << 13
    bits |= start << count
    count += 17
    for index in range(n_own):
        if count >= 32:
            out[place] = bits & 0xFFFFFFFF
            place, bits, count = place + 1, bits >> 32, count - 32
        bits |= own_lengths[_ORDER[index]] << count
        count += 3
    for index in range(n):
        if count >= 32:
            out[place] = bits & 0xFFFFFFFF
            place, bits, count = place + 1, bits >> 32, count - 32
        symbol = symbols[index]
        bits |= own_codes[symbol] << count
        count += own_lengths[symbol]
        bits |= extras[index] << count
        count += 2 if symbol == 16 else 3 if symbol == 17 else 7 if symbol == 18 else 0
    if count >= 32:
        out[place] = bits & 0xFFFFFFFF
        place, bits, count = place + 1, bits >> 32, count - 32
    return bits, count, place
