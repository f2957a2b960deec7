# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""The last job: one at a time, and a note of how it went."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import textwrap
from collections import Counter
from pathlib import Path
from unittest import mock

import pyarrow.parquet as pq
import pytest
from tiny_sky import SIZE, TRACT, tiny_table

from lsst.dax.bulkcutout import finish as module
from lsst.dax.bulkcutout.campaign import Campaign
from lsst.dax.bulkcutout.errors import UserError
from lsst.dax.bulkcutout.finish import COMPLETE, PARTIAL, TRY_AGAIN, _lock, finish
from lsst.dax.bulkcutout.finish_note import read_note
from lsst.dax.bulkcutout.manifest import read_manifest
from lsst.dax.bulkcutout.tests import SkyRepository
from lsst.dax.bulkcutout.tests.campaigns import init_and_run, run_here, write_request
from lsst.dax.bulkcutout.verify.product import verify_product


def test_second_finish_of_a_campaign_has_to_wait(tmp_path: Path) -> None:
    campaign = Campaign(tmp_path)
    with _lock(campaign):
        assert finish(campaign) == TRY_AGAIN
    # How it ended is for the first one to say.
    assert not campaign.finish_log.exists()


def test_campaign_without_a_plan_is_the_users_to_mend(tmp_path: Path, coded_request: Path) -> None:
    campaign = Campaign(tmp_path)
    campaign.request.write_text(coded_request.read_text())
    with pytest.raises(UserError, match="has no plan yet"):
        finish(campaign)


def test_plan_of_another_version_is_named(tmp_path: Path, coded_request: Path) -> None:
    campaign = Campaign(tmp_path)
    campaign.plan.write_text(json.dumps({"plan_version": 99}))
    with pytest.raises(UserError, match=r"plan version 99, known is \d+"):
        campaign.read_plan()


@pytest.fixture
def tiny_request(tmp_path: Path, tiny_repo: SkyRepository) -> Path:
    """Six targets in each of three patches."""
    catalog = tmp_path / "catalog.parquet"
    pq.write_table(tiny_table(tiny_repo), catalog)
    return write_request(tmp_path, tiny_repo, catalog, size=SIZE, partition={"by": "patch"})


def test_all_quanta_have_failed(tmp_path: Path, tiny_request: Path) -> None:
    """The product has no data file, and an answer for every row."""
    campaign, status = run_here(tiny_request, fail=[(TRACT, patch) for patch in range(3)])
    assert status == PARTIAL
    note = read_note(campaign.finish_log)
    assert note is not None and note.state == "partial"
    out = tmp_path / "out"
    assert read_manifest(out).counts == {"not_processed": 18} and not list(out.glob("size=*/*"))
    assert pq.read_table(out / "status.parquet")["row"].to_pylist() == list(range(18))
    assert verify_product(out, sample=0).ok
    assert run_here(tiny_request)[1] == COMPLETE


def test_metadata_without_cutouts_count_for_nothing(tmp_path: Path, tiny_request: Path) -> None:
    campaign = init_and_run(tiny_request)
    (lost,) = campaign.datastore.glob(f"**/*_bulk_cutouts/{TRACT}/1/*.hdf5")
    lost.unlink()
    assert finish(campaign) == PARTIAL
    answers = pq.read_table(tmp_path / "out" / "status.parquet").to_pylist()
    found = Counter((answer["patch"], answer["status"]) for answer in answers)
    assert found == {(0, "delivered"): 6, (1, "not_processed"): 6, (2, "delivered"): 6}
    assert run_here(tiny_request)[1] == COMPLETE


def test_plan_without_a_graph_does_not_empty_a_product(tmp_path: Path, tiny_request: Path) -> None:
    """As when somebody has tidied up too much."""
    campaign, status = run_here(tiny_request)
    assert status == COMPLETE
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")}
    shutil.rmtree(campaign.graphs)
    with pytest.raises(UserError, match="has a plan, but no quantum graph"):
        finish(campaign)
    note = read_note(campaign.finish_log)
    assert note is not None and (note.state, note.status) == ("failed", 1)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")} == before


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (MemoryError(), TRY_AGAIN, "There is not enough memory"),
        (OSError(5, "Input/output error"), TRY_AGAIN, "Input/output error"),
        (KeyError("unforeseen"), None, "KeyError: 'unforeseen'"),
    ],
)
def test_every_end_is_noted(tiny_request: Path, error: Exception, status: int | None, said: str) -> None:
    """What nobody foresaw is noted, and then travels on."""
    campaign = init_and_run(tiny_request)
    with mock.patch.object(module, "write_status_table", side_effect=error):
        if status is None:
            with pytest.raises(type(error)):
                finish(campaign)
        else:
            assert finish(campaign) == status
    note = read_note(campaign.finish_log)
    assert note is not None and note.state == "failed" and said in note.message
    assert finish(campaign) == COMPLETE


def test_two_at_the_same_time_make_one_product(tmp_path: Path, tiny_request: Path) -> None:
    """The second one ends at once, and takes nothing from the first."""
    campaign = init_and_run(tiny_request)
    slow = f"""
    import time
    from pathlib import Path
    from lsst.dax.bulkcutout import finish as module
    from lsst.dax.bulkcutout.campaign import Campaign
    def slowly(done, total):
        print("at work", flush=True)
        input()
    raise SystemExit(module.finish(Campaign(Path({str(campaign.root)!r})), progress=slowly))
    """
    first = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(slow)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert first.stdout is not None and first.stdout.readline() == "at work\n"
    assert finish(campaign) == TRY_AGAIN
    assert read_note(campaign.finish_log) is None
    first.communicate("\n" * 100, timeout=60)
    assert first.returncode == COMPLETE
    assert finish(campaign) == COMPLETE and verify_product(tmp_path / "out", sample=18).ok
