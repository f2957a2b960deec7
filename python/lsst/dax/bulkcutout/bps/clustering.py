# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Quanta become jobs of about the same length.

BPS imports `pack_quanta` by the name in config/bulkcutout_bps.yaml and gives
it the configuration that it makes the jobs from afterwards; so this is also
where they are given the memory and the time that they need.
"""

from __future__ import annotations

import json
import logging
import uuid
from pathlib import Path

import numpy as np

from lsst.ctrl.bps import BpsConfig, ClusteredQuantumGraph, QuantaCluster
from lsst.pipe.base.quantum_graph import PredictedQuantumGraph

from ..campaign import Campaign, write_atomically
from ..errors import UserError
from ..estimate.cost import SECONDS_PER_JOB
from ..packing import pack
from ..patch_loads import PatchLoads, read_patch_loads
from ..quantum_graph_builder import TASK_LABEL
from .resources import request_resources

__all__ = ("JOBS_NAME", "pack_quanta")

_LOG = logging.getLogger(__name__)

JOBS_NAME = "jobs.json"
"""File in the submit directory: name of each job, and its patches."""

USUAL_SLOTS = 64
"""Where neither the campaign nor the site says how many there are."""


def pack_quanta(config: BpsConfig, qgraph: PredictedQuantumGraph, name: str) -> ClusteredQuantumGraph:
    """Group the quanta of a graph into jobs.

    Parameters
    ----------
    config
        BPS configuration; its section ``packing`` has the bounds.  Memory and
        time are written into it, where the operator has not set them.
    qgraph
        Graph of a campaign.
    name
        Name of the result.

    Returns
    -------
    jobs
        The graph's quanta, each in one job; neighbours in the order of tract
        and patch are together, and the longest job comes first.

    Raises
    ------
    UserError
        Raised if the configuration is wrong, or meant for another algorithm.
    """
    most_minutes = _positive(config, "jobMinutes")
    most_quanta = int(_positive(config, "maxQuanta"))
    _refuse_other_settings(config)
    clustered = ClusteredQuantumGraph(
        name=name, qgraph=qgraph, qgraph_filename=config[".bps_defined.runQgraphFile"]
    )
    quanta = _quanta(clustered)
    places = list(quanta)
    loads = _loads(Campaign(Path(config["campaignDir"])))
    seconds = np.ones(len(places)) if loads is None else _seconds_of(loads, places)
    jobs = pack(
        seconds,
        most_seconds=60.0 * most_minutes,
        most_pieces=most_quanta,
        slots=_slots(config),
        start_seconds=SECONDS_PER_JOB,
    )
    lengths = np.array([SECONDS_PER_JOB + seconds[job].sum() for job in jobs])
    contents: dict[str, list[tuple[int, int]]] = {}
    # What takes longest is not to be begun last.
    for number, index in enumerate(np.argsort(-lengths, kind="stable").tolist(), start=1):
        inside = places[jobs[index]]
        tract, patch = inside[0]
        # BPS keeps the files of jobs by their tags: a directory a tract.
        job = QuantaCluster(f"{TASK_LABEL}_{number:06d}_{tract}_{patch}", TASK_LABEL, {"tract": tract})
        for place in inside:
            job.add_quantum(quanta[place], TASK_LABEL)
        clustered.add_cluster(job)
        contents[job.name] = inside
    write_atomically(Path(config[".bps_defined.submitPath"]) / JOBS_NAME, json.dumps(contents))
    if loads is not None:
        request_resources(config, loads, longest_s=float(lengths.max()))
    _LOG.info(
        "%d quanta in %d jobs of %.0f s on average, the longest %.0f s, as far as can be told.",
        len(places),
        len(jobs),
        lengths.mean(),
        lengths.max(),
    )
    return clustered


def _quanta(clustered: ClusteredQuantumGraph) -> dict[tuple[int, int], uuid.UUID]:
    """The quantum of each patch, ascending."""
    found = {}
    for quantum, info in clustered.qxgraph.nodes.items():
        if info["task_label"] != TASK_LABEL:
            raise UserError(
                f"clusterAlgorithm pack_quanta knows the task {TASK_LABEL} only, and the graph has "
                f"{info['task_label']}."
            )
        data_id = info["data_id"]
        found[int(data_id["tract"]), int(data_id["patch"])] = quantum
    return dict(sorted(found.items()))


def _loads(campaign: Campaign) -> PatchLoads | None:
    try:
        return read_patch_loads(campaign)
    except FileNotFoundError:
        _LOG.warning("%s is not there: all quanta are taken to be equal.", campaign.patch_loads)
        return None


def _seconds_of(loads: PatchLoads, places: list[tuple[int, int]]) -> np.ndarray:
    seconds = dict(zip(loads.places, loads.seconds.tolist(), strict=True))
    return np.array([seconds[place] for place in places])


def _slots(config: BpsConfig) -> int:
    """Number of jobs that run at a time: as the campaign says, as Parsl's
    site says, or a usual number.
    """
    if "slots" in config["packing"]:
        return int(_positive(config, "slots"))
    found, cores = config.search("cores", opt={"curvals": {"curr_site": config["computeSite"]}})
    return int(cores) if found else USUAL_SLOTS


def _positive(config: BpsConfig, key: str) -> float:
    found, value = config.search(f".packing.{key}")
    if not found or isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        raise UserError(f"BPS key packing.{key}: {value!r} is not a positive number.")
    return float(value)


def _refuse_other_settings(config: BpsConfig) -> None:
    """Settings that would be without effect are a mistake."""
    others = sorted(set(config["cluster"]) - {TASK_LABEL})
    if others:
        raise UserError(
            f"BPS key cluster.{others[0]} is for BPS's own dimension_clustering: bound the jobs with "
            "packing.jobMinutes and packing.maxQuanta, or set clusterAlgorithm as well."
        )
    unknown = sorted(set(config["packing"]) - {"jobMinutes", "maxQuanta", "slots"})
    if unknown:
        raise UserError(f"BPS key packing.{unknown[0]} is not known: jobMinutes, maxQuanta and slots are.")
