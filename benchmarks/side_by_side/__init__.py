# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Side by side with the tools that users have today.

``bin/benchmark`` runs `__main__`. `data` makes the images, `targets` the
positions, `peers` the environments of the other tools; ``tools/`` has a
script for each tool, which runs in its environment; `measure` runs one of
them, `check` compares what it gave, `run` takes them all in turn, `page`
writes the page.
"""
