# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Is a product right?

`product` leads: checksums, `row_accounting`, and `pixel_check`, the second
opinion on every pixel, which reads the input images by astropy
(`pixel_inputs`, `input_hdus`, `pixel_extras`).
"""

from __future__ import annotations

__all__: tuple[str, ...] = ()
