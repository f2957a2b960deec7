# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""The last job of a cancelled campaign: a manifest, and no packaging."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from pathlib import Path
from typing import Any
from unittest import mock

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tiny_sky import SIZE, TRACT, tiny_table

from lsst.dax.bulkcutout.campaign import Campaign
from lsst.dax.bulkcutout.finish import COMPLETE, PARTIAL, finish
from lsst.dax.bulkcutout.finish_note import read_note
from lsst.dax.bulkcutout.manifest import Manifest, read_manifest
from lsst.dax.bulkcutout.repackage import repackager
from lsst.dax.bulkcutout.tests import SkyRepository
from lsst.dax.bulkcutout.tests.campaigns import init_and_run, run_here, write_request
from lsst.dax.bulkcutout.top_up import top_up
from lsst.dax.bulkcutout.verify.product import verify_product

ROWS = 18
BY = {"time": "2026-11-21T00:00:00+00:00", "by": "somebody"}


def digests(out: Path) -> dict[str, str]:
    """Checksums of all that does not depend on when and how it was made."""
    return {
        path.relative_to(out).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(out.rglob("*"))
        if path.is_file() and path.name not in ("manifest.json", ".bulkcutout-campaign.json")
    }


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, tiny_repo: SkyRepository) -> dict[str, str]:
    directory = tmp_path_factory.mktemp("undisturbed")
    assert run_here(a_request(directory, tiny_repo))[1] == COMPLETE
    return digests(directory / "out")


def a_request(directory: Path, repo: SkyRepository, rows: int = ROWS, **columns: Any) -> Path:
    """Six targets in each of three patches, a file for each patch."""
    catalog = directory / "catalog.parquet"
    pq.write_table(tiny_table(repo, **columns).slice(0, rows), catalog)
    return write_request(directory, repo, catalog, size=SIZE, partition={"by": "patch"}, status_votable=True)


def cancel(campaign: Campaign) -> None:
    campaign.cancelled.write_text(json.dumps(BY))


def answers_of(out: Path) -> list[dict[str, Any]]:
    """The answers; every row of the catalog has one, and the files agree."""
    answers = pq.read_table(out / "status.parquet").to_pylist()
    manifest = read_manifest(out)
    assert [answer["row"] for answer in answers] == list(range(manifest.rows))
    assert Counter(answer["status"] for answer in answers) == manifest.counts
    report = verify_product(out, sample=5)
    assert report.ok, report
    return answers


def cancelled_manifest(out: Path) -> Manifest:
    manifest = read_manifest(out)
    assert not manifest.complete and manifest.execution["cancelled"] == BY
    return manifest


def test_cancelled_campaign_gets_a_manifest_without_data_files(
    tmp_path: Path, tiny_repo: SkyRepository, undisturbed: dict[str, str]
) -> None:
    """Two of three patches are cut when it is cancelled; then all goes on."""
    request = a_request(tmp_path, tiny_repo)
    campaign = init_and_run(request, fail=[(TRACT, 1)])
    cancel(campaign)
    out = tmp_path / "out"
    assert finish(campaign) == PARTIAL
    note = read_note(campaign.finish_log)
    assert note is not None and (note.state, note.status) == ("cancelled", PARTIAL)
    manifest = cancelled_manifest(out)
    assert manifest.counts == {"not_processed": ROWS} and not list(out.glob("size=*/*"))
    assert {answer["reason"] for answer in answers_of(out)} == {
        "The campaign was cancelled when 2 of 3 patches had been cut; restart it, and only the rest is cut."
    }
    before = (out / "manifest.json").read_bytes()
    assert finish(campaign) == PARTIAL
    assert (out / "manifest.json").read_bytes() == before
    campaign.cancelled.unlink()
    _, status = run_here(request)
    assert status == COMPLETE
    assert digests(out) == undisturbed
    assert "cancelled" not in read_manifest(out).execution


