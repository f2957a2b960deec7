# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""``python -m lsst.dax.bulkcutout.cli``."""

from __future__ import annotations

from .main import main

if __name__ == "__main__":
    main()
