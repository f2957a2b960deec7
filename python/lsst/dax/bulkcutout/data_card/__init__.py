# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""The data card: a README.md for each product, generated from its contents.

`card` leads; `pixel_sections` says what the pixels are, `markdown` writes
tables.
"""

from __future__ import annotations

__all__: tuple[str, ...] = ()
