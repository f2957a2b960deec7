# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Which software this is: versions of the middleware and of this package."""

from __future__ import annotations

import importlib
import importlib.metadata
from collections.abc import Mapping

from .errors import UserError

__all__ = ("PINNED", "OtherSoftwareError", "difference", "installed_software", "version_of")

PINNED = (
    "lsst-dax-bulkcutout",
    "lsst-daf-butler",
    "lsst-images",
    "lsst-ctrl-mpexec",
    "lsst-pex-config",
    "lsst-pipe-base",
    "lsst-resources",
    "lsst-sphgeom",
    "lsst-utils",
)
"""What takes part in cutting and is released as a weekly, and this package.
Not BPS, which jobs do not need."""


class OtherSoftwareError(UserError):
    """The software is not that of the campaign: trying again helps nobody."""


def installed_software() -> dict[str, str]:
    """List the versions of what is pinned.

    Returns
    -------
    versions
        By package; one that is not installed, or does not tell, is left out.
    """
    return {package: version for package in PINNED if (version := version_of(package)) is not None}


def version_of(package: str) -> str | None:
    """Find the version of a package.

    Parameters
    ----------
    package
        Name of its distribution, such as lsst-daf-butler.

    Returns
    -------
    version
        As its distribution says; in an EUPS stack, where there are none, as
        the package's own module says; `None` if neither does.
    """
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        pass
    try:
        module = importlib.import_module(f"{package.replace('-', '.')}.version")
    except ImportError:
        return None
    return getattr(module, "__version__", None)


def difference(before: Mapping[str, str], now: Mapping[str, str]) -> str:
    """Say in what two sets of software differ.

    Parameters
    ----------
    before
        Versions that there should be, by package.
    now
        Those that there are.

    Returns
    -------
    text
        Each package that differs, with both versions; empty if none does.
    """
    return ", ".join(
        f"{package} {now.get(package, 'missing')} in place of {before.get(package, 'none')}"
        for package in sorted(before.keys() | now.keys())
        if before.get(package) != now.get(package)
    )
