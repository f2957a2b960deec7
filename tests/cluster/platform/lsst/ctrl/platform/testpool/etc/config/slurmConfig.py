# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""SLURM of the test pool, for allocateNodes, which defines ``config``."""

# ruff: noqa: F821
config.platform.queue = "milano"
config.platform.scratchDirectory = "$USER_SCRATCH/condor_scratch"
config.platform.loginHostName = "127.0.0.1"
config.platform.utilityPath = "/usr/bin"
