# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""The server is told how a campaign has ended: sent, tried again, kept for
later, and never a reason for anything to fail.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import logging
import re
import socket
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import standardwebhooks

from lsst.dax.bulkcutout.callback import delivery
from lsst.dax.bulkcutout.callback import notify as notify_module
from lsst.dax.bulkcutout.callback.delivery import Answer, Clock, Delivery, Outcome, Schedule, deliver
from lsst.dax.bulkcutout.callback.notify import notify
from lsst.dax.bulkcutout.callback.webhook import Secret, Verdict
from lsst.dax.bulkcutout.campaign import Campaign
from lsst.dax.bulkcutout.errors import UserError
from lsst.dax.bulkcutout.failed_build import noting_failure
from lsst.dax.bulkcutout.finish_note import State
from lsst.dax.bulkcutout.manifest import Manifest, write_manifest
from lsst.dax.bulkcutout.request import check_request
from lsst.dax.bulkcutout.tests import callbacks
from lsst.dax.bulkcutout.tests.callbacks import CallbackServer

QUICK = Schedule(budget_s=5.0, timeout_s=0.3, first_wait_s=0.01, longest_wait_s=0.02)
SHORT = Schedule(budget_s=0.3, timeout_s=0.1, first_wait_s=0.01, longest_wait_s=0.02)
SECRET = Secret(bytes(range(40)))


class TestClock(Clock):
    """Time goes by only while somebody waits."""

    __test__ = False

    def __init__(self) -> None:
        self.now = 0.0
        self.sleeps: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return 1_800_000_000 + self.now

    def sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)
        self.now += seconds


def send(url: str, schedule: Schedule = QUICK, **options: Any) -> Delivery:
    """Send something for as long as the schedule allows."""
    clock = options.pop("clock", Clock())
    deadline = clock.monotonic() + schedule.budget_s
    return deliver(
        url,
        b'{"a":1}',
        webhook_id="msg_1",
        secret=options.pop("secret", SECRET),
        deadline=deadline,
        schedule=schedule,
        clock=clock,
        **options,
    )


# -- one delivery ----------------------------------------------------------


def test_callback_is_taken_by_a_server_that_uses_the_library(tmp_path: Path) -> None:
    with CallbackServer(tmp_path) as server:
        found = send(f"{server.url}?a=b", secret=server.secret)
        (call,) = server.calls
    assert found == Delivery(Outcome.DELIVERED, 1, "HTTP 204")
    assert call.path == "/hooks/test?a=b"
    assert call.headers["content-type"] == "application/json"
    library = standardwebhooks.Webhook(server.secret_file.read_text().strip())
    assert library.verify(call.body, call.headers) == {"a": 1}


@pytest.mark.parametrize("first", ["slow", "drip", "close", "half", "garbage", 500, 503, 502, 408, 429, 425])
def test_server_in_trouble_is_tried_again_with_the_same_identifier(
    tmp_path: Path, first: callbacks.Answer
) -> None:
    with CallbackServer(tmp_path, [first, first]) as server:
        found = send(server.url, secret=server.secret)
        assert found == Delivery(Outcome.DELIVERED, 3, "HTTP 204")
        assert {call.headers["webhook-id"] for call in server.calls} == {"msg_1"}
        assert [call.verification.verdict for call in server.calls] == 3 * [Verdict.GENUINE]


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_any_2xx_is_a_delivery(tmp_path: Path, status: int) -> None:
    with CallbackServer(tmp_path, [status]) as server:
        assert send(server.url) == Delivery(Outcome.DELIVERED, 1, f"HTTP {status}")


@pytest.mark.parametrize("status", [300, 301, 302, 307, 308, 400, 401, 403, 404, 409, 413])
def test_answer_that_will_be_the_same_in_a_minute_ends_the_tries(tmp_path: Path, status: int) -> None:
    """Redirects are not followed: the address is what was allowed."""
    with CallbackServer(tmp_path, [status]) as server:
        assert send(server.url) == Delivery(Outcome.REFUSED, 1, f"HTTP {status}")
        assert [call.path for call in server.calls] == ["/hooks/test"]


