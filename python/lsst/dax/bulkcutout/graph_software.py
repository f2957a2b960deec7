# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""The software that a graph was built with, and whether it is this one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lsst.pipe.base.pipeline_graph import TaskImportMode
from lsst.pipe.base.quantum_graph import PredictedQuantumGraph

from .campaign import Campaign
from .software import OtherSoftwareError, difference, installed_software
from .zipfile_fault import mend_zipfile

__all__ = ("check_attempts", "check_graph", "graph_metadata")

KEY = "software"
"""Where it stands in the metadata of the graph."""


def graph_metadata(campaign: Campaign) -> dict[str, Any]:
    """Give what a graph says of itself.

    Parameters
    ----------
    campaign
        The campaign that it belongs to.

    Returns
    -------
    metadata
        For the graph's header.
    """
    return {"campaign": str(campaign.root), KEY: installed_software()}


def check_graph(graph: str | Path) -> None:
    """Refuse to run under another software than the graph's.

    Parameters
    ----------
    graph
        Path or URI of the graph; only its header is read.

    Raises
    ------
    OtherSoftwareError
        Raised if a version differs.
    """
    if differs := difference(_software(graph), installed_software()):
        raise OtherSoftwareError(
            f"Graph {graph} was built with another software than that of this job, which has {differs}. All "
            "jobs of a campaign need the same: set up on the nodes what the graph was built with, or begin a "
            "new campaign."
        )


def check_attempts(campaign: Campaign, remedy: str) -> None:
    """Refuse to go on with a campaign under another software.

    Parameters
    ----------
    campaign
        The campaign; the software of its newest graph counts.
    remedy
        What to do to have a product that is mixed, for the message.

    Raises
    ------
    OtherSoftwareError
        Raised if a version differs.
    """
    # Graphs that were put aside when the request changed count, too: cutouts
    # that they made are still used.
    graphs = campaign.graph_files() or sorted(campaign.graphs.glob("before-*/*.qg"))
    if graphs and (differs := difference(_software(graphs[-1]), installed_software())):
        raise OtherSoftwareError(
            f"Campaign {campaign.root} was begun with another software than this one, which has {differs}. A "
            "product comes from one software: set up the one it was begun with, or begin a new campaign; or "
            f"have it mixed, with {remedy}."
        )


def _software(graph: str | Path) -> Mapping[str, str]:
    with (
        mend_zipfile(),
        PredictedQuantumGraph.open(str(graph), import_mode=TaskImportMode.DO_NOT_IMPORT) as reader,
    ):
        # A graph from before this was kept is like any.
        return reader.header.metadata.get(KEY) or installed_software()