def test_no_cutout_is_read_after_a_cancel(
    tmp_path: Path, tiny_repo: SkyRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that it is quick, however many patches have been cut."""
    campaign = init_and_run(a_request(tmp_path, tiny_repo))
    cancel(campaign)
    monkeypatch.setattr(repackager, "CutoutDataset", mock.Mock(side_effect=AssertionError))
    assert finish(campaign) == PARTIAL
    cancelled_manifest(tmp_path / "out")


def test_what_was_delivered_before_the_cancel_stays(
    tmp_path: Path, tiny_repo: SkyRepository, undisturbed: dict[str, str]
) -> None:
    """A first attempt delivers two patches, a restart is cancelled after it
    has cut the third.
    """
    request = a_request(tmp_path, tiny_repo)
    out = tmp_path / "out"
    campaign, status = run_here(request, fail=[(TRACT, 1)])
    assert status == PARTIAL
    kept = {path: path.stat().st_mtime_ns for path in out.glob("size=*/*")}
    init_and_run(request)
    cancel(campaign)
    assert finish(campaign) == PARTIAL
    assert cancelled_manifest(out).counts == {"delivered": 12, "not_processed": 6}
    lost = [answer for answer in answers_of(out) if answer["status"] != "delivered"]
    assert {answer["patch"] for answer in lost} == {1}
    assert "3 of 3 patches" in lost[0]["reason"]
    assert {path: path.stat().st_mtime_ns for path in out.glob("size=*/*")} == kept
    campaign.cancelled.unlink()
    assert finish(campaign) == COMPLETE
    assert digests(out) == undisturbed


def test_complete_product_stays_complete_after_a_late_cancel(
    tmp_path: Path, tiny_repo: SkyRepository, undisturbed: dict[str, str]
) -> None:
    campaign, status = run_here(a_request(tmp_path, tiny_repo))
    assert status == COMPLETE
    before = (tmp_path / "out" / "manifest.json").read_bytes()
    cancel(campaign)
    assert finish(campaign) == COMPLETE
    note = read_note(campaign.finish_log)
    assert note is not None and note.state == "complete"
    assert (tmp_path / "out" / "manifest.json").read_bytes() == before


def test_top_up_that_is_cancelled_does_not_pass_for_complete(
    tmp_path: Path, tiny_repo: SkyRepository, undisturbed: dict[str, str]
) -> None:
    """All files of the product of twelve rows are still right, but the
    catalog has eighteen rows now.
    """
    request = a_request(tmp_path, tiny_repo, rows=12)
    campaign, status = run_here(request)
    assert status == COMPLETE
    assert a_request(tmp_path, tiny_repo) == request
    assert top_up(campaign, request) == 1
    cancel(campaign)
    assert finish(campaign) == PARTIAL
    out = tmp_path / "out"
    assert cancelled_manifest(out).counts["not_processed"] >= 6
    assert len(answers_of(out)) == ROWS
    campaign.cancelled.unlink()
    assert run_here(request)[1] == COMPLETE
    assert digests(out) == undisturbed


def test_new_row_that_is_refused_is_answered(tmp_path: Path, tiny_repo: SkyRepository) -> None:
    """No data file changes when a catalog gets such a row."""
    request = a_request(tmp_path, tiny_repo, rows=12)
    campaign, status = run_here(request)
    assert status == COMPLETE
    catalog = tmp_path / "catalog.parquet"
    table = pq.read_table(catalog)
    far = pa.table({"id": [999], "ra": [1.0], "dec": [-60.0]})
    pq.write_table(pa.concat_tables([table, far]), catalog)
    assert top_up(campaign, request) == 0
    assert finish(campaign) == COMPLETE
    answers = answers_of(tmp_path / "out")
    assert len(answers) == 13 and answers[-1]["status"] == "outside_footprint"


def test_damaged_marker_is_a_marker(tmp_path: Path, tiny_repo: SkyRepository) -> None:
    campaign = init_and_run(a_request(tmp_path, tiny_repo))
    campaign.cancelled.write_text("")
    assert finish(campaign) == PARTIAL
    note = read_note(campaign.finish_log)
    assert note is not None and note.state == "cancelled"
