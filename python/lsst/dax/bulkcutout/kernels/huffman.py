# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Huffman codes, as deflate wants them (RFC 1951, section 3.2.2).

The same counts give the same code, always: symbols of the same count are in
the order of their numbers.
"""

from __future__ import annotations

import numpy as np

from .compiled import compiled

__all__ = ("code_lengths", "codes_of")


@compiled
def code_lengths(counts: np.ndarray, n: int, longest: int, lengths: np.ndarray) -> None:
    """Find the lengths of the codes of some symbols.

    Parameters
    ----------
    counts
        How often each symbol comes, int64, at least ``n`` of them.
    n
        Number of symbols; not all of them may have a count of zero.
    longest
        Most bits that a code may have.
    lengths
        Filled with the number of bits of each code; 0 for symbols that never
        come. A symbol that is alone gets one bit.
    """
    used = 0
    keys = np.empty(n, dtype=np.int64)
    for symbol in range(n):
        lengths[symbol] = 0
        if counts[symbol] > 0:
            keys[used] = counts[symbol] * 512 + symbol
            used += 1
    keys = np.sort(keys[:used])
    if used == 1:
        lengths[keys[0] & 511] = 1
        return
    weights = np.empty(2 * used, dtype=np.int64)
    parents = np.empty(2 * used, dtype=np.int64)
    for leaf in range(used):
        weights[leaf] = keys[leaf] >> 9
    while True:
        # Leaves stand in the order of their weights, and so do the nodes
        # that are made of them: the two lightest are at two places.
        leaf, node = 0, used
        for made in range(used, 2 * used - 1):
            total = 0
            for _ in range(2):
                if leaf < used and (node >= made or weights[leaf] <= weights[node]):
                    total += weights[leaf]
                    parents[leaf] = made
                    leaf += 1
                else:
                    total += weights[node]
                    parents[node] = made
                    node += 1
            weights[made] = total
        depths = weights[used:]
        depths[used - 2] = 0
        for made in range(2 * used - 3, used - 1, -1):
            depths[made - used] = depths[parents[made] - used] + 1
        deepest = 0
        for leaf in range(used):
            depth = depths[parents[leaf] - used] + 1
            lengths[keys[leaf] & 511] = depth
            deepest = max(deepest, depth)
        if deepest <= longest:
            return
        # Weights that differ less make a tree that is less deep.
        for leaf in range(used):
            weights[leaf] = (weights[leaf] + 1) >> 1


@compiled
def codes_of(lengths: np.ndarray, n: int, codes: np.ndarray) -> None:
    """Give the symbols their codes.

    Parameters
    ----------
    lengths
        Number of bits of each code, at least ``n`` of them.
    n
        Number of symbols.
    codes
        Filled with the codes, the first bit the lowest.
    """
    per_length = np.zeros(17, dtype=np.int64)
    for symbol in range(n):
        if lengths[symbol] > 0:
            per_length[lengths[symbol]] += 1
    following = np.zeros(17, dtype=np.int64)
    for bits in range(1, 16):
        following[bits + 1] = (following[bits] + per_length[bits]) << 1
    for symbol in range(n):
        code, reverse = following[lengths[symbol]], 0
        for _ in range(lengths[symbol]):
            reverse = (reverse << 1) | (code & 1)
            code >>= 1
        codes[symbol] = reverse
        following[lengths[symbol]] += lengths[symbol] > 0
