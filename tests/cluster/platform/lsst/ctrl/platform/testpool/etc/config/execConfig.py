# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""How the test pool is, for allocateNodes, which defines ``config``."""

# ruff: noqa: F821
config.platform.scheduler = "slurm"
config.platform.localScratch = "$USER_SCRATCH/condor_scratch"
config.platform.fileSystemDomain = "pool.test"
# With --auto a glidein has 16 CPUs, whatever is said here, so the nodes of a
# pool that is to have such glideins claim as many; MiB.
config.platform.peakcpus = 16
config.platform.peakmemory = 8000
config.platform.collector = "127.0.0.1"
