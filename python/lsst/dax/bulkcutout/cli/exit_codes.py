# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Exit codes of ``bulkcutout``, the same for all commands."""

from __future__ import annotations

__all__ = (
    "CANCELLED",
    "EXIT_CODES",
    "FAULTS_FOUND",
    "HELD",
    "OUR_FAULT",
    "PARTIAL",
    "TRY_AGAIN",
    "UNFINISHED",
    "WRONG_USAGE",
    "YOUR_TURN",
)

YOUR_TURN = 1
PARTIAL = 2
FAULTS_FOUND = 3
UNFINISHED = 4
HELD = 5
CANCELLED = 6
WRONG_USAGE = 64
OUR_FAULT = 70
TRY_AGAIN = 75

EXIT_CODES = """
\b
Exit codes:
  0   all is well
  1   something to put right on your side; the message says what
  2   a product was made, but some rows were not processed
  3   verify has found faults, or the photometry is not certified
  4   status: the campaign is prepared, or it runs
  5   status: the campaign is held, and somebody has to look at it
  6   the campaign was cancelled
  64  wrong usage of a command
  70  a fault of this software
  75  storage or another machine failed, or the campaign has stopped; try again
"""
