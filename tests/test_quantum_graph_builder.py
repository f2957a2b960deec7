# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Graphs: the right quanta, and what is done where outputs exist already."""

from __future__ import annotations

import hashlib
import shutil
import zipfile
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from tiny_sky import ONE_BAND, TRACT, tiny_table

from lsst.daf.butler import Butler, FileDataset, Quantum
from lsst.dax.bulkcutout import restart as restarting
from lsst.dax.bulkcutout.campaign import Campaign
from lsst.dax.bulkcutout.cutout_formatter import CutoutFormatter, define_storage_class
from lsst.dax.bulkcutout.discovery.source_images import SourceImages
from lsst.dax.bulkcutout.errors import UserError
from lsst.dax.bulkcutout.finish import COMPLETE, PARTIAL, finish
from lsst.dax.bulkcutout.quantum_graph_builder import PIPELINE, CutoutQuantumGraphBuilder, build_graph
from lsst.dax.bulkcutout.quantum_outputs import read_outputs
from lsst.dax.bulkcutout.request import check_request
from lsst.dax.bulkcutout.tests import SkyRepository
from lsst.dax.bulkcutout.tests.campaigns import init_and_run, prepare_here, run_graph, run_here, write_request
from lsst.dax.bulkcutout.verify.product import verify_product
from lsst.dax.bulkcutout.watch.status import read_status
from lsst.pipe.base import Pipeline
from lsst.pipe.base.quantum_graph import PredictedQuantumGraph
from lsst.pipe.base.quantum_graph_builder import OutputExistsError

RUN = "u/somebody/first"


def digests(directory: Path) -> dict[str, str]:
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(directory.glob("size=*/*"))
    }


def quanta_of(graph: Path) -> dict[tuple[int, int], Quantum]:
    loaded = PredictedQuantumGraph.read_execution_quanta(str(graph))
    quanta = list(loaded.build_execution_quanta().values())
    return {(int(q.dataId["tract"]), int(q.dataId["patch"])): q for q in quanta}


def files_of(root: Path) -> dict[str, int]:
    return {
        str(path.relative_to(root)): path.stat().st_mtime_ns for path in root.rglob("*") if path.is_file()
    }


@pytest.fixture
def repo(tmp_path: Path, tiny_repo: SkyRepository) -> Path:
    """A repository that may be written."""
    root = tmp_path / "repo"
    shutil.copytree(tiny_repo.root, root)
    return root


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory, tiny_repo: SkyRepository) -> Campaign:
    """A campaign that has run, for two of the planes."""
    directory = tmp_path_factory.mktemp("first")
    path = directory / "catalog.parquet"
    pq.write_table(tiny_table(tiny_repo), path)
    campaign, status = run_here(write_request(directory, tiny_repo, path, size=9, planes=["image", "mask"]))
    assert status == COMPLETE
    return campaign


def run_of(campaign: Campaign) -> str:
    return PredictedQuantumGraph.read_execution_quanta(str(campaign.graph_files()[0])).header.output_run


@pytest.fixture
def ask(tmp_path: Path, repo: Path, tiny_repo: SkyRepository, tiny_catalog: Path) -> Callable[..., Path]:
    """Write a request, in a directory of its own."""

    def write(name: str, **fields: Any) -> Path:
        given = {"butler": str(repo), "size": 9, "planes": ["image", "mask"], **fields}
        return write_request(tmp_path / name, tiny_repo, tiny_catalog, **given)

    return write


def register(
    repo: Path,
    campaign: Campaign,
    kinds: Collection[str] = ("cutouts", "metadata", "log", "config", "packages"),
) -> None:
    """Copy outputs of a campaign into a repository, as `butler
    transfer-from-graph` would.
    """
    define_storage_class()
    graph = PredictedQuantumGraph.read_execution_quanta(str(campaign.graph_files()[0]))
    with Butler.from_config(str(repo), writeable=True) as butler:
        refs = [
            ref
            for quantum in graph.build_execution_quanta().values()
            for refs in quantum.outputs.values()
            for ref in refs
        ]
        refs += graph.get_init_outputs("extractCutouts").values()
        for ref in refs:
            kind = ref.datasetType.name.rpartition("_")[2]
            if kind not in kinds:
                continue
            butler.collections.register(ref.run)
            butler.registry.registerDatasetType(ref.datasetType)
            folder = campaign.datastore / ref.run / ref.datasetType.name
            if "patch" in ref.dataId:
                folder = folder / str(ref.dataId["tract"]) / str(ref.dataId["patch"])
            (path,) = folder.iterdir()
            formatter = CutoutFormatter if kind == "cutouts" else None
            butler.ingest(FileDataset(path=str(path), refs=[ref], formatter=formatter), transfer="copy")


