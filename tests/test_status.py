# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""What those are told who watch campaigns: states, counts, pictures, lists."""

from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
import threading
import time
from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from click.testing import CliRunner
from PIL import Image
from tiny_sky import TRACT

from lsst.dax.bulkcutout.campaign import Campaign
from lsst.dax.bulkcutout.cli import cli
from lsst.dax.bulkcutout.errors import UserError
from lsst.dax.bulkcutout.finish import finish
from lsst.dax.bulkcutout.finish_note import FinishNote, write_note
from lsst.dax.bulkcutout.submit import prepare
from lsst.dax.bulkcutout.tests import SkyRepository
from lsst.dax.bulkcutout.tests.campaigns import init_and_run, write_request
from lsst.dax.bulkcutout.watch.listing import list_campaigns
from lsst.dax.bulkcutout.watch.live import show_status
from lsst.dax.bulkcutout.watch.picture import _COLOURS, write_progress_picture
from lsst.dax.bulkcutout.watch.quanta import FinishedQuanta
from lsst.dax.bulkcutout.watch.register import note_campaign
from lsst.dax.bulkcutout.watch.status import StatusReader, read_status

PARSL = "lsst.ctrl.bps.parsl.ParslService"
HOLD = (
    "import sys, time; from pathlib import Path\n"
    "from lsst.dax.bulkcutout.campaign import Campaign\n"
    "from lsst.dax.bulkcutout.run_lock import hold_run\n"
    "with hold_run(Campaign(Path(sys.argv[1]))):\n"
    "    print('held', flush=True); time.sleep(600)\n"
)


@pytest.fixture
def campaign(tmp_path: Path, tiny_repo: SkyRepository, tiny_catalog: Path) -> Campaign:
    """Three patches of six targets; the last one has failed."""
    request = write_request(tmp_path, tiny_repo, tiny_catalog, size=9)
    return init_and_run(request, fail=[(TRACT, 2)])


def submit_directory(campaign: Campaign, **config: Any) -> Path:
    """What BPS leaves of a run: two jobs, the second of which has one patch
    and has begun.
    """
    directory = campaign.submit / "20261121T120000Z"
    (directory / "logs").mkdir(parents=True)
    (directory / "u_x_config.yaml").write_text(yaml.safe_dump({"computeSite": "here", **config}))
    jobs = {"one": [[TRACT, 0], [TRACT, 1]], "two": [[TRACT, 2]]}
    (directory / "jobs.json").write_text(json.dumps(jobs))
    for name in jobs:
        (directory / "logs" / f"{name}.stdout").touch()
    return directory


def status_command(campaign: Campaign, *options: str) -> tuple[int, str]:
    result = CliRunner().invoke(cli, ["status", str(campaign.root), *options])
    return result.exit_code, result.output


# -- rows ------------------------------------------------------------------


def test_rows_so_far_are_those_of_the_product(coded_request: Path) -> None:
    """The quanta count as the last job does, which looks at every row."""
    campaign = init_and_run(coded_request, fail=[(3, 0)])
    before = read_status(campaign)
    finish(campaign)
    table = pq.read_table(coded_request.parent / "out" / "status.parquet")
    answered = Counter(status for status in table["status"].to_pylist() if status != "not_processed")
    assert before.counts == dict(answered)
    assert (before.done, before.quanta, before.rows) == (3, 4, len(table))
    sizes = [path.stat().st_size for path in campaign.datastore.glob("**/*.hdf5")]
    assert before.bytes == sum(sizes)
    after = read_status(campaign)
    assert sum(after.counts.values()) == after.rows
    files = json.loads((coded_request.parent / "out" / "manifest.json").read_text())["files"]
    assert (after.files, after.product_bytes) == (len(files), sum(file["bytes"] for file in files))


def test_half_of_a_quantum_is_none(campaign: Campaign) -> None:
    """As for the product: cutouts or metadata alone count for nothing."""
    for name, patch in (("cutouts", 0), ("metadata", 1)):
        (path,) = campaign.datastore.glob(f"**/*_{name}/{TRACT}/{patch}/*")
        path.unlink()
    assert FinishedQuanta(campaign).read() == {}


def test_quanta_of_an_earlier_plan_do_not_count(campaign: Campaign) -> None:
    """Their files are still there when more rows have made a new plan."""
    before = campaign.graphs / "before-0000"
    before.mkdir()
    for path in campaign.graph_files():
        path.rename(before / path.name)
    assert FinishedQuanta(campaign).read() == {}


