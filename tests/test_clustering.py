# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""The jobs that BPS makes of a campaign, as ``bps prepare`` makes them."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

from lsst.ctrl.bps import BPS_DEFAULTS, BpsConfig, GenericWorkflow, GenericWorkflowJob
from lsst.ctrl.bps.drivers import cluster_qgraph_driver, prepare_driver
from lsst.ctrl.bps.pre_transform import read_quantum_graph
from lsst.ctrl.bps.transform import transform
from lsst.dax.bulkcutout.bps.clustering import pack_quanta
from lsst.dax.bulkcutout.campaign import Campaign
from lsst.dax.bulkcutout.errors import UserError
from lsst.dax.bulkcutout.submit import CONFIG_DIRECTORY, prepare
from lsst.dax.bulkcutout.target_table import read_targets
from lsst.dax.bulkcutout.tests import SkyRepository
from lsst.dax.bulkcutout.tests.campaigns import write_request

SITES = CONFIG_DIRECTORY / "sites"


@pytest.fixture(scope="module")
def prepared(
    tmp_path_factory: pytest.TempPathFactory, coded_repo: SkyRepository, coded_catalog: Path
) -> BpsConfig:
    """BPS's configuration of a campaign whose graph was built by BPS."""
    directory = tmp_path_factory.mktemp("prepared")
    request = write_request(directory, coded_repo, coded_catalog, size=32)
    campaign = prepare(request, site="local")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
        config, _ = cluster_qgraph_driver(str(campaign.bps_config))
    return config


@pytest.fixture
def workflow(prepared: BpsConfig, tmp_path: Path) -> Callable[..., GenericWorkflow]:
    """BPS's jobs, after changes to the configuration."""

    def make(**changes: Any) -> GenericWorkflow:
        # As BPS reads it, before jobs are made.
        includes = [str(CONFIG_DIRECTORY / "bulkcutout_bps.yaml"), str(SITES / "local.yaml")]
        path = tmp_path / "bps.yaml"
        path.write_text(
            yaml.safe_dump({"includeConfigs": includes, "campaignDir": prepared["campaignDir"], **changes})
        )
        config = BpsConfig(str(path), defaults=BPS_DEFAULTS)
        for key in ("runQgraphFile", "timestamp", "operator", "uniqProcName"):
            config[f".bps_defined.{key}"] = prepared[f".bps_defined.{key}"]
        config[".bps_defined.submitPath"] = str(tmp_path)
        graph = read_quantum_graph(config[".bps_defined.runQgraphFile"])
        return transform(config, pack_quanta(config, graph, "jobs"), str(tmp_path))[0]

    return make


def cutting(workflow: GenericWorkflow) -> list[GenericWorkflowJob]:
    jobs = [workflow.get_job(name) for name in workflow]
    return [job for job in jobs if job.label == "extractCutouts"]


def test_loads_are_those_of_the_targets(prepared: BpsConfig, coded_repo: SkyRepository) -> None:
    campaign = Campaign(Path(prepared["campaignDir"]))
    table = pq.read_table(campaign.patch_loads).to_pylist()
    assert [(entry["tract"], entry["patch"]) for entry in table] == [(3, 0), (3, 1), (8, 0), (8, 1)]
    for entry in table:
        targets = read_targets(campaign.targets / f"tract={entry['tract']}.parquet", entry["patch"])
        assert entry["rows"] == sum(batch.num_rows for batch in targets)
        # Image and variance of 32 px in three bands are twelve bytes a pixel
        # each, the kernel of 51 px is guessed, and some columns are added.
        pixels = 3 * 4 * (2 * 32**2 + 51**2)
        assert 1.0 < entry["product_bytes"] / (entry["rows"] * pixels) < 1.1
        # Its own, and perhaps those of the one neighbour in its tract.
        sizes = {
            key: path.stat().st_size for key, path in coded_repo.paths.items() if key[0] == entry["tract"]
        }
        own = [size for key, size in sizes.items() if key[1] == entry["patch"]]
        assert len(own) <= entry["images"] <= 2 * len(own)
        assert sum(own) <= entry["image_bytes"] <= sum(sizes.values())
        if entry["images"] == len(own):
            assert entry["image_bytes"] == sum(own)


def test_every_quantum_is_in_one_job(workflow: Callable[..., GenericWorkflow], tmp_path: Path) -> None:
    for bounds, n_jobs in (({}, 1), ({"maxQuanta": 1}, 4), ({"maxQuanta": 3}, 2)):
        jobs = cutting(workflow(packing={"jobMinutes": 15, "maxQuanta": 500} | bounds))
        assert len(jobs) == n_jobs
        quanta = [quantum for job in jobs for quantum in job.cmdvals["qgraphNodeId"].split(",")]
        assert len(quanta) == len(set(quanta)) == 4
        assert sum(job.quanta_counts["extractCutouts"] for job in jobs) == 4
        # For those who watch: which patches are in which job.
        listed = json.loads((tmp_path / "jobs.json").read_text())
        assert list(listed) == [job.name for job in jobs]
        assert sorted(place for places in listed.values() for place in places) == [
            [3, 0],
            [3, 1],
            [8, 0],
            [8, 1],
        ]
        assert [len(places) for places in listed.values()] == [
            job.quanta_counts["extractCutouts"] for job in jobs
        ]


