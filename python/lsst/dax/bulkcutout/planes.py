# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""What can be delivered of an image, in the words of a request."""

from __future__ import annotations

__all__ = ("BACKGROUND_NONE", "BACKGROUND_STORED", "DEFAULT_PLANES", "EXTRA_PLANES", "PLANES")

PLANES = ("image", "variance", "mask", "psf", "noise", "mask_fraction")
"""What can be delivered for a target."""

DEFAULT_PLANES = ("image", "mask")
"""What is delivered where the request does not say."""

EXTRA_PLANES = ("noise", "mask_fraction")
"""Those that are sets of planes, of a number that the images decide."""

BACKGROUND_STORED = "stored"
"""The background that asks for the pixels as they are in the file."""

BACKGROUND_NONE = "none"
"""The background that asks for no model to be subtracted."""
