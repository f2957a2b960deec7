# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""What allocateNodes of lsst-ctrl-execute must know of the test pool.

It looks for a package ``lsst.ctrl.platform.NAME`` with these files in it; no
directory above this one may be a package, or it would hide those of the same
name that are installed.  ``$NAME`` in a template is replaced wherever it
stands, even at the beginning of a longer name, so variables of the shell are
written ``${NAME}``.
"""
