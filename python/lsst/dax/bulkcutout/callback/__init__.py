# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""A server is told that a campaign is over.

`notify` leads: the last act of ``bulkcutout finish``.  `message` is what it
says, `delivery` sends and tries again, `secret_file` reads and makes the files
with the secrets.  `webhook` (with `secret`) signs, and tells whether a
callback is genuine: it needs the standard library alone, and is what a server
imports.  `receiver` (over `post_server`) is a small server of its own.
"""

from __future__ import annotations

__all__: tuple[str, ...] = ()
