# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Loops over pixels and bytes, compiled by numba: the only code that is.

A kernel gets arrays and plain numbers, fills arrays of its caller, and knows
no file, no header and no error class. It checks every index that comes from
a file itself, because compiled code does not, and holds no lock while it
works. Importing one costs the import of numba: import kernels where they are
called, not where a module begins.
"""

__all__: tuple[str, ...] = ()
