# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Compile all kernels for this machine, so that no job needs to."""

from __future__ import annotations

import time

from .code_cache import cache_directory
from .warm import warm

if __name__ == "__main__":
    started = time.monotonic()
    warm()
    print(
        f"Kernels for this kind of processor are in {cache_directory()} ({time.monotonic() - started:.1f} s)."
    )
