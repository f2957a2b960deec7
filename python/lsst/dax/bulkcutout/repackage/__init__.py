# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Cutout datasets of patches become the data files of the product.

`product_files` divides the targets among files, `piece_rows` finds them,
`row_answers` says what became of each, `repackager` writes a file, and
`packagers` are the processes that do it side by side.
"""

from __future__ import annotations

__all__: tuple[str, ...] = ()
