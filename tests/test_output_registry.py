# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Outputs that are registered in a repository of the user's choice."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from tiny_sky import SIZE, TRACT, tiny_table

from lsst.daf.butler import Butler, DimensionConfig
from lsst.dax.bulkcutout.campaign import Campaign
from lsst.dax.bulkcutout.errors import UserError
from lsst.dax.bulkcutout.finish import COMPLETE, PARTIAL, finish
from lsst.dax.bulkcutout.finish_note import read_note
from lsst.dax.bulkcutout.quantum_graph_builder import build_graph
from lsst.dax.bulkcutout.quantum_outputs import read_outputs
from lsst.dax.bulkcutout.request import load_request
from lsst.dax.bulkcutout.submit import prepare
from lsst.dax.bulkcutout.tests import SkyRepository
from lsst.dax.bulkcutout.tests.campaigns import init_and_run, prepare_here, run_here, write_request

COLLECTION = "u/somebody/cutouts"
KIND = "deep_coadd_bulk_cutouts"

Ask = Callable[..., Path]


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """An empty output repository."""
    root = tmp_path / "archive"
    Butler.makeRepo(str(root))
    return root


@pytest.fixture
def ask(tmp_path: Path, tiny_repo: SkyRepository) -> Ask:
    """Write a request for 18 cutouts in three patches."""

    def write(archive: Path, **fields: Any) -> Path:
        catalog = tmp_path / "catalog.parquet"
        pq.write_table(tiny_table(tiny_repo), catalog)
        given = {"registration": {"butler": str(archive), "collection": COLLECTION}, **fields}
        return write_request(tmp_path, tiny_repo, catalog, size=SIZE, **given)

    return write


def registered(archive: Path) -> dict[str, dict[str, Any]]:
    """What another process finds in the repository: with our package, but
    without a campaign.
    """
    code = f"""
    import json, sys
    from lsst.daf.butler import Butler
    from lsst.dax.bulkcutout.cutout_formatter import define_storage_class
    define_storage_class()
    found = {{}}
    with Butler.from_config(sys.argv[1]) as butler:
        for ref in butler.query_datasets({KIND!r}, {COLLECTION!r}, explain=False):
            copy = sys.argv[2] + "/copy.hdf5"
            butler.get(ref).write(__import__("pathlib").Path(copy))
            patch = butler.query_dimension_records("patch", data_id=ref.dataId)[0]
            found[str(ref.id)] = {{
                "run": ref.run, "tract": ref.dataId["tract"], "patch": ref.dataId["patch"],
                "path": butler.getURI(ref).ospath, "copy": open(copy, "rb").read().hex(),
                "region": patch.region is not None,
            }}
    json.dump(found, sys.stdout)
    """
    command = [sys.executable, "-c", textwrap.dedent(code), str(archive), str(archive.parent)]
    run = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    found: dict[str, dict[str, Any]] = json.loads(run.stdout)
    return found


def message_of(campaign: Campaign) -> str:
    note = read_note(campaign.finish_log)
    assert note is not None
    return note.message


def files_of(directory: Path) -> dict[str, str]:
    return {
        path.relative_to(directory).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }


def test_cutout_datasets_can_be_read_back_by_another_process(
    archive: Path, ask: Ask, tiny_repo: SkyRepository, tmp_path: Path
) -> None:
    source = files_of(tiny_repo.root)
    campaign, status = run_here(ask(archive))
    assert status == COMPLETE and message_of(campaign) == ""
    found = registered(archive)
    outputs = {output.dataset_id: output for output in read_outputs(campaign).values()}
    assert set(found) == set(outputs) and len(found) == 3
    for dataset_id, there in found.items():
        output = outputs[dataset_id]
        assert output.path is not None
        assert (there["tract"], there["patch"]) == (output.tract, output.patch)
        assert there["run"] == f"{COLLECTION}/test/{output.run.rpartition('/')[2]}"
        # A copy of its own, which outlives the campaign.
        assert Path(there["path"]).is_relative_to(archive) and there["region"]
        assert bytes.fromhex(there["copy"]) == output.path.read_bytes() == Path(there["path"]).read_bytes()
    assert files_of(tiny_repo.root) == source
    # Nobody who is handed the product needs to know.
    assert "registration" not in json.loads((tmp_path / "out" / "manifest.json").read_text())["request"]


def test_doing_it_again_registers_nothing_twice(archive: Path, ask: Ask) -> None:
    campaign, _ = run_here(ask(archive))
    before = registered(archive), {p: p.stat().st_mtime_ns for p in archive.rglob("*.hdf5")}
    assert finish(campaign) == COMPLETE and message_of(campaign) == ""
    assert (registered(archive), {p: p.stat().st_mtime_ns for p in archive.rglob("*.hdf5")}) == before


def test_later_quanta_are_added(archive: Path, ask: Ask) -> None:
    """A failed patch is not registered; after a restart it is."""
    request = ask(archive)
    campaign, status = run_here(request, fail=[(TRACT, 1)])
    assert status == PARTIAL
    assert {there["patch"] for there in registered(archive).values()} == {0, 2}
    _, status = run_here(request)
    assert status == COMPLETE
    assert {there["patch"] for there in registered(archive).values()} == {0, 1, 2}
    with Butler.from_config(str(archive)) as butler:
        runs = butler.collections.get_info(COLLECTION).children
    assert len(runs) == 2


