# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Quanta of a job, with one Butler for all; the reference is ``pipetask``."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from lsst.dax.bulkcutout.campaign import Campaign
from lsst.dax.bulkcutout.quantum_graph_builder import build_graph
from lsst.dax.bulkcutout.quantum_runner import run_quanta
from lsst.dax.bulkcutout.tests import SkyRepository
from lsst.dax.bulkcutout.tests.campaigns import prepare_here, write_request
from lsst.dax.bulkcutout.zipfile_fault import mend_zipfile
from lsst.pipe.base.quantum_graph import PredictedQuantumGraph

RUN = "u/test/runner"


def built(directory: Path, repo: SkyRepository, catalog: Path) -> tuple[Campaign, Path]:
    """A campaign that is initialised, and its graph."""
    from lsst.ctrl.mpexec.cli.script.pre_exec_init_qbb import pre_exec_init_qbb

    directory.mkdir()
    request = write_request(directory, repo, catalog)
    campaign = prepare_here(request)
    graph = directory / "graph.qg"
    build_graph(campaign, graph, output_run=RUN, request_file=request)
    with mend_zipfile():
        pre_exec_init_qbb(str(campaign.butler_config), str(graph), None, None)
    return campaign, graph


def outputs(campaign: Campaign) -> dict[str, Path]:
    """Files of the campaign's datastore, by names that hold no identifier."""
    files = [path for path in campaign.datastore.rglob("*") if path.is_file()]
    return {path.relative_to(campaign.datastore).as_posix(): path for path in files}


def test_outputs_are_those_of_pipetask(
    tmp_path: Path, coded_repo: SkyRepository, coded_catalog: Path
) -> None:
    ours, graph = built(tmp_path / "ours", coded_repo, coded_catalog)
    run_quanta(ours.butler_config, graph)

    theirs, graph = built(tmp_path / "theirs", coded_repo, coded_catalog)
    with mend_zipfile():
        quanta = list(PredictedQuantumGraph.read_execution_quanta(str(graph)))
    assert len(quanta) > 1
    subprocess.run(
        [Path(sys.executable).with_name("pipetask"), "run-qbb", theirs.butler_config, graph]
        # One at a time, which the fault of `zipfile_fault` leaves alone.
        + ["--qgraph-node-id", str(quanta[0])],
        check=True,
    )
    assert outputs(theirs).keys() < outputs(ours).keys()
    for quantum in quanta[1:]:
        run_quanta(theirs.butler_config, graph, [quantum])
    assert outputs(theirs).keys() == outputs(ours).keys()
    cutouts = {name: path for name, path in outputs(theirs).items() if name.endswith(".hdf5")}
    assert len(cutouts) == len(quanta)
    for name, path in cutouts.items():
        assert outputs(ours)[name].read_bytes() == path.read_bytes()


def test_quanta_that_are_done_are_left_alone(
    tmp_path: Path, coded_repo: SkyRepository, coded_catalog: Path
) -> None:
    campaign, graph = built(tmp_path / "run", coded_repo, coded_catalog)
    with mend_zipfile():
        first, *others = PredictedQuantumGraph.read_execution_quanta(str(graph))
    run_quanta(campaign.butler_config, graph, [first])
    before = {name: path.stat().st_mtime_ns for name, path in outputs(campaign).items()}

    run_quanta(campaign.butler_config, graph)

    after = {name: path.stat().st_mtime_ns for name, path in outputs(campaign).items()}
    assert {name: time for name, time in after.items() if name in before} == before
    assert len([name for name in after if name.endswith(".hdf5")]) == 1 + len(others)


@pytest.mark.parametrize("quanta", ["none", "1234,x", ""])
def test_quanta_that_are_no_identifiers_are_refused(tmp_path: Path, quanta: str) -> None:
    command = ["run-quanta", tmp_path / "campaign-butler.yaml", tmp_path / "graph.qg"]
    refused = subprocess.run(
        [Path(sys.executable).with_name("bulkcutout"), *command, "--qgraph-node-id", quanta],
        capture_output=True,
        text=True,
    )
    assert refused.returncode != 0
    assert re.search("--qgraph-node-id.*is no list of UUIDs", refused.stderr)
