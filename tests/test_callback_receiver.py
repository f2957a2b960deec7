# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""The minimal receiver: what it takes, what it answers, and that no client
gets the better of it.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import logging
import os
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lsst.dax.bulkcutout.callback.post_server import MOST_CONNECTIONS
from lsst.dax.bulkcutout.callback.receiver import Receiver
from lsst.dax.bulkcutout.callback.secret_file import write_new_secret
from lsst.dax.bulkcutout.callback.webhook import Secret, sign
from lsst.dax.bulkcutout.errors import UserError

SECRET, OTHER = Secret(bytes(range(32))), Secret(bytes(range(1, 33)))
BODY = b'{"type":"a.b","timestamp":"2026-11-21T17:00:00Z","data":{"state":"partial"}}'


class Running:
    """A receiver in a thread, and what it has handed on."""

    def __init__(self, **options: Any) -> None:
        self.records: list[dict[str, Any]] = []
        self.receiver = Receiver([SECRET], self.records.append, **options)
        parts = urllib.parse.urlsplit(self.receiver.url)
        self.address = (parts.hostname or "", parts.port or 0)
        self.thread = threading.Thread(target=self.receiver.serve, daemon=True)
        self.thread.start()

    def post(
        self, body: bytes = BODY, *, secret: Secret = SECRET, webhook_id: str = "msg_1", **extra: str
    ) -> int:
        """Send a callback; gives the status."""
        headers = sign(secret, webhook_id=webhook_id, timestamp=int(time.time()), body=body) | extra
        connection = http.client.HTTPConnection(*self.address, timeout=10)
        with contextlib.closing(connection):
            connection.request("POST", "/any/path", body, headers)
            return connection.getresponse().status

    def raw(self, sent: bytes, *, hang_up: bool = False) -> bytes:
        """Send bytes; gives all that comes back."""
        with socket.create_connection(self.address, timeout=10) as connection:
            with contextlib.suppress(OSError):
                connection.sendall(sent)
                if hang_up:
                    connection.shutdown(socket.SHUT_WR)
            return b"".join(iter(lambda: connection.recv(4096), b""))


@pytest.fixture
def running(caplog: pytest.LogCaptureFixture) -> Iterator[Running]:
    with serving() as found:
        yield found


@contextlib.contextmanager
def serving(**options: Any) -> Iterator[Running]:
    found = Running(**options)
    try:
        yield found
    finally:
        found.receiver.stop()
        found.thread.join(10)


def test_callback_is_taken_once_however_often_it_comes(running: Running) -> None:
    assert [running.post(), running.post(), running.post(webhook_id="msg_2")] == 3 * [204]
    assert [record["webhook_id"] for record in running.records] == ["msg_1", "msg_2"]
    assert running.records[0]["data"] == {"state": "partial"}


def test_callback_that_comes_many_times_at_once_is_taken_once(running: Running) -> None:
    answers: list[int] = []
    threads = [threading.Thread(target=lambda: answers.append(running.post())) for _ in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert answers == 40 * [204] and len(running.records) == 1


def test_what_is_not_rightly_signed_is_not_taken(running: Running) -> None:
    assert running.post(secret=OTHER) == 401
    assert running.post(**{"webhook-timestamp": str(int(time.time()) - 301)}) == 401
    assert running.post(**{"webhook-id": "a.b"}) == 400
    assert running.post(b"no JSON") == 400
    assert not running.records
    # And does not stand in the way of what is.
    assert running.post() == 204


def test_identifier_in_the_body_is_not_believed(running: Running) -> None:
    body = BODY[:-1] + b',"webhook_id":"msg_9"}'
    assert running.post(body) == 204 and running.records[0]["webhook_id"] == "msg_1"


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "BREW", "__init__"])
def test_only_post_is_served(running: Running, method: str) -> None:
    connection = http.client.HTTPConnection(*running.address, timeout=10)
    with contextlib.closing(connection):
        connection.request(method, "/", BODY)
        answer = connection.getresponse()
        assert (answer.status, answer.getheader("Allow")) == (405, "POST")


SIGNED = sign(SECRET, webhook_id="msg_1", timestamp=2**33, body=BODY)
HEADERS = "".join(f"{name}: {value}\r\n" for name, value in SIGNED.items()).encode()


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"POST / HTTP/1.1\r\n" + HEADERS + b"\r\n" + BODY, 411),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n5\r\n", 411),
        (b"POST / HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef", 411),
        (b"POST / HTTP/1.1\r\nContent-Length: -5\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: 1e3\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: 65536\r\n\r\n", 413),
        (b"POST / HTTP/1.1\r\nContent-Length: 9999999999999999999999\r\n\r\n", 413),
        (b"POST / HTTP/1.1\r\nContent-Length: 50\r\n\r\nshort", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\n" + b"X: y\r\n" * 200 + b"\r\n", 431),
        (b"POST / HTTP/1.1\r\nX: " + b"y" * 20_000 + b"\r\n\r\n", 431),
        (b"POST /" + b"y" * 20_000 + b" HTTP/1.1\r\n\r\n", 431),
        (b"POST / HTTP/9.9\r\n\r\n", 505),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(256)) + b"\r\n\r\n", 400),
    ],
)
def test_request_that_is_no_good_is_answered_so(running: Running, sent: bytes, status: int) -> None:
    answer = running.raw(sent, hang_up=True)
    assert re.match(rb"HTTP/1\.\d (\d+) |(\d+) ", answer), answer
    assert str(status).encode() in answer.split(b"\r\n")[0].split(b"\n")[0]
    assert not running.records and running.post() == 204