def test_server_that_wants_no_more_is_known_by_410(tmp_path: Path) -> None:
    with CallbackServer(tmp_path, [410]) as server:
        assert send(server.url).outcome is Outcome.GONE


def test_server_that_is_down_is_tried_until_time_is_up(tmp_path: Path) -> None:
    server = CallbackServer(tmp_path)
    server.start()
    server.stop()
    start = time.monotonic()
    found = send(server.url, SHORT)
    assert found.outcome is Outcome.NOT_REACHED and found.reason == "Connection refused"
    assert found.tries >= 2 and 0.1 < time.monotonic() - start < 2


@pytest.mark.parametrize("answer", ["slow", "drip"])
def test_server_that_never_ends_its_answer_costs_the_budget_and_no_more(
    tmp_path: Path, answer: callbacks.Answer
) -> None:
    """A byte now and then would keep a time-out of the socket from coming."""
    with CallbackServer(tmp_path, 100 * [answer]) as server:
        start = time.monotonic()
        found = send(server.url, SHORT)
        assert time.monotonic() - start < 2
    assert found.outcome is Outcome.NOT_REACHED and "no answer" in found.reason


def test_host_that_does_not_exist_is_not_reached() -> None:
    found = send("http://no-such-host.invalid/", SHORT)
    assert found.outcome is Outcome.NOT_REACHED and found.tries >= 1


