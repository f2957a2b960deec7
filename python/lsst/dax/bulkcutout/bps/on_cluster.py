# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""The graph is built by a job of the cluster, not where one submits."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..errors import UserError
from ..zipfile_fault import mend_zipfile
from .attempts import HTCONDOR

__all__ = ("check_that_site_builds", "leave_the_outer_dag", "prepare_jobs")

SUBMIT_FILE = ".dag.condor.sub"


def check_that_site_builds(site_config: Path) -> None:
    """Refuse a site whose workflow system cannot build graphs.

    Parameters
    ----------
    site_config
        BPS configuration of the site.

    Raises
    ------
    UserError
        Raised if it is not a site of HTCondor.
    """
    from lsst.ctrl.bps import BPS_DEFAULTS, BpsConfig

    config = BpsConfig(str(site_config))
    service = config["wmsServiceClass"] if "wmsServiceClass" in config else BPS_DEFAULTS["wmsServiceClass"]
    if service != HTCONDOR:
        raise UserError(
            f"With the site {site_config.stem} the graph is built where you submit: leave --build-on-cluster "
            "out, or choose a site of HTCondor."
        )


def prepare_jobs(arguments: Sequence[str]) -> None:
    """Make jobs of a graph that another job has built.

    Parameters
    ----------
    arguments
        Those of ``bps batch-prepare``.
    """
    from lsst.ctrl.bps.cli.bps import cli as bps

    with mend_zipfile():
        bps(["--long-log", "--log-level", "VERBOSE", "batch-prepare", *arguments])


def leave_the_outer_dag(directory: Path) -> None:
    """Have ``bps restart`` take up the DAG that all others are in.

    Parameters
    ----------
    directory
        Submit directory of a run that has ended.

    Notes
    -----
    Where a job has built the graph there are two DAGs, and BPS restarts the
    one whose file it happens to find first.  DAGMan makes the inner one's
    again when its turn comes.
    """
    for outer in directory.glob(f"*_ctrl{SUBMIT_FILE}"):
        inner = outer.name.removesuffix(f"_ctrl{SUBMIT_FILE}") + SUBMIT_FILE
        outer.with_name(inner).unlink(missing_ok=True)
