# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""The command line: ``bulkcutout``.

A command is some lines that call one function: those that begin a campaign in
`submission`, those that steer it in `campaigns`, those that look at a product
in `products`, those that BPS runs in `jobs`, those around callbacks in
`callbacks`.  `main` turns errors into exit
codes.
"""

from __future__ import annotations

# The five modules add their commands to `cli`.
from . import callbacks, campaigns, jobs, products, submission
from .main import main
from .root import cli

__all__ = ("callbacks", "campaigns", "cli", "jobs", "main", "products", "submission")
