# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""The jobs' Butler: it reads from the source and writes to the campaign."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml
from tiny_sky import TRACT, tiny_table

from lsst.daf.butler import Butler, CollectionType, Config, QuantumBackedButler
from lsst.daf.butler.datastore.record_data import DatastoreRecordData
from lsst.dax.bulkcutout import campaign_butler
from lsst.dax.bulkcutout.campaign import Campaign
from lsst.dax.bulkcutout.campaign_butler import open_source, write_campaign_butler
from lsst.dax.bulkcutout.errors import UserError
from lsst.dax.bulkcutout.finish import COMPLETE
from lsst.dax.bulkcutout.quantum_outputs import read_outputs
from lsst.dax.bulkcutout.tests import SkyRepository
from lsst.dax.bulkcutout.tests.campaigns import init_and_run, run_here, write_request
from lsst.dax.bulkcutout.verify.product import verify_product
from lsst.pipe.base import TaskMetadata
from lsst.pipe.base.quantum_graph import PredictedQuantumGraph

FILE = "lsst.daf.butler.datastores.fileDatastore.FileDatastore"
CHAINED = "lsst.daf.butler.datastores.chainedDatastore.ChainedDatastore"
IN_MEMORY = "lsst.daf.butler.datastores.inMemoryDatastore.InMemoryDatastore"


def tree(root: Path) -> dict[str, int]:
    return {str(path.relative_to(root)): path.stat().st_mtime_ns for path in root.rglob("*")}


def digests(directory: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(directory.glob("size=*/*"))}


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory, tiny_repo: SkyRepository) -> Path:
    path = tmp_path_factory.mktemp("catalog") / "catalog.parquet"
    pq.write_table(tiny_table(tiny_repo), path)
    return path


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory, tiny_repo: SkyRepository, catalog: Path) -> Campaign:
    """A campaign that has run on a repository with one datastore."""
    campaign, status = run_here(write_request(tmp_path_factory.mktemp("plain"), tiny_repo, catalog, size=9))
    assert status == COMPLETE
    return campaign


def nested(*children: Any) -> dict[str, Any]:
    return {"cls": CHAINED, "datastores": list(children)}


def files(name: str, **options: Any) -> dict[str, Any]:
    return {
        "cls": FILE,
        "name": name,
        "root": f"<butlerRoot>/{name}",
        "records": {"table": f"{name}_records"},
        **options,
    }


def chained_repo(root: Path, source: SkyRepository, datastore: dict[str, Any]) -> Path:
    """The images of a repository in one with several datastores."""
    Butler.makeRepo(str(root), config=Config({"datastore": datastore}), overwrite=True)
    with Butler.from_config(str(root), writeable=True) as butler, source.butler() as other:
        for name in ("instrument", "physical_filter"):
            butler.registry.insertDimensionData(name, *other.query_dimension_records(name))
        butler.transfer_from(
            other,
            source.refs.values(),
            transfer="copy",
            register_dataset_types=True,
            transfer_dimensions=True,
        )
        butler.registry.registerCollection("coadds", CollectionType.CHAINED)
        butler.registry.setCollectionChain("coadds", [source.run])
    return root


def configuration(campaign: Campaign) -> dict[str, Any]:
    return yaml.safe_load(campaign.butler_config.read_text())


def test_source_keeps_its_name_and_is_closed_to_writing(plain: Campaign, tiny_repo: SkyRepository) -> None:
    config = configuration(plain)
    source, own = config["datastore"]["datastores"]
    with tiny_repo.butler() as butler:
        assert (source["name"],) == butler.get_datastore_names() == ("FileDatastore@<butlerRoot>",)
    assert Path(source["root"].removeprefix("file://")) == tiny_repo.root
    assert source["records"]["table"] == "file_datastore_records"
    assert source["constraints"] == {"reject": ["all"]} and source["create"] is False
    assert own["root"] == plain.datastore.as_uri() and "constraints" not in own
    assert own["records"]["table"] != source["records"]["table"]
    # A job that asks a registry would be a mistake.
    assert "registry" not in config
    assert config["storageClasses"]["BulkCutouts"]["pytype"].endswith("cutout_formatter.CutoutStream")


