# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""How a product was made: all that its data files do not depend on."""

from __future__ import annotations

import contextlib
import datetime
import importlib.metadata
import platform
import socket
from collections.abc import Mapping

from .campaign import Campaign, Plan
from .quantum_output import QuantumOutput

__all__ = ("describe_execution", "utc_now")


def describe_execution(
    campaign: Campaign,
    plan: Plan,
    outputs: Mapping[tuple[int, int], QuantumOutput],
    keys: Mapping[str, str],
    *,
    cancelled: Mapping[str, object] | None = None,
) -> dict[str, object]:
    """Describe how a product was made.

    Parameters
    ----------
    campaign, plan
        The campaign and its plan.
    outputs
        State of its quanta.
    keys
        What each data file was made from, by its path.
    cancelled
        Who cancelled the campaign and when, if anybody did.

    Returns
    -------
    execution
        For the manifest.
    """
    packages = ("lsst-dax-bulkcutout", "lsst-daf-butler", "lsst-pipe-base", "lsst-ctrl-bps", "numpy", "h5py")
    versions = {"python": platform.python_version()}
    for package in packages:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    return {
        "campaign": str(campaign.root),
        "runs": sorted({output.run for output in outputs.values()}),
        "finished": utc_now(),
        "host": socket.gethostname(),
        "versions": versions,
        "quanta": {"all": len(outputs), "done": sum(output.done for output in outputs.values())},
        "warnings": list(plan.warnings),
        "inputs": {key: path for output in outputs.values() for key, path in sorted(output.inputs.items())},
        "sources": dict(keys),
        **({} if cancelled is None else {"cancelled": dict(cancelled)}),
    }


def utc_now() -> str:
    """Write down the time.

    Returns
    -------
    time
        UTC, to the second (ISO 8601).
    """
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
