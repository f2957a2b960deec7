# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""The runs of a campaign, by the submit directories that BPS has left."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from ..campaign import Campaign

__all__ = ("HTCONDOR", "attempts", "saved_config")

HTCONDOR = "lsst.ctrl.bps.htcondor.HTCondorService"
"""BPS's name of HTCondor, its key ``wmsServiceClass``."""


def attempts(campaign: Campaign) -> list[Path]:
    """List the submit directories of all runs.

    Parameters
    ----------
    campaign
        The campaign.

    Returns
    -------
    directories
        The oldest first.
    """
    # Their names are times; BPS's own files tell them from anything else.
    return sorted({path.parent for path in campaign.submit.glob("*/*_config.yaml")})


def saved_config(directory: Path) -> dict[str, Any]:
    """Read what BPS was told for a run, with all that is included.

    Parameters
    ----------
    directory
        Submit directory of the run.

    Returns
    -------
    config
        The keys; empty if it has none.

    Raises
    ------
    OSError, yaml.YAMLError
        Raised if the file cannot be read.
    """
    path = sorted(directory.glob("*_config.yaml"))[0]
    # Some hundred lines: a blink in C.
    contents = yaml.load(path.read_text(), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    return contents if isinstance(contents, dict) else {}
