# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Runs the command line; errors become exit codes."""

from __future__ import annotations

import sys

from .error_exits import exit_code_of
from .root import cli

__all__ = ("main",)


def main() -> None:
    """Run the command line; exit with one of the codes that --help lists."""
    sys.exit(exit_code_of(lambda: cli(standalone_mode=False)))
