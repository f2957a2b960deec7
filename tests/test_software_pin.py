# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Jobs, finish and restart refuse another software than the graph's."""

from __future__ import annotations

import importlib.metadata
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

import lsst
from lsst.dax.bulkcutout.campaign import Campaign
from lsst.dax.bulkcutout.cli import cli
from lsst.dax.bulkcutout.errors import UserError
from lsst.dax.bulkcutout.finish import COMPLETE, finish
from lsst.dax.bulkcutout.graph_software import check_graph
from lsst.dax.bulkcutout.quantum_graph_builder import build_graph
from lsst.dax.bulkcutout.restart import restart
from lsst.dax.bulkcutout.software import PINNED, OtherSoftwareError, installed_software, version_of
from lsst.dax.bulkcutout.tests import SkyRepository
from lsst.dax.bulkcutout.tests.campaigns import init_and_run, run_graph, write_request
from lsst.pipe.base.quantum_graph import PredictedQuantumGraph

OTHER = "30.2026.4400"


@pytest.fixture
def campaign(tmp_path: Path, tiny_repo: SkyRepository, tiny_catalog: Path) -> Campaign:
    """All quanta have run but one; it is not packaged."""
    return init_and_run(write_request(tmp_path, tiny_repo, tiny_catalog, size=9), fail=[(3, 1)])


def change_version(monkeypatch: pytest.MonkeyPatch, package: str = "lsst-daf-butler") -> None:
    """Have one package be of the next weekly."""
    original = importlib.metadata.version
    monkeypatch.setattr(
        importlib.metadata, "version", lambda name: OTHER if name == package else original(name)
    )


def test_graph_says_what_it_was_built_with(campaign: Campaign) -> None:
    with PredictedQuantumGraph.open(str(campaign.graph_files()[0])) as reader:
        told = reader.header.metadata["software"]
    assert told == {package: importlib.metadata.version(package) for package in PINNED}


def test_jobs_of_another_weekly_refuse_and_are_not_tried_again(
    campaign: Campaign, monkeypatch: pytest.MonkeyPatch
) -> None:
    """2 is what retryUnlessExit says; the message names both versions."""
    (graph,) = campaign.graph_files()
    check_graph(graph)
    right = importlib.metadata.version("lsst-daf-butler")
    change_version(monkeypatch)
    for command in ("init-run", "run-quanta"):
        run = CliRunner().invoke(cli, [command, str(campaign.butler_config), str(graph)])
        assert run.exit_code == 2
        assert f"lsst-daf-butler {OTHER} in place of {right}" in run.stderr


def test_check_costs_a_job_little(campaign: Campaign) -> None:
    (graph,) = campaign.graph_files()
    check_graph(graph)
    started = time.process_time()
    check_graph(graph)
    assert time.process_time() - started < 0.5


def test_finish_of_another_weekly_leaves_all_as_it_is(
    campaign: Campaign, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = campaign.root.parent / "out"
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    with monkeypatch.context() as patch:
        change_version(patch)
        with pytest.raises(OtherSoftwareError, match="finish --other-software"):
            finish(campaign)
        assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
        assert finish(campaign, other_software=True) == 2
    assert (out / "manifest.json").exists()
    # The product is there: that needs nothing of any software.
    change_version(monkeypatch)
    assert finish(campaign) == 2


def test_restart_of_another_weekly_is_refused_unless_it_may_be_mixed(
    campaign: Campaign, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    change_version(monkeypatch, "lsst-images")
    with pytest.raises(UserError, match=f"lsst-images {OTHER} in place of .*extraQgraphOptions"):
        restart(campaign)
    graph = tmp_path / "second.qg"
    with pytest.raises(OtherSoftwareError):
        build_graph(campaign, graph, output_run="u/x/2")
    assert len(campaign.graph_files()) == 1
    build_graph(campaign, graph, output_run="u/x/2", other_software=True)
    # Jobs and finish now go by the newest graph.
    check_graph(graph)
    run_graph(campaign, graph)
    assert finish(campaign) == COMPLETE


def test_version_is_found_without_a_distribution(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in an EUPS stack: the package's own module says it."""
    package = tmp_path / "lsst" / "madeup"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "version.py").write_text('__version__ = "g1234+56"\n')
    monkeypatch.setattr(lsst, "__path__", [*lsst.__path__, str(package.parent)])
    assert version_of("lsst-madeup") == "g1234+56"
    assert version_of("lsst-nowhere") is None
    assert set(installed_software()) == set(PINNED)