def test_asked_again_only_what_is_new_is_read(campaign: Campaign) -> None:
    quanta = FinishedQuanta(campaign)
    first = quanta.read()
    for path in campaign.datastore.glob("**/*_metadata/*/*/*.json"):
        path.write_text("no longer what it was")
    assert quanta.read() == first and len(first) == 2


def test_rate_and_time_left_fit_the_quanta(campaign: Campaign) -> None:
    """12 rows since the first quantum began; 6 are left."""
    began = min(
        json.loads(path.read_text())["metadata"]["quantum"]["arrays"]["startUtc"][0]
        for path in campaign.datastore.glob("**/*_metadata/*/*/*.json")
    )
    earliest = time.time() - datetime.fromisoformat(began).timestamp()
    found = read_status(campaign)
    latest = time.time() - datetime.fromisoformat(began).timestamp()
    assert found.rows_per_s is not None and found.seconds_left is not None
    assert earliest <= 12 / found.rows_per_s <= latest
    assert found.seconds_left == pytest.approx(6 / found.rows_per_s)


def test_each_quantum_logs_a_line_of_json(
    tmp_path: Path, tiny_repo: SkyRepository, tiny_catalog: Path, caplog: pytest.LogCaptureFixture
) -> None:
    request = write_request(tmp_path, tiny_repo, tiny_catalog, size=9, request_id="told")
    with caplog.at_level(logging.INFO):
        campaign = init_and_run(request)
    lines = [json.loads(message) for message in caplog.messages if message.startswith("{")]
    keys = ["event", "request", "tract", "patch", "rows", "bytes", "seconds"]
    keys.append("write_bytes_per_second")
    assert [list(line) for line in lines] == [keys] * 3
    assert all(line["write_bytes_per_second"] >= line["bytes"] / line["seconds"] for line in lines)
    sizes = {int(path.parent.name): path.stat().st_size for path in campaign.datastore.glob("**/*.hdf5")}
    assert {line["patch"]: line["bytes"] for line in lines} == sizes
    assert {(line["event"], line["request"], line["tract"], line["rows"]) for line in lines} == {
        ("quantum", "told", TRACT, 6)
    }


# -- states ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "status", "code"),
    [("complete", 0, 0), ("partial", 2, 2), ("cancelled", 2, 6), ("failed", 75, 75)],
)
def test_exit_code_tells_how_it_ended(campaign: Campaign, state: Any, status: int, code: int) -> None:
    write_note(campaign.finish_log, FinishNote(state, status, "a reason"))
    exit_code, said = status_command(campaign)
    assert exit_code == code and said.startswith(f"{state}: 2 of 3 quanta done")
    assert "message: a reason" in said


@pytest.mark.parametrize("text", ["", "{", "[]", "{}"])
def test_note_that_is_damaged_counts_for_nothing(campaign: Campaign, text: str) -> None:
    campaign.finish_log.write_text(text)
    assert read_status(campaign).state == "running"


def test_prepared_campaign_has_no_numbers_yet(coded_request: Path) -> None:
    campaign = prepare(coded_request, site="local")
    exit_code, said = status_command(campaign)
    assert exit_code == 4 and said.startswith("prepared: no quanta")
    directory = campaign.submit / "20261121T120000Z"
    directory.mkdir(parents=True)
    (directory / "quantumGraphGeneration.out").write_text("much\nbulkcutout: No such column.\n")
    assert read_status(campaign).message == "No such column."
    with pytest.raises(UserError, match="no patches to draw yet"):
        show_status(campaign, picture=coded_request.parent / "x.png", stream=io.StringIO())


