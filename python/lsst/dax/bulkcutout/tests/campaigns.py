# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Campaigns run in this process, without BPS.

The steps are those of a real run and use the same code: build-graph,
``pipetask pre-exec-init-qbb``, `quantum_runner` for each quantum, finish.
Tests of failures need this: a quantum can be made to die at a chosen place.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
import uuid
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any, Literal

from lsst.pipe.base.quantum_graph import PredictedQuantumGraph

from ..campaign import Campaign
from ..finish import finish
from ..quantum_graph_builder import build_graph
from ..quantum_runner import run_quanta
from ..zipfile_fault import mend_zipfile
from .repositories import SkyRepository

__all__ = ("KillPlace", "init_and_run", "kill_at", "prepare_here", "run_graph", "run_here", "write_request")

KillPlace = Literal["before", "after_cutouts"]
"""Where a quantum dies: before it does anything, or between the writing of
the cutout dataset and of the metadata."""

_attempts = itertools.count()


def write_request(directory: Path, repo: SkyRepository, catalog: Path, /, **fields: Any) -> Path:
    """Write a request for images of a test repository.

    Parameters
    ----------
    directory
        Where to put the file; the output goes to ``out`` there.
    repo
        The repository.
    catalog
        The catalog.
    **fields
        Fields of the request, to add or to replace.

    Returns
    -------
    path
        The request file.
    """
    request = {
        "schema_version": 1,
        "request_id": "test",
        "catalog": {"uri": str(catalog)},
        "butler": str(repo.root),
        "collections": [repo.collection],
        "dataset_type": repo.dataset_type,
        "size": 24,
        # Four planes, because most tests look at them; users get fewer.
        "planes": ["image", "variance", "mask", "psf"],
        "output": "out",
        **fields,
    }
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / "request.json"
    path.write_text(json.dumps(request))
    return path


def prepare_here(request: Path) -> Campaign:
    """Name the campaign directory beside a request.

    Parameters
    ----------
    request
        Request file.

    Returns
    -------
    campaign
        Not made yet: `init_and_run` does that.
    """
    return Campaign(request.parent / "campaign")


def init_and_run(
    request: Path,
    *,
    fail: Collection[tuple[int, int]] = (),
    place: KillPlace = "before",
    output_run: str | None = None,
) -> Campaign:
    """Build a graph and run its quanta.

    Parameters
    ----------
    request
        Request file.
    fail
        Patches ``(tract, patch)`` whose quantum fails.
    place
        Where it fails.
    output_run
        RUN collection; by default a new one.

    Returns
    -------
    campaign
        The campaign, not finished.
    """
    campaign = prepare_here(request)
    graph = request.parent / "graph.qg"
    run = output_run or f"u/test/{next(_attempts)}"
    build_graph(campaign, graph, output_run=run, request_file=request)
    run_graph(campaign, graph, fail=fail, place=place)
    return campaign


def run_graph(
    campaign: Campaign,
    graph: Path,
    *,
    fail: Collection[tuple[int, int]] = (),
    place: KillPlace = "before",
) -> None:
    """Run the quanta of a graph.

    Parameters
    ----------
    campaign
        The campaign.
    graph
        A graph of it.
    fail
        Patches ``(tract, patch)`` whose quantum fails.
    place
        Where it fails.
    """
    # Imported here: these are slow, and some tests need only write_request.
    from lsst.ctrl.mpexec.cli.script.pre_exec_init_qbb import pre_exec_init_qbb

    _list_packages_once()
    with mend_zipfile():
        pre_exec_init_qbb(str(campaign.butler_config), str(graph), None, None)
        loaded = PredictedQuantumGraph.read_execution_quanta(str(graph))
        good: list[uuid.UUID] = []
        doomed: list[uuid.UUID] = []
        for key, quantum in loaded.build_execution_quanta().items():
            assert quantum.dataId is not None
            patch = (int(quantum.dataId["tract"]), int(quantum.dataId["patch"]))
            (doomed if patch in fail else good).append(key)
        # Those that fail are jobs of their own.
        for keys in [good, *([key] for key in doomed)]:
            if not keys:
                continue
            sabotage = contextlib.nullcontext() if keys is good else kill_at(place, _raise)
            with sabotage, contextlib.suppress(*([] if keys is good else [Exception])):
                run_quanta(campaign.butler_config, graph, keys)


def run_here(
    request: Path, *, fail: Collection[tuple[int, int]] = (), place: KillPlace = "before"
) -> tuple[Campaign, int]:
    """Run a request to its end.

    Parameters
    ----------
    request
        Request file.
    fail
        Patches ``(tract, patch)`` whose quantum fails.
    place
        Where it fails.

    Returns
    -------
    campaign
        The campaign.
    status
        What `finish` gave.
    """
    campaign = init_and_run(request, fail=fail, place=place)
    return campaign, finish(campaign)


@contextlib.contextmanager
def kill_at(
    place: KillPlace, action: Callable[[], None], *, patch: tuple[int, int] | None = None
) -> Iterator[None]:
    """Do something at a certain place in every quantum, or in one.

    Parameters
    ----------
    place
        The place.
    action
        What to do there: kill this process, or raise.
    patch
        Tract and patch of the quantum; `None` for every one.

    Yields
    ------
    nothing
        Quanta die inside the context.
    """
    from lsst.daf.butler import Quantum
    from lsst.pipe.base.single_quantum_executor import SingleQuantumExecutor

    name = {"before": "_run_quantum", "after_cutouts": "_write_metadata"}[place]
    original = getattr(SingleQuantumExecutor, name)

    def doomed(*args: Any, **kwargs: Any) -> Any:
        (quantum,) = (arg for arg in args if isinstance(arg, Quantum))
        data_id = quantum.dataId
        assert data_id is not None
        if patch is None or (data_id["tract"], data_id["patch"]) == patch:
            action()
        return original(*args, **kwargs)

    setattr(SingleQuantumExecutor, name, doomed)
    try:
        yield
    finally:
        setattr(SingleQuantumExecutor, name, original)


def _list_packages_once() -> None:
    """The list of installed packages, which every run writes down, takes
    longer than the rest of a small run.
    """
    from lsst.utils import packages

    if not hasattr(packages.getPythonPackages, "cache_info"):
        setattr(packages, "getPythonPackages", functools.cache(packages.getPythonPackages))  # noqa: B010


def _raise() -> None:
    raise RuntimeError("The test made this quantum fail.")