def test_repository_that_is_away_is_reported_and_made_up_for(archive: Path, ask: Ask) -> None:
    campaign = init_and_run(ask(archive))
    away = archive.rename(archive.with_name("away"))
    assert finish(campaign) == COMPLETE
    said = message_of(campaign)
    assert str(archive) in said and f"`bulkcutout finish {campaign.root}` tries again" in said
    note = read_note(campaign.finish_log)
    assert note is not None and note.state == "complete"
    away.rename(archive)
    assert finish(campaign) == COMPLETE
    assert message_of(campaign) == "" and len(registered(archive)) == 3


@pytest.mark.parametrize("damage", ["database gone", "database is none", "other universe", "is a run"])
def test_repository_that_takes_nothing_changes_no_outcome(archive: Path, ask: Ask, damage: str) -> None:
    campaign = init_and_run(ask(archive))
    (database,) = archive.glob("*.sqlite3")
    if damage == "database gone":
        database.unlink()
    elif damage == "database is none":
        database.write_bytes(b"this is no database" * 1000)
    elif damage == "other universe":
        shutil.rmtree(archive)
        old = "resource://lsst.daf.butler/configs/old_dimensions/daf_butler_universe6.yaml"
        Butler.makeRepo(str(archive), dimensionConfig=DimensionConfig(old))
    else:
        with Butler.from_config(str(archive), writeable=True) as butler:
            butler.collections.register(COLLECTION)
    assert finish(campaign) == COMPLETE
    said = message_of(campaign)
    assert f"not all, registered in {archive}" in said
    assert ("dimensions" in said) == (damage == "other universe")
    assert ("exists already as a RUN collection" in said) == (damage == "is a run")


def test_registration_that_is_killed_is_completed(archive: Path, ask: Ask) -> None:
    """After one of three datasets; the product is finished all the same."""
    campaign = init_and_run(ask(archive))
    code = """
    import os, signal
    from lsst.daf.butler.direct_butler import DirectButler
    from lsst.dax.bulkcutout import output_registry
    from lsst.dax.bulkcutout.cli import main
    output_registry.DATASETS_AT_A_TIME = 1
    ingest, calls = DirectButler.ingest, []
    def doomed(self, *given, **settings):
        calls.append(1)
        if len(calls) == 2:
            _ingest = self._datastore.ingest
            def killed(*files, **more):
                _ingest(*files, **more)
                os.kill(os.getpid(), signal.SIGKILL)
            self._datastore.ingest = killed
        return ingest(self, *given, **settings)
    DirectButler.ingest = doomed
    main()
    """
    command = [sys.executable, "-c", textwrap.dedent(code), "finish", str(campaign.root)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert "was killed (SIGKILL)" in run.stderr and run.returncode == COMPLETE
    assert "are being registered" in message_of(campaign)
    assert finish(campaign) == COMPLETE
    assert message_of(campaign) == "" and len(registered(archive)) == 3


def test_cancelled_campaign_registers_nothing(archive: Path, ask: Ask) -> None:
    campaign = init_and_run(ask(archive))
    campaign.cancelled.write_text("{}")
    assert finish(campaign) == PARTIAL
    with Butler.from_config(str(archive)) as butler:
        assert not butler.collections.query("*")


def test_datasets_are_in_one_run_only(archive: Path, ask: Ask) -> None:
    """Another collection for what is registered already is refused."""
    request = ask(archive)
    campaign, _ = run_here(request)
    fields = json.loads(request.read_text())
    fields["registration"]["collection"] = "u/somebody/else"
    request.write_text(json.dumps(fields))
    campaign.request.write_text(load_request(request).to_yaml())
    assert finish(campaign) == COMPLETE
    assert "can be in one run only" in message_of(campaign)


def test_source_repository_is_refused_whatever_it_is_called(
    ask: Ask, tiny_repo: SkyRepository, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="must be another repository"):
        load_request(ask(tiny_repo.root))
    link = tmp_path / "link"
    link.symlink_to(tiny_repo.root)
    request = ask(link)
    with pytest.raises(UserError, match=r"registration.butler.*never written"):
        build_graph(prepare_here(request), tmp_path / "g.qg", output_run="u/x", request_file=request)


def test_output_repository_must_be_one_when_the_graph_is_built(ask: Ask, tmp_path: Path) -> None:
    request = ask(tmp_path / "nothing")
    with pytest.raises(UserError, match="is no Butler repository"):
        build_graph(prepare_here(request), tmp_path / "g.qg", output_run="u/x", request_file=request)


def test_last_job_queues_for_the_database_only_if_it_registers(archive: Path, ask: Ask) -> None:
    from lsst.ctrl.bps import BpsConfig

    campaign = prepare(ask(archive), site="local")
    config = BpsConfig(str(campaign.bps_config))
    assert config["finalJob", "concurrencyLimit"] == "db_limit"
    # Which HTCondor heeds only in its own words.
    assert config[".finalJob.profile.condor"]["+ConcurrencyLimits"] == "db_limit"
    assert "bulkcutout" in config["finalJob", "command1"]
    other = ask(archive, registration={"butler": None, "collection": None}, output="other")
    config = BpsConfig(str(prepare(other, site="local").bps_config))
    assert config["finalJob", "concurrencyLimit"] == ""