def test_quanta_are_those_of_patches_with_targets_and_images(
    tmp_path: Path, tiny_repo: SkyRepository, tiny_catalog: Path
) -> None:
    """Targets in two of three patches, one of which has one band; inputs are
    the bands that are there, under the identifiers of the repository.
    """
    table = tiny_table(tiny_repo)
    pq.write_table(table.slice(6), tiny_catalog)
    request = write_request(tmp_path, tiny_repo, tiny_catalog, size=9)
    graph = tmp_path / "graph.qg"
    plan = build_graph(prepare_here(request), graph, output_run=RUN, request_file=request)
    quanta = quanta_of(graph)
    assert set(quanta) == {(TRACT, 1), (TRACT, 2)}
    for (tract, patch), quantum in quanta.items():
        ((images, refs),) = quantum.inputs.items()
        assert images.name == "deep_coadd" and images.storageClass_name == "CellCoadd"
        assert {ref.dataId["band"]: ref.id for ref in refs} == {
            band: tiny_repo.refs[tract, patch, band].id
            for band in tiny_repo.bands
            if (tract, patch, band) != ONE_BAND
        }
        outputs = {kind.name: [ref.run for ref in refs] for kind, refs in quantum.outputs.items()}
        assert outputs == {
            name: [RUN]
            for name in ("deep_coadd_bulk_cutouts", "extractCutouts_metadata", "extractCutouts_log")
        }
    assert plan.targets == 12 and plan.bands == ("g", "r")


def test_graph_has_the_current_format(tmp_path: Path, tiny_repo: SkyRepository, tiny_catalog: Path) -> None:
    """A zip archive that says what it is, and carries the records of its
    inputs and of what the task is to do.
    """
    request = write_request(tmp_path, tiny_repo, tiny_catalog, size=9, planes=["image"])
    graph = tmp_path / "graph.qg"
    campaign = prepare_here(request)
    build_graph(campaign, graph, output_run=RUN, request_file=request, max_memory_mb=100, threads=3)
    assert zipfile.is_zipfile(graph)
    loaded = PredictedQuantumGraph.read_execution_quanta(str(graph))
    header = loaded.header
    assert (header.graph_type, header.n_quanta, header.output_run) == ("predicted", 3, RUN)
    assert header.inputs == ["coadds"] and header.metadata["campaign"] == str(campaign.root)
    config = loaded.pipeline_graph.tasks["extractCutouts"].config
    assert list(config.planes) == ["image"] and (config.max_memory_mb, config.threads) == (100, 3)
    assert config.plan_sha256 == hashlib.sha256(campaign.plan.read_bytes()).hexdigest()
    for quantum in loaded.build_execution_quanta().values():
        records = [
            records for store in quantum.datastore_records.values() for records in store.records.values()
        ]
        assert sum(len(table) for tables in records for table in tables.values()) == sum(
            len(refs) for refs in quantum.inputs.values()
        )
    assert campaign.graph_files() == [campaign.graphs / "0000.qg"]
    assert campaign.graph_files()[0].read_bytes() == graph.read_bytes()


def test_registered_outputs_are_used(
    first: Campaign, ask: Callable[..., Path], repo: Path, tmp_path: Path
) -> None:
    """Of a campaign for the same targets, of which a patch was not done: only
    that one gets a quantum, and the product is that of an undisturbed run.
    """
    register(repo, first)
    run = run_of(first)
    with Butler.from_config(str(repo), writeable=True) as butler:
        lost = butler.query_datasets(
            "extractCutouts_metadata", run, where="tract = 3 AND patch = 1 AND skymap = 'tangent_test'"
        )
        butler.pruneDatasets(lost, purge=True, unstore=True, disassociate=True)
    before = files_of(repo)
    request = ask("second")
    campaign = prepare_here(request)
    graph = tmp_path / "second" / "graph.qg"
    build_graph(campaign, graph, output_run=RUN, request_file=request, skip_existing_in=[run])
    assert set(quanta_of(graph)) == {(TRACT, 1)}
    assert read_status(campaign).done == 2
    assert finish(campaign) == PARTIAL
    run_graph(campaign, graph)
    assert finish(campaign) == COMPLETE
    assert digests(tmp_path / "second" / "out") == digests(first.root.parent / "out")
    assert verify_product(tmp_path / "second" / "out", sample=18).ok
    assert files_of(repo) == before


