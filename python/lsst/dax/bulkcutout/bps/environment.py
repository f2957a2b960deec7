# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""What BPS and HTCondor look for in the environment of who submits."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from lsst.ctrl.bps import BpsConfig

__all__ = ("set_environment",)

FORWARDED = "DAGMAN_MANAGER_JOB_APPEND_GETENV"
"""HTCondor's setting: variables that jobs get besides the usual ones."""


def set_environment(config_file: Path) -> None:
    """Set what BPS is going to look for; what is set already is left.

    Parameters
    ----------
    config_file
        BPS configuration of the run; it may be lacking.

    Notes
    -----
    To be called before the plugin for HTCondor is imported, because HTCondor
    reads the environment then.
    """
    # BPS finds programs by PATH, and those of this installation are to win.
    programs = Path(sys.executable).parent
    path = os.environ.get("PATH", "")
    if path.split(os.pathsep)[0] != str(programs):
        os.environ["PATH"] = f"{programs}{os.pathsep}{path}"
    # EUPS sets it; after pip allocateNodes is where our own program is.
    if (programs / "allocateNodes.py").exists():
        os.environ.setdefault("CTRL_EXECUTE_DIR", str(programs.parent))
    # BPS passes the setting on only to an HTCondor that lists it among its
    # own, which 24.0 does not, though it obeys it.
    config = BpsConfig(str(config_file) if config_file.exists() else {})
    names = config[f".wmsConfig.{FORWARDED}"] if "wmsConfig" in config else ""
    if names:
        os.environ.setdefault(f"_CONDOR_{FORWARDED}", " ".join(str(names).split()))