def test_no_garbage_gets_the_better_of_it(
    running: Running, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    source = random.Random(3)
    good = b"POST / HTTP/1.1\r\nContent-Length: 10\r\n\r\n0123456789"
    for _ in range(100):
        sent = bytearray(good) if source.random() < 0.5 else bytearray(source.randbytes(200))
        for _ in range(source.randrange(5)):
            sent[source.randrange(len(sent))] = source.randrange(256)
        running.raw(bytes(sent), hang_up=True)
    assert running.post() == 204
    captured = capfd.readouterr()
    assert "Traceback" not in captured.err + captured.out + caplog.text


def test_slow_clients_are_hung_up_on_and_others_are_served() -> None:
    """More of them than there are threads, each sending a byte at a time."""
    with serving(patience_s=0.5) as running:
        slow = [socket.create_connection(running.address) for _ in range(2 * MOST_CONNECTIONS)]
        ended = threading.Event()

        def drip() -> None:
            while not ended.wait(0.05):
                for connection in slow:
                    with contextlib.suppress(OSError):
                        connection.send(b"P")

        dripping = threading.Thread(target=drip)
        dripping.start()
        try:
            assert running.post() == 204
            # One thread for each connection that is served, and no more.
            assert threading.active_count() < MOST_CONNECTIONS + 20
        finally:
            ended.set()
            dripping.join()
            for connection in slow:
                connection.close()


def test_callback_is_on_disk_before_it_is_answered_and_known_after_a_restart(tmp_path: Path) -> None:
    store = tmp_path / "callbacks.jsonl"
    with serving(store=store) as running:
        assert running.post() == 204
        (line,) = store.read_text().splitlines()
        assert json.loads(line) == running.records[0]
    with serving(store=store) as running:
        assert running.post() == running.post(webhook_id="msg_2") == 204
        assert [record["webhook_id"] for record in running.records] == ["msg_2"]
    assert len(store.read_text().splitlines()) == 2


def test_callback_that_cannot_be_stored_is_not_taken_and_may_come_again(tmp_path: Path) -> None:
    store = tmp_path / "store" / "callbacks.jsonl"
    store.parent.mkdir()
    with serving(store=store) as running:
        store.unlink()
        store.parent.rmdir()
        assert running.post() == 503 and not running.records
        store.parent.mkdir()
        assert running.post() == 204 and len(running.records) == 1


def test_line_that_was_cut_short_does_no_harm(tmp_path: Path) -> None:
    store = tmp_path / "callbacks.jsonl"
    store.write_bytes(b'[]\n\xff\n{"webhook_id": "msg_1"}\n{"webhook_id": "ms')
    with serving(store=store) as running:
        assert running.post() == running.post(webhook_id="msg_2") == 204
    assert json.loads(store.read_text(errors="replace").splitlines()[-1])["webhook_id"] == "msg_2"


def test_place_that_cannot_be_had_is_named(tmp_path: Path, running: Running) -> None:
    host, port = running.address
    with pytest.raises(UserError, match=f"Cannot listen at {host}, port {port}: Address already in use"):
        Receiver([SECRET], print, port=port)
    with pytest.raises(UserError, match="Cannot listen at no-such-host.invalid"):
        Receiver([SECRET], print, host="no-such-host.invalid")
    with pytest.raises(UserError, match="cannot be written: Is a directory"):
        Receiver([SECRET], print, store=tmp_path)


# -- the command -----------------------------------------------------------


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "lsst.dax.bulkcutout.cli", "callback-receiver", *arguments]


def test_command_prints_a_line_for_each_callback_and_ends_after_some(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    process = subprocess.Popen(
        command("--secret-file", str(secret), "--new-secret", "--port", "0", "--count", "2"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stderr is not None and process.stdout is not None
        url = process.stderr.readline().split()[-1]
        text = secret.read_text()
        for webhook_id in ("msg_1", "msg_1", "bad", "msg_2"):
            key = OTHER if webhook_id == "bad" else Secret.from_text(text)
            headers = sign(key, webhook_id=webhook_id, timestamp=int(time.time()), body=BODY)
            connection = http.client.HTTPConnection(url.split("/")[2], timeout=10)
            connection.request("POST", "/", BODY, headers)
            assert connection.getresponse().status == (401 if webhook_id == "bad" else 204)
        out, err = process.communicate(timeout=20)
    assert process.returncode == 0
    assert [json.loads(line)["webhook_id"] for line in out.splitlines()] == ["msg_1", "msg_2"]
    assert "A callback is forged" in err and "Traceback" not in err
    assert text.strip() not in out + err


def test_command_refuses_a_secret_that_others_may_read(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    write_new_secret(path)
    path.chmod(0o644)
    run = subprocess.run(
        command("--secret-file", str(path)), capture_output=True, text=True, check=False, timeout=30
    )
    assert run.returncode == 1 and "chmod 600" in run.stderr and "Traceback" not in run.stderr


def test_command_is_ended_by_control_c(tmp_path: Path) -> None:
    write_new_secret(tmp_path / "secret")
    process = subprocess.Popen(
        command("--secret-file", str(tmp_path / "secret"), "--port", "0"),
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    with process:
        assert process.stderr is not None
        process.stderr.readline()
        os.kill(process.pid, signal.SIGINT)
        _, err = process.communicate(timeout=20)
    assert process.returncode == 130 and "Traceback" not in err


def test_log_says_what_was_refused_and_nothing_that_was_sent(
    running: Running, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    running.post(secret=OTHER, webhook_id="xyzzy")
    running.raw(b"POST /xyzzy HTTP/1.1\r\nContent-Length: x\r\n\r\n")
    assert "A callback is forged" in caplog.text and "xyzzy" not in caplog.text
