# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Callbacks of whole campaigns: what a server hears, and that nothing depends
on it.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from tiny_sky import TRACT

from lsst.dax.bulkcutout.campaign import Campaign
from lsst.dax.bulkcutout.errors import UserError
from lsst.dax.bulkcutout.finish import COMPLETE, PARTIAL, TRY_AGAIN, finish
from lsst.dax.bulkcutout.quantum_graph_builder import build_graph
from lsst.dax.bulkcutout.submit import prepare
from lsst.dax.bulkcutout.tests import SkyRepository
from lsst.dax.bulkcutout.tests.callbacks import Answer, CallbackServer
from lsst.dax.bulkcutout.tests.campaigns import init_and_run, run_graph, run_here, write_request
from lsst.dax.bulkcutout.tests.sabotage import Fault, write_faults
from lsst.dax.bulkcutout.top_up import top_up
from lsst.dax.bulkcutout.verify.product import verify_product

PROGRAMS = Path(sys.executable).parent

PARTITION = {"by": "patch"}
"""Several small data files."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[CallbackServer]:
    with CallbackServer(tmp_path) as found:
        yield found


@pytest.fixture
def tiny_request(
    tmp_path: Path, tiny_repo: SkyRepository, tiny_catalog: Path, server: CallbackServer
) -> Path:
    return write_request(tmp_path, tiny_repo, tiny_catalog, size=9, notify=server.notify, partition=PARTITION)


def states(server: CallbackServer) -> list[str]:
    return [event["data"]["state"] for event in server.events]


def files_of(directory: Path) -> dict[str, tuple[int, str]]:
    """Time and checksum of every file."""
    return {
        path.relative_to(directory).as_posix(): (
            path.stat().st_mtime_ns,
            hashlib.sha256(path.read_bytes()).hexdigest(),
        )
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }


def run(*arguments: str | Path, status: int = 0, program: tuple[str, ...] = ()) -> str:
    """Run ``bulkcutout``, in an environment with nothing else in it."""
    environment = {"PATH": f"{PROGRAMS}:/usr/bin:/bin", "HOME": os.environ["HOME"]}
    if "PYTHONPATH" in os.environ:
        environment["PYTHONPATH"] = os.environ["PYTHONPATH"]
    if "BULKCUTOUT_CAMPAIGNS" in os.environ:
        environment["BULKCUTOUT_CAMPAIGNS"] = os.environ["BULKCUTOUT_CAMPAIGNS"]
    done = subprocess.run(
        [*(program or [str(PROGRAMS / "bulkcutout")]), *map(str, arguments)],
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
        env=environment,
    )
    assert done.returncode == status, done.stdout
    return done.stdout


# -- what a server hears ---------------------------------------------------


def test_server_hears_of_each_end_and_of_none_twice(
    tiny_request: Path, server: CallbackServer, tmp_path: Path
) -> None:
    campaign, status = run_here(tiny_request, fail=[(TRACT, 1)])
    assert status == PARTIAL and states(server) == ["partial"]
    (event,) = server.events
    data = event["data"]
    assert data["counts"] == {"delivered": 12, "not_processed": 6} and data["rows"] == 18
    assert data["run"].startswith("u/test/") and data["attempt"] == 1
    contents = (tmp_path / "out" / "manifest.json").read_bytes()
    assert data["manifest"]["sha256"] == hashlib.sha256(contents).hexdigest()
    assert data["manifest"]["size"] == len(contents)
    assert finish(campaign) == PARTIAL and len(server.calls) == 1
    graph = tmp_path / "again.qg"
    build_graph(campaign, graph, output_run="u/test/again")
    run_graph(campaign, graph)
    assert [finish(campaign), finish(campaign)] == [COMPLETE, COMPLETE]
    assert states(server) == ["partial", "succeeded"] and len(server.calls) == 2
    data = server.events[1]["data"]
    assert (data["counts"], data["run"], data["attempt"]) == ({"delivered": 18}, "u/test/again", 2)


def test_server_hears_of_a_cancel(tiny_request: Path, server: CallbackServer) -> None:
    campaign = init_and_run(tiny_request, fail=[(TRACT, 1)])
    campaign.cancelled.write_text(json.dumps({"time": "2026-11-21T17:00:00+00:00", "by": "somebody"}))
    assert finish(campaign) == PARTIAL
    assert states(server) == ["cancelled"]


def test_server_hears_of_a_failure_once_and_of_the_success_after_it(
    tiny_request: Path, server: CallbackServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """BPS tries the last job again; no try knows whether it is the last."""
    from lsst.dax.bulkcutout.formats.hdf5 import HDF5Writer

    campaign = init_and_run(tiny_request)
    with monkeypatch.context() as patch:
        patch.setattr(HDF5Writer, "write", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left")))
        assert [finish(campaign), finish(campaign)] == [TRY_AGAIN, TRY_AGAIN]
    assert states(server) == ["failed"] and len(server.calls) == 1
    assert server.events[0]["data"]["manifest"] is None
    assert finish(campaign) == COMPLETE
    assert states(server) == ["failed", "succeeded"]


def test_error_that_nobody_has_foreseen_is_told_and_travels_on(
    tiny_request: Path, server: CallbackServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    campaign = init_and_run(tiny_request)
    monkeypatch.setattr("lsst.dax.bulkcutout.finish.read_outputs", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        finish(campaign)
    assert states(server) == ["failed"]


def test_finish_that_is_killed_is_told_by_whoever_waited_for_it(
    tiny_request: Path, server: CallbackServer, tmp_path: Path
) -> None:
    campaign = init_and_run(tiny_request)
    faults = tmp_path / "faults.json"
    write_faults(faults, [Fault("die", str(tmp_path / "died"), where="packaging")])
    program = (sys.executable, "-m", "lsst.dax.bulkcutout.tests.sabotage", str(faults))
    run("finish", campaign.root, "--processes", "1", status=TRY_AGAIN, program=program)
    assert states(server) == ["failed"]
    run("finish", campaign.root)
    assert states(server) == ["failed", "succeeded"]


def test_finish_that_is_killed_while_it_calls_is_complete_and_told_later(
    tiny_request: Path, server: CallbackServer, tmp_path: Path
) -> None:
    campaign = init_and_run(tiny_request)
    server.answer_with("slow")
    killed = threading.Event()

    def kill() -> None:
        server.wait_for(1)
        (child,) = [
            process
            for process in psutil.Process().children(recursive=True)
            if process.ppid() != os.getpid() and str(campaign.root) in process.cmdline()
        ]
        child.send_signal(signal.SIGKILL)
        killed.set()

    killer = threading.Thread(target=kill)
    killer.start()
    run("finish", campaign.root, status=COMPLETE)
    killer.join()
    assert killed.is_set() and len(list((tmp_path / "out" / "callback.spool").iterdir())) == 1
    run("finish", campaign.root)
    assert states(server) == ["succeeded"] and not (tmp_path / "out" / "callback.spool").exists()


# -- nothing depends on it -------------------------------------------------


def test_whatever_the_server_does_the_end_is_the_same(
    tiny_request: Path, server: CallbackServer, tmp_path: Path
) -> None:
    """And the product with it, of which nothing is written again."""
    campaign, _ = run_here(tiny_request)
    server.stop()
    out = tmp_path / "out"
    before = files_of(out)
    answers: list[tuple[Answer, ...]] = [(410,), (500, 500), ("slow",), ("garbage",), (301,), (404,)]
    for number, answer in enumerate(answers):
        (tmp_path / str(number)).mkdir()
        with CallbackServer(tmp_path / str(number), 20 * answer) as other:
            contents = yaml.safe_load(campaign.request.read_text()) | {"notify": other.notify}
            campaign.request.write_text(yaml.safe_dump(contents))
            assert finish(campaign, callback_s=0.5) == COMPLETE
            assert other.calls
    # What waits is no fault of the product.
    assert (out / "callback.spool").exists()
    assert verify_product(out, sample=5).ok
    after = {name: found for name, found in files_of(out).items() if "callback.spool" not in name}
    assert after == before


def test_neither_address_nor_secret_file_is_in_the_product(
    tiny_request: Path, server: CallbackServer, tmp_path: Path
) -> None:
    run_here(tiny_request)
    for path in (tmp_path / "out").rglob("*"):
        if path.is_file():
            contents = path.read_bytes()
            assert server.url.encode() not in contents and b"callback.secret" not in contents, path
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert "notify" not in manifest["request"]


def test_another_address_is_the_same_campaign(
    tiny_request: Path, server: CallbackServer, tmp_path: Path
) -> None:
    """Whether BPS is given the request again, or it comes with a restart."""
    campaign, _ = run_here(tiny_request)
    (tmp_path / "other").mkdir()
    contents = json.loads(tiny_request.read_text())
    before = files_of(tmp_path / "out")
    with CallbackServer(tmp_path / "other") as other:
        tiny_request.write_text(json.dumps(contents | {"notify": other.notify}))
        assert top_up(campaign, tiny_request) == 0
        assert finish(campaign) == COMPLETE
        assert states(other) == states(server) == ["succeeded"]
        tiny_request.write_text(json.dumps(contents))
    assert files_of(tmp_path / "out") == before
    (tmp_path / "failing").mkdir()
    second = write_request(
        tmp_path / "failing",
        *(_repo(contents), Path(contents["catalog"]["uri"])),
        **{key: contents[key] for key in ("size", "partition")},
    )
    campaign = init_and_run(second, fail=[(TRACT, 1)])
    changed = json.loads(second.read_text())
    second.write_text(json.dumps(changed | {"notify": server.notify}))
    build_graph(campaign, tmp_path / "failing" / "again.qg", output_run="u/test/x", request_file=second)
    assert server.url in campaign.request.read_text()
    second.write_text(json.dumps(changed | {"size": 11}))
    with pytest.raises(UserError, match="is not what campaign"):
        build_graph(campaign, tmp_path / "no.qg", output_run="u/test/y", request_file=second)


class _repo:  # noqa: N801 (stands in for a repository, of which the request says all)
    def __init__(self, contents: dict[str, Any]) -> None:
        self.root = contents["butler"]
        (self.collection,) = contents["collections"]
        self.dataset_type = contents["dataset_type"]


# -- secrets ---------------------------------------------------------------


def test_secret_that_is_no_good_is_refused_before_anything_is_done(
    tiny_request: Path, server: CallbackServer, tmp_path: Path
) -> None:
    server.secret_file.chmod(0o640)
    with pytest.raises(UserError, match=r"notify\.secret_file.*chmod 600"):
        prepare(tiny_request, site="local")
    # As `bps submit` of one's own file does.
    campaign = Campaign(tmp_path / "own")
    with pytest.raises(UserError, match=r"notify\.secret_file.*chmod 600"):
        build_graph(campaign, tmp_path / "x.qg", output_run="u/x", request_file=tiny_request)
    assert not (tmp_path / "out").exists() and not (tmp_path / "out.campaign").exists()
    assert not campaign.root.exists()
    server.secret_file.unlink()
    with pytest.raises(UserError, match=r"notify\.secret_file.*No such file"):
        prepare(tiny_request, site="local")


def test_secret_in_the_directory_of_the_product_is_refused(
    tiny_request: Path, server: CallbackServer, tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "out")
    server.secret_file.rename(tmp_path / "out" / "secret")
    for name in ("out/secret", "link/secret"):
        contents = json.loads(tiny_request.read_text())
        contents["notify"]["secret_file"] = name
        tiny_request.write_text(json.dumps(contents))
        with pytest.raises(UserError, match="handed to others"):
            prepare(tiny_request, site="local")


def test_restart_does_not_need_a_secret_that_the_server_has_taken_back(
    tiny_request: Path, server: CallbackServer, tmp_path: Path
) -> None:
    campaign, _ = run_here(tiny_request, fail=[(TRACT, 1)])
    server.secret_file.unlink()
    graph = tmp_path / "again.qg"
    build_graph(campaign, graph, output_run="u/test/again", request_file=tiny_request)
    run_graph(campaign, graph)
    assert finish(campaign) == COMPLETE


def test_secret_is_in_no_log_no_environment_no_command_line_and_no_file(
    tiny_request: Path, server: CallbackServer, tmp_path: Path
) -> None:
    """Of a real run, of which every process is looked at while it lives; the
    server is in trouble first, because that is what is logged most.
    """
    text = server.secret_file.read_text().strip()
    key = base64.b64decode(text.removeprefix("whsec_"))
    traces = [key, key.hex().encode(), text.removeprefix("whsec_").encode().rstrip(b"=")]
    server.answer_with(500, "garbage", "close")
    seen: dict[str, bytes] = {}
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(0.1):
            for process in psutil.Process().children(recursive=True):
                for name in ("environ", "cmdline"):
                    try:
                        contents = Path(f"/proc/{process.pid}/{name}").read_bytes()
                    except OSError:
                        continue
                    seen[f"{process.pid} {name} {hash(contents)}"] = contents

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        said = run("-v", "submit", tiny_request)
    finally:
        ended.set()
        watcher.join()
    assert states(server) == ["succeeded"] and len(server.calls) == 4
    assert any(b"finish" in contents and b"--processes" in contents for contents in seen.values())
    logs = b"".join(path.read_bytes() for path in (tmp_path / "out.campaign" / "submit").rglob("*.std*"))
    assert b"was told" in logs or b"was told" in said.encode()
    for path in tmp_path.rglob("*"):
        if path.is_file() and path != server.secret_file:
            seen[str(path)] = path.read_bytes()
    assert len(seen) > 50
    for name, contents in (seen | {"said": said.encode()}).items():
        assert not any(trace in contents for trace in traces), name
