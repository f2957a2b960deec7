# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Machine instructions that Python has no name for; only kernels call them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

__all__ = ("big_endian_32", "big_endian_64", "leading_zeros")


def _load(word: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        make: Any = cgutils.create_struct_proxy
        array = make(signature.args[0])(context, builder, arguments[0])
        address = builder.bitcast(builder.gep(array.data, [arguments[1]]), word.as_pointer())
        # Any address will do: the load needs no alignment.
        return builder.bswap(builder.load(address, align=1))

    return generate


def _big_endian_64(typing: Any, stream: Any, place: Any) -> Any:
    return types.uint64(stream, types.int64), _load(ir.IntType(64))


def _big_endian_32(typing: Any, stream: Any, place: Any) -> Any:
    return types.uint32(stream, types.int64), _load(ir.IntType(32))


def _leading_zeros(typing: Any, word: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.ctlz(arguments[0], ir.Constant(ir.IntType(1), 0))

    return types.uint64(types.uint64), generate


big_endian_64: Callable[[np.ndarray, int], np.uint64] = cast(Any, intrinsic(_big_endian_64))
"""The eight bytes of a contiguous array that begin at an index, as one number,
the first byte being the highest. The caller knows that all are inside."""

big_endian_32: Callable[[np.ndarray, int], np.uint32] = cast(Any, intrinsic(_big_endian_32))
"""The same of four bytes."""

leading_zeros: Callable[[np.uint64], np.uint64] = cast(Any, intrinsic(_leading_zeros))
"""How many bits above the highest one that is set are not: 64 for zero."""