def test_nothing_is_left_to_do(
    first: Campaign, ask: Callable[..., Path], repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All is registered, without the configuration: no graph is made; finish
    and restart package what there is.
    """
    register(repo, first, ("cutouts", "metadata"))
    run = run_of(first)
    request = ask("second")
    campaign = prepare_here(request)
    graph = tmp_path / "second" / "graph.qg"
    with pytest.raises(UserError, match=r"All quanta .* have finished: `bulkcutout finish .*` packages them"):
        build_graph(campaign, graph, output_run=RUN, request_file=request, skip_existing_in=[run])
    assert not graph.exists() and read_status(campaign).done == 3
    monkeypatch.setattr(restarting, "run_bps", lambda campaign: pytest.fail("BPS has nothing to do"))
    restarting.restart(campaign)
    assert read_status(campaign).state == "complete"
    assert digests(tmp_path / "second" / "out") == digests(first.root.parent / "out")


def test_registered_outputs_of_others_are_not_used(
    first: Campaign,
    ask: Callable[..., Path],
    repo: Path,
    tmp_path: Path,
    tiny_repo: SkyRepository,
    tiny_catalog: Path,
) -> None:
    """Another size, other planes, other bands, other rows, a row that has
    moved, a file that is gone or torn.
    """
    register(repo, first)
    run = run_of(first)
    good = tiny_table(tiny_repo)
    moved = good.set_column(1, "ra", [np.array(good["ra"]) + np.where(np.arange(18) == 7, 1e-5, 0.0)])

    def quanta(name: str, table: Any = good, **fields: Any) -> set[int]:
        pq.write_table(table, tiny_catalog)
        request = ask(name, **fields)
        graph = tmp_path / name / "graph.qg"
        try:
            build_graph(
                prepare_here(request), graph, output_run=RUN, request_file=request, skip_existing_in=[run]
            )
        except UserError as error:
            assert "All quanta" in str(error)
            return set()
        return {patch for _, patch in quanta_of(graph)}

    assert quanta("same") == set()
    assert quanta("fewer planes", planes=["image"]) == set()
    assert quanta("size", size=10) == {0, 1, 2}
    assert quanta("planes", planes=["image", "psf"]) == {0, 1, 2}
    assert quanta("bands", bands=["r"]) == {0, 1}
    assert quanta("rows", table=good.slice(0, 15)) == {2}
    assert quanta("shifted", table=good.slice(1)) == {0, 1, 2}
    assert quanta("moved", table=moved) == {1}
    paths = sorted(repo.glob("u/**/*.hdf5"))
    paths[0].unlink()
    paths[2].write_bytes(paths[2].read_bytes()[:1000])
    assert quanta("damaged") == {0, 2}


def test_outputs_in_the_way(first: Campaign, ask: Callable[..., Path], repo: Path, tmp_path: Path) -> None:
    """The run exists in the repository: refused, but for those that are not
    made again; with clobber the campaign makes its own, and those in the
    repository stay as they are.
    """
    register(repo, first)
    run = run_of(first)
    # Partial outputs: cutouts of patch 1 whose metadata are lost.
    (lost,) = repo.glob("u/**/extractCutouts_metadata/3/1/*.json")
    lost.unlink()
    before = files_of(repo)
    request = ask("second", size=10)
    campaign = prepare_here(request)
    graph = tmp_path / "second" / "graph.qg"
    with pytest.raises(UserError, match=f"Run {run} has outputs already: .*--skip-existing-in.*--clobber"):
        build_graph(campaign, graph, output_run=run, request_file=request)
    with pytest.raises(UserError, match="has outputs already"):
        build_graph(campaign, graph, output_run=run, request_file=request, skip_existing_in=[run])
    assert not graph.exists() and not campaign.graph_files()
    build_graph(campaign, graph, output_run=run, request_file=request, clobber=True)
    assert set(quanta_of(graph)) == {(TRACT, 0), (TRACT, 1), (TRACT, 2)}
    registered = {ref.id for ref in registered_refs(repo, run)}
    assert {
        ref.id for quantum in quanta_of(graph).values() for refs in quantum.outputs.values() for ref in refs
    } <= registered
    run_graph(campaign, graph)
    assert finish(campaign) == COMPLETE
    assert verify_product(tmp_path / "second" / "out", sample=18).ok
    assert files_of(repo) == before
    assert all(output.path.is_relative_to(campaign.root) for output in read_outputs(campaign).values())


def registered_refs(repo: Path, run: str) -> list[Any]:
    with Butler.from_config(str(repo)) as butler:
        return butler.query_all_datasets(run, find_first=False)


def test_rerun_in_the_same_run(first: Campaign, ask: Callable[..., Path], tmp_path: Path) -> None:
    """As an operator who fixes the name of the run: what was left half done
    is made again, and what was done is not.
    """
    request = ask("again")
    campaign = init_and_run(request, fail=[(TRACT, 1)], place="after_cutouts", output_run=RUN)
    assert finish(campaign) == PARTIAL
    (partial,) = campaign.datastore.glob(f"{RUN}/*_bulk_cutouts/3/1/*.hdf5")
    assert not list(campaign.datastore.glob(f"{RUN}/*_metadata/3/1/*"))
    partial.write_bytes(b"half a file")
    done = {p: p.stat().st_mtime_ns for p in campaign.datastore.glob(f"{RUN}/*_bulk_cutouts/3/[02]/*.hdf5")}
    assert len(done) == 2
    init_and_run(request, output_run=RUN)
    assert set(quanta_of(tmp_path / "again" / "graph.qg")) == {(TRACT, 1)}
    assert finish(campaign) == COMPLETE
    assert all(path.stat().st_mtime_ns == time for path, time in done.items())
    assert len(campaign.graph_files()) == 2
    assert digests(tmp_path / "again" / "out") == digests(first.root.parent / "out")


def test_campaign_that_has_run_builds_only_what_is_left(
    ask: Callable[..., Path], tmp_path: Path, tiny_catalog: Path
) -> None:
    """From its own plan: the catalog is not needed any more."""
    request = ask("first")
    campaign = init_and_run(request, fail=[(TRACT, 0), (TRACT, 2)])
    tiny_catalog.unlink()
    targets = {path: path.read_bytes() for path in campaign.targets.iterdir()}
    plan = campaign.plan.read_bytes()
    graph = tmp_path / "graph.qg"
    build_graph(campaign, graph, output_run=RUN, request_file=request)
    assert set(quanta_of(graph)) == {(TRACT, 0), (TRACT, 2)}
    assert campaign.plan.read_bytes() == plan
    assert {path: path.read_bytes() for path in campaign.targets.iterdir()} == targets
    run_graph(campaign, graph)
    assert finish(campaign) == COMPLETE
    with pytest.raises(UserError, match="All quanta"):
        build_graph(campaign, graph, output_run=RUN, request_file=request)


def test_metadata_alone_is_no_reason_to_skip(
    first: Campaign,
    ask: Callable[..., Path],
    repo: Path,
    tmp_path: Path,
    tiny_repo: SkyRepository,
    tiny_catalog: Path,
) -> None:
    """The builder by itself, with everything that is registered welcome."""
    register(repo, first, ("metadata", "log", "config"))
    run = run_of(first)
    fields = {"collections": ["coadds"], "dataset_type": "deep_coadd", "size": 9, "output": "out"}
    request = check_request(
        {"request_id": "test", "catalog": {"uri": str(tiny_catalog)}, "butler": str(repo), **fields}
    )

    def quanta(**options: Any) -> int:
        with Butler.from_config(str(repo)) as butler:
            coverage = SourceImages(butler, request).coverage(list(first.targets.iterdir()))
            assert len(coverage) == 3
            pipeline = Pipeline.from_uri(str(PIPELINE))
            builder = CutoutQuantumGraphBuilder(
                pipeline.to_graph(),
                butler,
                skymap=tiny_repo.skymap,
                coverage=coverage,
                input_collections=["coadds"],
                **options,
            )
            return builder.finish().header.n_quanta

    assert quanta(output_run=RUN, skip_existing_in=[run]) == 3
    with pytest.raises(OutputExistsError):
        quanta(output_run=run, skip_existing_in=[run])
    register(repo, first, ("cutouts",))
    assert quanta(output_run=RUN, skip_existing_in=[run]) == 0
    assert quanta(output_run=run, skip_existing_in=[run]) == 0
    assert (
        quanta(output_run=run, skip_existing_in=[run], use=lambda patch, ref: patch.patch == 1, clobber=True)
        == 2
    )
    assert quanta(output_run=RUN, skip_existing_in=["no/such/collection"]) == 3