def test_look_up_of_a_host_that_hangs_does_not_hang_us(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has no time-out of its own."""
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: time.sleep(5) or [])
    start = time.monotonic()
    assert send("http://slow.example/", SHORT).outcome is Outcome.NOT_REACHED
    assert time.monotonic() - start < 2


@pytest.mark.parametrize("seed", range(20))
def test_all_tries_and_waits_together_take_at_most_three_minutes(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a server that takes each call and never answers; and the waits
    grow, but not evenly.
    """
    clock, given, times = TestClock(), [], []
    monkeypatch.setattr(delivery.random, "uniform", delivery.random.Random(seed).uniform)

    def post(url: str, headers: Mapping[str, str], body: bytes, timeout_s: float) -> Answer:
        given.append(timeout_s)
        times.append(int(headers["webhook-timestamp"]))
        clock.now += timeout_s
        return Answer(None, "no answer")

    found = send("http://127.0.0.1/", Schedule(), clock=clock, post=post)
    assert found.outcome is Outcome.NOT_REACHED and found.tries == len(given) >= 5
    assert 100 < clock.now <= 180
    assert 15 <= max(given) <= 30, "what Standard Webhooks recommends"
    waits = clock.sleeps
    assert all(min(2**n, 30) / 2 <= wait <= min(2**n, 30) for n, wait in enumerate(waits))
    # A receiver refuses what was signed five minutes ago.
    assert times == sorted(set(times))


def test_quick_refusals_are_not_tried_hundreds_of_times() -> None:
    clock = TestClock()
    found = send("x", Schedule(), clock=clock, post=lambda *_: Answer(503, "HTTP 503"))
    assert 8 <= found.tries <= 20 and clock.now <= 180


def test_waits_are_not_the_same_for_all_campaigns() -> None:
    waits = []
    for _ in range(3):
        clock = TestClock()
        send("x", Schedule(), clock=clock, post=lambda *_: Answer(503, "HTTP 503"))
        waits.append(tuple(clock.sleeps))
    assert len(set(waits)) == 3


def test_server_that_asks_for_time_is_given_it(tmp_path: Path) -> None:
    clock = TestClock()
    with CallbackServer(tmp_path, [503], headers={"Retry-After": "40"}) as server:
        assert send(server.url, Schedule(), secret=server.secret, clock=clock).tries == 2
    assert clock.sleeps == [40]


@pytest.mark.parametrize("asked", ["Fri, 31 Dec 9999 23:59:59 GMT", "99999", "9" * 500])
def test_server_that_asks_for_more_time_than_there_is_ends_the_tries(tmp_path: Path, asked: str) -> None:
    clock = TestClock()
    with CallbackServer(tmp_path, [503], headers={"Retry-After": asked}) as server:
        found = send(server.url, Schedule(), clock=clock)
    assert found == Delivery(Outcome.NOT_REACHED, 1, "HTTP 503") and clock.now == 0


@pytest.mark.parametrize("asked", ["", "-5", "soon", "Wed, 21 Oct 2015 07:28:00 GMT", "1.5", "nan", "٣"])
def test_senseless_wish_of_a_server_is_left_alone(tmp_path: Path, asked: str) -> None:
    with CallbackServer(tmp_path, [503], headers={"Retry-After": asked.encode().decode("latin-1")}) as server:
        assert send(server.url, secret=server.secret).outcome is Outcome.DELIVERED


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Key and certificate of 127.0.0.1 in one file."""
    path = tmp_path_factory.mktemp("tls") / "server.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=test"
    name = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(path), "-out", f"{path}.crt"]
    subprocess.run([*command.split(), *name], check=True, capture_output=True)
    path.write_text(path.read_text() + Path(f"{path}.crt").read_text())
    return path


def test_certificate_is_verified(tmp_path: Path, certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with CallbackServer(tmp_path, certificate=certificate) as server:
        found = send(server.url, SHORT, secret=server.secret)
        assert found.outcome is Outcome.NOT_REACHED and "certificate is not good" in found.reason
        assert not server.calls
        monkeypatch.setenv("SSL_CERT_FILE", f"{certificate}.crt")
        assert send(server.url, secret=server.secret).outcome is Outcome.DELIVERED
        assert server.calls
        # Another name than that of the certificate.
        found = send(server.url.replace("127.0.0.1", "localhost"), SHORT)
        assert "certificate is not good" in found.reason


# -- the last act of finish ------------------------------------------------


def make_campaign(directory: Path, notify_field: dict[str, str] | None) -> tuple[Campaign, Manifest]:
    """A campaign that has a request and a product, and nothing else."""
    contents: dict[str, Any] = {
        "request_id": "my-galaxies",
        "catalog": {"uri": "catalog.parquet"},
        "butler": "/repo/dp2",
        "collections": ["coadds"],
        "dataset_type": "deep_coadd",
        "size": 64,
        "output": "out",
    }
    if notify_field is not None:
        contents["notify"] = notify_field
    request = check_request(contents, directory=directory)
    campaign = Campaign(directory / "out.campaign")
    campaign.graphs.mkdir(parents=True)
    (campaign.graphs / "0000.qg").touch()
    campaign.request.write_text(request.to_yaml())
    manifest = Manifest(
        request_id="my-galaxies",
        request=request.of_product(),
        bands=("g", "r"),
        rows=10,
        counts={"delivered": 7, "outside_footprint": 2, "not_processed": 1},
        complete=False,
        files=(),
        execution={"runs": ["u/me/bulkcutout/1"]},
    )
    (directory / "out").mkdir()
    write_manifest(directory / "out", manifest)
    return campaign, manifest


def spooled(campaign: Campaign) -> list[str]:
    """What is kept for later, as states."""
    paths = campaign.root.parent.glob("out/callback.spool/*")
    return [json.loads(path.read_text())["data"]["state"] for path in sorted(paths)]


def test_server_is_told_all_that_it_needs_to_know(tmp_path: Path) -> None:
    with CallbackServer(tmp_path) as server:
        campaign, manifest = make_campaign(tmp_path, server.notify)
        notify(campaign, "partial", manifest)
        (call,), (event,) = server.calls, server.events
    contents = (tmp_path / "out" / "manifest.json").read_bytes()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", event.pop("timestamp"))
    assert event == {
        "type": "bulkcutout.campaign.finished",
        "data": {
            "request_id": "my-galaxies",
            "run": None,
            "attempt": 1,
            "state": "partial",
            "rows": 10,
            "counts": {"delivered": 7, "outside_footprint": 2, "not_processed": 1},
            "manifest": {
                "name": "manifest.json",
                "size": len(contents),
                "sha256": hashlib.sha256(contents).hexdigest(),
            },
        },
    }
    assert len(call.body) < 65536
    assert not (tmp_path / "out" / "callback.spool").exists()
    (noted,) = json.loads(campaign.callback.read_text())["calls"]
    assert (noted["id"], noted["outcome"]) == (call.headers["webhook-id"], "delivered")


@pytest.mark.parametrize(
    ("state", "told"),
    [("complete", "succeeded"), ("partial", "partial"), ("failed", "failed"), ("cancelled", "cancelled")],
)
def test_states_are_told_in_the_words_of_job_services(tmp_path: Path, state: State, told: str) -> None:
    with CallbackServer(tmp_path) as server:
        campaign, manifest = make_campaign(tmp_path, server.notify)
        notify(campaign, state, None if state == "failed" else manifest)
        (event,) = server.events
    assert event["data"]["state"] == told
    assert (event["data"]["manifest"] is None) == (state == "failed")


def test_same_outcome_is_told_once_and_another_one_again(tmp_path: Path) -> None:
    with CallbackServer(tmp_path) as server:
        campaign, manifest = make_campaign(tmp_path, server.notify)
        for _ in range(3):
            notify(campaign, "partial", manifest)
        assert len(server.calls) == 1
        notify(campaign, "failed")
        notify(campaign, "failed")
        assert len(server.calls) == 2
        # A restart, which ends as the first attempt did.
        (campaign.graphs / "0001.qg").touch()
        notify(campaign, "partial", manifest)
        complete = manifest.model_copy(update={"complete": True, "counts": {"delivered": 10}})
        write_manifest(tmp_path / "out", complete)
        notify(campaign, "complete", complete)
        notify(campaign, "complete", complete)
        states = [event["data"]["state"] for event in server.events]
        assert states == ["partial", "failed", "partial", "succeeded"]
        assert len({call.headers["webhook-id"] for call in server.calls}) == len(server.calls) == 4


def test_what_could_not_be_told_is_kept_and_sent_by_a_later_finish(tmp_path: Path) -> None:
    """The server is down, is back; the first outcome is told before that of
    the restart, with the identifier and the words that it had.
    """
    server = CallbackServer(tmp_path)
    server.start()
    server.stop()
    campaign, manifest = make_campaign(tmp_path, server.notify)
    notify(campaign, "partial", manifest, schedule=SHORT)
    (kept,) = (tmp_path / "out" / "callback.spool").glob("*")
    event = json.loads(kept.read_text())
    assert spooled(campaign) == ["partial"]
    # The same again changes nothing.
    notify(campaign, "partial", manifest, schedule=SHORT)
    assert json.loads(kept.read_text()) == event and spooled(campaign) == ["partial"]
    (campaign.graphs / "0001.qg").touch()
    with server:
        notify(campaign, "complete", manifest)
        assert [told["data"]["state"] for told in server.events] == ["partial", "succeeded"]
        assert server.calls[0].headers["webhook-id"] == kept.stem and server.events[0] == event
        assert not kept.parent.exists()
        notify(campaign, "complete", manifest)
        assert len(server.calls) == 2


def test_server_that_is_down_costs_its_time_once_however_much_is_kept(tmp_path: Path) -> None:
    server = CallbackServer(tmp_path)
    server.start()
    server.stop()
    campaign, manifest = make_campaign(tmp_path, server.notify)
    for number in range(1, 6):
        (campaign.graphs / f"{number:04d}.qg").touch()
        start = time.monotonic()
        notify(campaign, "partial", manifest, schedule=SHORT)
        assert time.monotonic() - start < 2
    assert len(spooled(campaign)) == 5


def test_no_time_at_all_means_later(tmp_path: Path) -> None:
    with CallbackServer(tmp_path) as server:
        campaign, manifest = make_campaign(tmp_path, server.notify)
        notify(campaign, "partial", manifest, schedule=Schedule(budget_s=0))
        assert not server.calls and spooled(campaign) == ["partial"]
        notify(campaign, "partial", manifest)
        assert server.events and not spooled(campaign)


def test_kept_before_the_first_try_so_that_a_killed_job_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with CallbackServer(tmp_path) as server:
        campaign, manifest = make_campaign(tmp_path, server.notify)
        with monkeypatch.context() as patch:
            patch.setattr(notify_module, "deliver", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
            with pytest.raises(KeyboardInterrupt):
                notify(campaign, "partial", manifest)
        assert spooled(campaign) == ["partial"]
        notify(campaign, "partial", manifest)
        assert len(server.events) == 1 and not spooled(campaign)


def test_server_that_refuses_one_is_told_the_others(tmp_path: Path) -> None:
    with CallbackServer(tmp_path, [400, 400]) as server:
        campaign, manifest = make_campaign(tmp_path, server.notify)
        notify(campaign, "failed")
        assert spooled(campaign) == ["failed"]
        notify(campaign, "partial", manifest)
        assert spooled(campaign) == ["failed"] and len(server.calls) == 3


def test_server_that_is_gone_is_never_called_again(tmp_path: Path) -> None:
    with CallbackServer(tmp_path, [410]) as server:
        campaign, manifest = make_campaign(tmp_path, server.notify)
        notify(campaign, "failed")
        notify(campaign, "partial", manifest)
        assert len(server.calls) == 1 and not spooled(campaign)


def test_server_that_has_moved_is_told_anew(tmp_path: Path) -> None:
    with CallbackServer(tmp_path) as server:
        campaign, manifest = make_campaign(tmp_path, server.notify)
        notify(campaign, "partial", manifest)
        (tmp_path / "other").mkdir()
        with CallbackServer(tmp_path / "other") as other:
            text = campaign.request.read_text().replace(server.url, other.url)
            campaign.request.write_text(text.replace(str(server.secret_file), str(other.secret_file)))
            notify(campaign, "partial", manifest)
            assert len(server.calls) == len(other.events) == 1


def test_nobody_is_called_who_was_not_asked_for(tmp_path: Path) -> None:
    campaign, manifest = make_campaign(tmp_path, None)
    notify(campaign, "partial", manifest)
    assert not campaign.callback.exists() and not (tmp_path / "out" / "callback.spool").exists()


@pytest.mark.parametrize(
    ("rule", "is_told"),
    [
        ("callback_hosts: [server.example, '*.example']", False),
        ("callback_hosts: []", False),
        ("callback_https_only: true", False),
        ("callback_hosts: [127.0.0.1]", True),
    ],
)
def test_policy_of_the_site_has_the_last_word(
    tmp_path: Path, rule: str, is_told: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """A restart may bring another address than submit has seen."""
    with CallbackServer(tmp_path) as server:
        campaign, manifest = make_campaign(tmp_path, server.notify)
        campaign.policy.write_text(f"contact: somebody@site.example\n{rule}\n")
        notify(campaign, "partial", manifest)
        assert bool(server.calls) == is_told == ("does not allow" not in caplog.text)


def test_secret_that_is_no_good_at_the_end_is_reported_and_kept_for_later(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with CallbackServer(tmp_path) as server:
        campaign, manifest = make_campaign(tmp_path, server.notify)
        server.secret_file.chmod(0o644)
        notify(campaign, "partial", manifest)
        assert "open to others" in caplog.text and not server.calls
        (noted,) = json.loads(campaign.callback.read_text())["calls"]
        assert noted["tries"] == 0 and "open to others" in noted["reason"]
        server.secret_file.chmod(0o600)
        notify(campaign, "partial", manifest)
        assert len(server.events) == 1


@pytest.mark.parametrize(
    "damage",
    ["request", "manifest", "record", "record-list", "spool", "spool-file", "output", "message", "deliver"],
)
def test_whatever_is_wrong_nothing_is_raised(
    tmp_path: Path, damage: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A callback must not fail what it tells of."""
    with CallbackServer(tmp_path) as server:
        campaign, manifest = make_campaign(tmp_path, server.notify)
        out = tmp_path / "out"
        match damage:
            case "request":
                campaign.request.write_text("[")
            case "manifest":
                (out / "manifest.json").unlink()
            case "record":
                campaign.callback.write_text("{")
            case "record-list":
                campaign.callback.write_text('{"calls": [{"id": 5}, null]}')
            case "spool":
                (out / "callback.spool").write_text("a file")
            case "spool-file":
                (out / "callback.spool").mkdir()
                (out / "callback.spool" / "msg_x.json").write_text('{"type": [')
            case "output":
                (out / "manifest.json").unlink()
                out.rmdir()
            case "message" | "deliver":
                name = {"message": "message_of", "deliver": "deliver"}[damage]
                monkeypatch.setattr(notify_module, name, lambda *_, **__: 1 / 0)
        notify(campaign, "partial", manifest)
        assert caplog.records and all(record.levelno <= logging.WARNING for record in caplog.records)
        # What does not stand in the way of it is no reason not to call.
        reached = damage in ("record", "record-list", "spool", "spool-file")
        assert bool(server.events) == reached


def test_graph_that_cannot_be_built_is_told_too(tmp_path: Path) -> None:
    """There is no last job then."""
    with CallbackServer(tmp_path) as server:
        campaign, _ = make_campaign(tmp_path, server.notify)
        (campaign.graphs / "0000.qg").unlink()
        with pytest.raises(UserError), noting_failure(campaign):
            raise UserError("No such band.")
        (event,) = server.events
    data = event["data"]
    assert (data["state"], data["attempt"], data["run"], data["manifest"]) == ("failed", 0, None, None)


def test_neither_secret_nor_address_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An address may hold a token; the host is enough to know whom it was."""
    caplog.set_level(logging.DEBUG)
    for number, answer in enumerate([204, 500, 404, 410, "garbage"]):
        directory = tmp_path / str(number)
        directory.mkdir()
        with CallbackServer(directory, 100 * [answer]) as server:
            field = server.notify | {"url": f"{server.url}?token=xyzzy"}
            campaign, manifest = make_campaign(directory, field)
            notify(campaign, "partial", manifest, schedule=SHORT)
            text = server.secret_file.read_text().strip()
            server.secret_file.write_text(f"{text} and more")
            notify(campaign, "failed", schedule=SHORT)
            server.secret_file.write_text(text)
            with monkeypatch.context() as patch:
                patch.setattr(Secret, "signature", lambda *_: 1 / 0)
                (campaign.graphs / "0001.qg").touch()
                notify(campaign, "failed", schedule=SHORT)
        assert text.removeprefix("whsec_") not in caplog.text
        assert "xyzzy" not in caplog.text and "127.0.0.1" in caplog.text
    assert "ZeroDivisionError" in caplog.text


def test_identifiers_of_different_outcomes_differ(tmp_path: Path) -> None:
    from lsst.dax.bulkcutout.callback.message import message_of
    from lsst.dax.bulkcutout.request import load_request

    found = set()
    for name, attempts, state in itertools.product("ab", (1, 2), ("failed", "partial", "cancelled")):
        directory = tmp_path / name / str(attempts) / state
        directory.mkdir(parents=True)
        campaign, manifest = make_campaign(directory, None)
        for number in range(attempts):
            (campaign.graphs / f"{number:04d}.qg").touch()
        request = load_request(campaign.request)
        message = message_of(campaign, request, state, None if state == "failed" else manifest)  # type: ignore[arg-type]
        assert message.id == message_of(campaign, request, state, None if state == "failed" else manifest).id  # type: ignore[arg-type]
        assert re.fullmatch(r"msg_[0-9a-f]{32}", message.id)
        found.add(message.id)
    assert len(found) == 12
