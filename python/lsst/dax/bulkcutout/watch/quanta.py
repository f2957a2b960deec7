# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Which quanta of a campaign have finished, and what they have left.

By names of files in the campaign's datastore, and the metadata of each
quantum: no graph is read, no cutout dataset opened, because campaigns have
tens of thousands, and people look at them every minute.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
import os
from collections.abc import Iterable
from pathlib import Path

from ..campaign import Campaign
from ..quantum_graph_builder import TASK_LABEL
from ..quantum_output import read_list
from ..tables import DELIVERED

__all__ = ("FinishedQuantum", "FinishedQuanta")

_METADATA = f"{TASK_LABEL}_metadata"
_CUTOUTS = "_bulk_cutouts"


@dataclasses.dataclass(frozen=True)
class FinishedQuantum:
    """A quantum that has run to its end."""

    run: str
    """Run that its outputs belong to."""

    counts: dict[str, int]
    """Targets by status; empty if the quantum has not said."""

    bytes: int
    """Size of its cutout dataset."""

    started: float
    """When it began, seconds since 1970; NaN if not known."""

    ended: float
    """When it ended."""


class FinishedQuanta:
    """The finished quanta of a campaign.

    If they are asked for again, only what is new is read.

    Parameters
    ----------
    campaign
        The campaign.
    """

    def __init__(self, campaign: Campaign) -> None:
        self._campaign = campaign
        self._runs: dict[Path, tuple[int, str]] = {}
        self._known: dict[str, FinishedQuantum] = {}

    def read(self) -> dict[tuple[int, int], FinishedQuantum]:
        """Find the quanta that have finished up to now.

        Returns
        -------
        quanta
            By tract and patch.  Where several attempts have, the first one
            counts, as for the product.
        """
        found: dict[tuple[int, int], FinishedQuantum] = {}
        for output in read_list(self._campaign.registered) if self._campaign.registered.exists() else ():
            metadata = (
                self._campaign.datastore / output.run / _METADATA / str(output.tract) / str(output.patch)
            )
            names = _files(metadata, _METADATA)
            # Of another campaign, which has the metadata.
            nothing = FinishedQuantum(output.run, {}, 0, float("nan"), float("nan"))
            place = output.tract, output.patch
            found[place] = self._read_metadata(names[0], output.run) if names else nothing
        for run in self.runs():
            root = self._campaign.datastore / run
            cutouts: set[tuple[int, int]] = set().union(
                *(_places(path) for path in _directories(root) if path.endswith(_CUTOUTS))
            )
            for place, name in _places(os.path.join(root, _METADATA)).items():
                # One without the other is what a killed quantum leaves.
                if place not in found and place in cutouts:
                    found[place] = self._read_metadata(name, run)
        return found

    def runs(self) -> list[str]:
        """List the runs of all graphs of the present plan.

        Returns
        -------
        runs
            The oldest first.
        """
        from lsst.pipe.base.quantum_graph import PredictedQuantumGraph

        names: dict[str, None] = {}
        for path in self._campaign.graph_files():
            changed = path.stat().st_mtime_ns
            if self._runs.get(path, (0, ""))[0] != changed:
                with PredictedQuantumGraph.open(str(path)) as graph:
                    self._runs[path] = changed, str(graph.header.output_run)
            names[self._runs[path][1]] = None
        return list(names)

    def _read_metadata(self, name: str, run: str) -> FinishedQuantum:
        if name not in self._known:
            self._known[name] = _read_metadata(name, run)
        return self._known[name]


def _read_metadata(name: str, run: str) -> FinishedQuantum:
    with open(name, "rb") as stream:
        contents = json.load(stream)["metadata"]
    task, times = contents[TASK_LABEL], contents["quantum"]["arrays"]
    counts = task["metadata"].get("counts", {}).get("scalars", {DELIVERED: task["scalars"]["rows"]})
    return FinishedQuantum(
        run=run,
        counts={status: int(n) for status, n in counts.items()},
        bytes=int(task["scalars"]["bytes"]),
        started=_seconds(times["startUtc"]),
        ended=_seconds(times["endUtc"]),
    )


def _seconds(times: Iterable[str]) -> float:
    (time,) = times
    return datetime.datetime.fromisoformat(time).timestamp()


def _places(root: str) -> dict[tuple[int, int], str]:
    """Files of one dataset type, by tract and patch: the names of two levels
    of directories.
    """
    dataset_type = os.path.basename(root)
    found = {}
    for tract in _directories(root):
        for patch in _directories(tract):
            # What is being written has another name up to its end.
            for name in _files(patch, dataset_type):
                found[int(os.path.basename(tract)), int(os.path.basename(patch))] = name
    return found


def _directories(root: str | Path) -> list[str]:
    return [entry.path for entry in _entries(root) if entry.is_dir()]


def _files(root: str | Path, prefix: str) -> list[str]:
    return [entry.path for entry in _entries(root) if entry.name.startswith(prefix)]


def _entries(root: str | Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(root) as entries:
            return list(entries)
    except FileNotFoundError:
        return []
