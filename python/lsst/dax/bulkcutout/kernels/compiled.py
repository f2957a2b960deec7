# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""How kernels are compiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import numba

from .code_cache import keep_compiled

__all__ = ("compiled",)


def compiled[F: Callable[..., object]](function: F) -> F:
    """Compile a function when it is called first, and keep what was compiled.

    Parameters
    ----------
    function
        What to compile. It may call other kernels.

    Returns
    -------
    kernel
        The compiled function. It releases the GIL and does not check the
        bounds of arrays; a division by zero gives what NumPy gives, and
        arithmetic is exact as written: nothing is contracted or reordered.
    """
    kernel = numba.njit(nogil=True, error_model="numpy")(function)
    keep_compiled(kernel, function)
    return cast(F, kernel)