def test_jobs_are_no_longer_than_was_asked_for(workflow: Callable[..., GenericWorkflow]) -> None:
    """A quantum takes at least a tenth of a second, so two are too long."""
    assert len(cutting(workflow(packing={"jobMinutes": 0.003, "maxQuanta": 500}))) == 4


def test_memory_and_time_follow_from_rows_and_bytes(workflow: Callable[..., GenericWorkflow]) -> None:
    made = workflow()
    (job,) = cutting(made)
    final = made.get_final()
    # Small images: the libraries and little else; far from the usual 2048.
    assert (job.request_memory, job.request_walltime) == (512, 20)
    assert final.request_memory == 1280 and final.request_walltime == 20
    assert job.memory_multiplier == 2


def test_operators_own_values_stay(workflow: Callable[..., GenericWorkflow]) -> None:
    made = workflow(
        pipetask={"extractCutouts": {"requestMemory": 3072}},
        cluster={"extractCutouts": {"requestWalltime": 77}},
        finalJob={"requestMemory": 9000, "requestWalltime": 88},
    )
    (job,) = cutting(made)
    assert (job.request_memory, job.request_walltime) == (3072, 77)
    assert (made.get_final().request_memory, made.get_final().request_walltime) == (9000, 88)


def test_campaign_without_loads_is_packed_by_number(
    workflow: Callable[..., GenericWorkflow], prepared: BpsConfig, caplog: pytest.LogCaptureFixture
) -> None:
    """Its graph was not built by this version of build-graph."""
    loads = Campaign(Path(prepared["campaignDir"])).patch_loads
    away = loads.rename(loads.with_suffix(".away"))
    try:
        jobs = cutting(workflow(packing={"jobMinutes": 15, "maxQuanta": 2}))
    finally:
        away.rename(loads)
    assert [job.quanta_counts["extractCutouts"] for job in jobs] == [2, 2]
    assert jobs[0].request_memory == 2048
    assert "taken to be equal" in caplog.text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cluster": {"byTract": {"partitionMaxSize": 1}}}, "cluster.byTract is for BPS's own"),
        ({"packing": {"maxQuanta": 0}}, "packing.maxQuanta: 0 is not"),
        ({"packing": {"jobMinutes": "long"}}, "packing.jobMinutes: 'long' is not"),
        ({"packing": {"slots": -1}}, "packing.slots: -1 is not"),
        ({"packing": {"partitionMaxSize": 1}}, "packing.partitionMaxSize is not known"),
    ],
)
def test_settings_without_effect_are_refused(
    workflow: Callable[..., GenericWorkflow], changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        workflow(**changes)


def test_submit_files_of_htcondor_ask_for_it(
    tmp_path: Path, coded_repo: SkyRepository, coded_catalog: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``bps prepare`` needs no pool."""
    pytest.importorskip("htcondor", reason="needs the extra htcondor")
    site = tmp_path / "site.yaml"
    changes = {
        "includeConfigs": [str(SITES / "htcondor.yaml")],
        "memoryLimit": 8000,
        "packing": {"maxQuanta": 2},
        "extraQgraphOptions": "--max-memory-mb 64",
        "provisionResources": True,
        "provisioning": {"provisioningScriptConfig": ""},
    }
    site.write_text(yaml.safe_dump(changes))
    request = write_request(tmp_path, coded_repo, coded_catalog)
    campaign = prepare(request, site=str(site))
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("CONDOR_CONFIG", os.devnull)
    prepare_driver(str(campaign.bps_config))
    (submit,) = campaign.submit.iterdir()
    files = sorted(submit.glob("jobs/extractCutouts/*/*.sub"))
    listed = json.loads((submit / "jobs.json").read_text())
    assert sorted(path.stem for path in files) == sorted(listed) and len(files) == 2
    for path in files:
        text = path.read_text()
        assert "request_memory" in text and "max({512, MemoryUsage" in text
        assert '+bps_job_quanta = "extractCutouts:2"' in text
    final = (submit / "jobs" / "finalJob" / "finalJob.sub").read_text()
    assert "max({1280, MemoryUsage" in final
    # A glidein outlives several jobs; the key has no default in BPS.
    (script,) = submit.glob("provision*.bash")
    assert "--maximum-wall-clock '01:00:00'" in script.read_text()
