# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Memory and time that jobs ask for, from the rows and bytes that they have.

An operator's own values stay: whatever differs from config/bulkcutout_bps.yaml
is taken for one.
"""

from __future__ import annotations

import logging
import math
from typing import Any

import yaml

from lsst.ctrl.bps import BpsConfig

from ..estimate.cost import SECONDS_PER_PACKAGED_MB
from ..patch_loads import PatchLoads
from ..quantum_graph_builder import TASK_LABEL
from ..submit import CONFIG_DIRECTORY

__all__ = ("request_resources",)

_LOG = logging.getLogger(__name__)
# Measured in November 2026; doc/sites.rst has the table.
LIBRARIES_MB = 400
"""A job that has cut one target holds 320 MB, of which the compiler of the
kernels has 130."""

ROWS_MB = 100
"""For columns of targets: 250,000 rows are read at a time."""

DECODED = 4
"""Decoded pixels, by bytes of an image's file."""

PROCESS_MB = 768
"""Most that each process of finish adds."""

PROCESS_BYTES = 256_000_000
"""Finish starts a process for so many bytes of the product."""

FINISH_MB = 320
FINISH_MB_PER_QUANTUM = 0.03
FINISH_SECONDS_PER_QUANTUM = 0.025

ROUND_MB = 256

# A shared storage can be slow for a while; a job that is killed for its time
# has cost more than one that waited a little longer for a slot.
SAFETY = 4
SPARE_MINUTES = 10
ROUND_MINUTES = 10
LEAST_GLIDEIN_MINUTES = 60


def request_resources(config: BpsConfig, loads: PatchLoads, *, longest_s: float) -> None:
    """Have jobs ask for what they need.

    Parameters
    ----------
    config
        BPS configuration, which is changed.
    loads
        The work of the campaign.
    longest_s
        Estimated time of the longest job that cuts.

    Notes
    -----
    ``requestWalltime`` is in minutes.  Parsl's executors and PanDA go by it;
    BPS's HTCondor plugin does not, for there the life of the glidein is what
    counts: ``provisioningMaxWallTime``, for a run that brings its own.
    """
    with (CONFIG_DIRECTORY / "bulkcutout_bps.yaml").open() as stream:
        shipped = yaml.safe_load(stream)
    n_quanta, product = len(loads.places), float(loads.product_bytes.sum())
    processes = min(int(config[".finalJob.requestCpus"]), max(1, math.ceil(product / PROCESS_BYTES)))
    finish_s = SECONDS_PER_PACKAGED_MB * 1e-6 * product + FINISH_SECONDS_PER_QUANTUM * n_quanta
    cut_minutes, finish_minutes = _minutes(longest_s), _minutes(finish_s)
    _set(config, shipped, ("pipetask", TASK_LABEL), "requestMemory", _cut_memory_mb(loads))
    _set(
        config,
        shipped,
        ("finalJob",),
        "requestMemory",
        _rounded(FINISH_MB + PROCESS_MB * processes + FINISH_MB_PER_QUANTUM * n_quanta, ROUND_MB),
    )
    # For a job as a whole: in the section of the task it would be added up.
    _set(config, shipped, ("cluster", TASK_LABEL), "requestWalltime", cut_minutes)
    _set(config, shipped, ("finalJob",), "requestWalltime", finish_minutes)
    hours = _rounded(max(2 * cut_minutes, 2 * finish_minutes, LEAST_GLIDEIN_MINUTES), 60) // 60
    _set(config, shipped, ("provisioning",), "provisioningMaxWallTime", f"{hours:02d}:00:00")


def _cut_memory_mb(loads: PatchLoads) -> int:
    """Memory of a job, which is that of its most demanding quantum."""
    pixels_mb = 1e-6 * (DECODED * loads.image_bytes + 2 * loads.product_bytes)
    most = min(loads.max_memory_mb, int(pixels_mb.max()))
    rows_mb = ROWS_MB * min(1.0, loads.rows.max() / 250_000)
    return _rounded(LIBRARIES_MB + most + rows_mb, ROUND_MB)


def _minutes(seconds: float) -> int:
    return _rounded(SPARE_MINUTES + SAFETY * seconds / 60.0, ROUND_MINUTES)


def _rounded(value: float, step: int) -> int:
    return step * math.ceil(value / step)


def _set(
    config: BpsConfig, shipped: dict[str, Any], section: tuple[str, ...], key: str, value: int | str
) -> None:
    """Set a value that the operator has not."""
    ours: Any = shipped
    for name in section:
        ours = ours.get(name, {})
    path = "." + ".".join((*section, key))
    found, there = config.search(path)
    if found and there != ours.get(key):
        _LOG.info("%s is %s, as the operator wants it.", path[1:], there)
        return
    config[path] = value