def test_nothing_is_writable_but_ours(plain: Campaign, tiny_repo: SkyRepository) -> None:
    """Datasets go to the campaign alone, may be read and removed there, and
    the source's are read by their records.
    """
    graph = PredictedQuantumGraph.read_execution_quanta(str(plain.graph_files()[0]))
    quanta = list(graph.build_execution_quanta().values())
    (metadata,) = quanta[0].outputs["extractCutouts_metadata"]
    (cutouts,) = quanta[0].outputs["deep_coadd_bulk_cutouts"]
    (image, *_) = quanta[0].inputs["deep_coadd"]
    before = tree(tiny_repo.root)
    with QuantumBackedButler.from_predicted(
        str(plain.butler_config),
        predicted_inputs=[image.id],
        predicted_outputs=[metadata.id, cutouts.id],
        dimensions=graph.pipeline_graph.universe,
        datastore_records=DatastoreRecordData.merge_mappings(*(q.datastore_records for q in quanta)),
        dataset_types={node.name: node.dataset_type for node in graph.pipeline_graph.dataset_types.values()},
    ) as butler:
        assert butler.getURI(image).ospath == str(
            tiny_repo.paths[TRACT, int(image.dataId["patch"]), str(image.dataId["band"])]
        )
        path = Path(butler.getURI(metadata).ospath)
        assert path.is_relative_to(plain.datastore)
        kept = path.read_bytes()
        butler.pruneDatasets([metadata], disassociate=True, unstore=True, purge=True)
        assert not path.exists()
        butler.put(TaskMetadata.from_dict({"a": 3}), metadata)
        assert path.exists() and butler.get(metadata)["a"] == 3
        path.write_bytes(kept)
    assert tree(tiny_repo.root) == before


def test_files_of_the_source_under_our_names_are_not_ours(
    tmp_path: Path, tiny_repo: SkyRepository, catalog: Path
) -> None:
    """A run of the same name in the repository: with complete outputs, with
    half of them, and with a file that is no dataset at all.
    """
    root = shutil.copytree(tiny_repo.root, tmp_path / "repo")
    campaign = init_and_run(
        write_request(tmp_path / "first", tiny_repo, catalog, size=8, butler=str(root)), output_run="u/same"
    )
    (campaign.datastore / "u").rename(root / "u")
    (metadata,) = root.glob("u/**/*_metadata/3/1/*.json")
    metadata.unlink()
    (cutouts,) = root.glob("u/**/*_bulk_cutouts/3/2/*.hdf5")
    cutouts.write_bytes(b"something else")
    before = tree(root)
    request = write_request(tmp_path / "second", tiny_repo, catalog, size=9, butler=str(root))
    campaign = init_and_run(request, output_run="u/same")
    outputs = read_outputs(campaign).values()
    assert all(output.done and output.path.is_relative_to(campaign.datastore) for output in outputs)
    assert tree(root) == before


def test_source_may_be_a_chain_itself(
    tmp_path: Path, tiny_repo: SkyRepository, catalog: Path, plain: Campaign
) -> None:
    """Of a chain and more, each under its own name; one has no images and
    one, in memory, no files.  The product is the same, byte for byte.
    """
    memory = {"cls": IN_MEMORY, "name": "memory"}
    chain = nested(
        memory, files("one", constraints={"reject": ["deep_coadd"]}), nested(files("two"), files("three"))
    )
    root = chained_repo(tmp_path / "repo", tiny_repo, chain)
    # The Butler names directories by their places in the chain: store "two".
    found = {path.relative_to(root).parts[:2] for path in root.rglob("*.fits")}
    assert found == {("ChainedDatastore_2", "FileDatastore_0")}
    before = tree(root)
    request = write_request(tmp_path, tiny_repo, catalog, size=9, butler=str(root))
    campaign, status = run_here(request)
    assert status == COMPLETE
    datastores = configuration(campaign)["datastore"]["datastores"]
    assert [each["name"] for each in datastores] == ["one", "two", "three", "bulkcutout-campaign"]
    assert [each["records"]["table"] for each in datastores[:3]] == [
        f"{name}_records" for name in ("one", "two", "three")
    ]
    assert digests(tmp_path / "out") == digests(plain.root.parent / "out")
    assert verify_product(tmp_path / "out", sample=10).ok
    assert tree(root) == before


def test_repository_may_be_named_by_its_label(
    tmp_path: Path, tiny_repo: SkyRepository, plain: Campaign, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAF_BUTLER_REPOSITORIES", json.dumps({"tiny": str(tiny_repo.root)}))
    campaign = Campaign(tmp_path / "campaign")
    with open_source("tiny") as butler:
        write_campaign_butler(campaign, butler, "tiny")
    ours, theirs = configuration(campaign), configuration(plain)
    assert ours["root"] == theirs["root"]
    assert ours["datastore"]["datastores"][0] == theirs["datastore"]["datastores"][0]


def test_repository_without_a_datastore_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    class Remote:
        pass

    monkeypatch.setattr(campaign_butler.Butler, "from_config", lambda *args, **kwargs: Remote())
    with pytest.raises(
        UserError, match=r"'butler': 'https://far' is a remote Butler, which has no datastore"
    ):
        open_source("https://far")


def test_source_is_opened_for_reading_alone(tiny_repo: SkyRepository) -> None:
    with open_source(str(tiny_repo.root)) as butler:
        assert not butler.isWriteable()
        with pytest.raises((RuntimeError, TypeError)):
            butler.put({}, next(iter(tiny_repo.refs.values())))