def test_run_of_parsl_is_alive_as_long_as_its_process(campaign: Campaign) -> None:
    submit_directory(campaign, wmsServiceClass=PARSL)
    command = [sys.executable, "-c", HOLD, str(campaign.root)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        alive = read_status(campaign)
        assert status_command(campaign)[0] == 4
        process.kill()
    assert (alive.state, alive.site, alive.message) == ("running", "here", "")
    assert alive.quanta_by_state == {"done": 2, "running": 1}
    assert alive.jobs == {"running": 1, "done": 1}
    dead = read_status(campaign)
    assert dead.state == "stopped" and f"`bulkcutout restart {campaign.root}`" in dead.message
    assert dead.quanta_by_state == {"done": 2, "failed": 1}
    assert dead.jobs == {"done": 1, "failed": 1}
    assert status_command(campaign)[0] == 75


def test_what_nobody_knows_is_said(campaign: Campaign) -> None:
    """Never submitted by way of BPS; and a service that is not installed."""
    assert read_status(campaign).state == "running"
    assert "Nobody can tell" in read_status(campaign).message
    directory = submit_directory(campaign, wmsServiceClass="lsst.ctrl.bps.nowhere.NowhereService")
    assert "number of the run at here is not known" in read_status(campaign).message
    links = campaign.submit / "by-id"
    links.mkdir()
    (links / "4711").symlink_to(directory)
    found = read_status(campaign)
    assert (found.run, found.quanta_by_state) == ("4711", {"done": 2, "not_known": 1})
    assert "BPS cannot be asked about the run" in found.message


def test_broken_list_of_jobs_is_no_hindrance(campaign: Campaign) -> None:
    directory = submit_directory(campaign, wmsServiceClass=PARSL)
    for text in ("{", "[]", '{"one": 3}', '{"one": [["x", 1]]}'):
        (directory / "jobs.json").write_text(text)
        assert read_status(campaign).done == 2


# -- what is shown ---------------------------------------------------------


def test_watching_goes_on_to_the_end(campaign: Campaign) -> None:
    """And says the same only once."""
    stream = io.StringIO()
    timer = threading.Timer(1.0, write_note, [campaign.finish_log, FinishNote("partial", 2)])
    timer.start()
    last = show_status(campaign, interval_s=0.1, as_json=True, stream=stream)
    timer.join()
    states = [json.loads(line)["state"] for line in stream.getvalue().splitlines()]
    assert (last.state, states[0], states[-1]) == ("partial", "running", "partial")


def test_picture_has_the_colours_of_the_states(campaign: Campaign, tmp_path: Path) -> None:
    status, patches = StatusReader(campaign).read_with_patches()
    assert [(each.patch, each.rows, len(each.corners)) for each, _ in patches] == [
        (n, 6, 4) for n in range(3)
    ]
    states = ("done", "failed", "held")
    write_progress_picture(
        tmp_path / "x.png", status, [(each, state) for (each, _), state in zip(patches, states, strict=True)]
    )
    with Image.open(tmp_path / "x.png") as picture:
        pixels = np.asarray(picture)[60:720, 90:1070]
    shown = {state: int((pixels == colour).all(axis=-1).sum()) for state, colour in _COLOURS.items()}
    # Patches of the same size, of which the later ones hide a part of others.
    assert all(shown[state] > 10_000 for state in states)
    assert not any(shown[state] for state in _COLOURS if state not in states)


def test_list_shows_what_there_is_and_what_is_broken(
    campaign: Campaign, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BULKCUTOUT_CAMPAIGNS", str(tmp_path / "register"))
    broken = Campaign(tmp_path / "broken")
    broken.root.mkdir()
    broken.request.write_text("request_id: [")
    (broken.root / "bps.yaml").touch()
    note_campaign(campaign, "usdf")
    note_campaign(broken)
    write_note(campaign.finish_log, FinishNote("partial", 2))
    good, bad = sorted(list_campaigns(), key=lambda line: line.state, reverse=True)
    assert (good.request_id, good.site, good.state, good.done, good.quanta) == (
        "test",
        "usdf",
        "partial",
        2,
        3,
    )
    assert (good.rows, good.output) == (18, str(tmp_path / "out")) and 0 <= good.age_s < 600
    assert bad.state == "broken" and bad.message and bad.campaign == str(broken.root)
    assert [line.state for line in list_campaigns([tmp_path], states=["partial"])] == ["partial"]
    result = CliRunner().invoke(cli, ["list", "--state", "broken", "--json"])
    assert result.exit_code == 0 and len(json.loads(result.output)) == 1
    assert "partial     2/3    18" in CliRunner().invoke(cli, ["list"]).output
    for wrong, message in ((["--state", "runing"], "did you mean 'running'"), (["/nowhere"], "no directory")):
        with pytest.raises(UserError, match=message):
            CliRunner().invoke(cli, ["list", *wrong], catch_exceptions=False)
