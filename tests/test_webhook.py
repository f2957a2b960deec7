# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Signed callbacks: what is sent, what is taken, and where secrets are kept.

The second opinion is `standardwebhooks`, the library of those who wrote the
specification.
"""

from __future__ import annotations

import base64
import datetime
import os
import pickle
import random
import socket
import string
import time
from pathlib import Path

import pytest
import standardwebhooks
from hypothesis import given
from hypothesis import strategies as st

from lsst.dax.bulkcutout.callback.secret_file import read_secret, write_new_secret
from lsst.dax.bulkcutout.callback.webhook import Secret, Verdict, Verification, read_event, sign, verify
from lsst.dax.bulkcutout.errors import UserError

KNOWN = Secret.from_text("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
"""Key of the example that all libraries of Standard Webhooks test with."""

KNOWN_ID, KNOWN_TIME, KNOWN_BODY = "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}'
KNOWN_SIGNATURE = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="

SECRET, OTHER = Secret(bytes(range(32))), Secret(bytes(range(1, 33)))
BODY = b'{"type":"a.b","timestamp":"2026-11-21T17:00:00Z","data":{"state":"partial"}}'
NOW = 1_800_000_000


def headers(
    secret: Secret = SECRET, *, webhook_id: str = "msg_1", at: int = NOW, body: bytes = BODY
) -> dict[str, str]:
    return sign(secret, webhook_id=webhook_id, timestamp=at, body=body)


# -- signatures ------------------------------------------------------------


def test_signature_is_that_of_the_example_of_standard_webhooks() -> None:
    signed = sign(KNOWN, webhook_id=KNOWN_ID, timestamp=KNOWN_TIME, body=KNOWN_BODY)
    assert signed == {
        "webhook-id": KNOWN_ID,
        "webhook-timestamp": str(KNOWN_TIME),
        "webhook-signature": KNOWN_SIGNATURE,
    }
    assert verify(KNOWN_BODY, signed, [KNOWN], now=KNOWN_TIME) == Verification(
        Verdict.GENUINE, KNOWN_ID, KNOWN_TIME
    )


keys = st.binary(min_size=24, max_size=64)
ids = st.text(string.ascii_letters + string.digits + "_-", min_size=1, max_size=128)


@given(key=keys, webhook_id=ids, text=st.text(st.characters(exclude_categories=["Cs"])))
def test_what_we_send_is_taken_by_the_library_and_the_other_way_round(
    key: bytes, webhook_id: str, text: str
) -> None:
    secret, now = Secret(key), int(time.time())
    library = standardwebhooks.Webhook(secret.to_text())
    ours = sign(secret, webhook_id=webhook_id, timestamp=now, body=text.encode())
    library.verify(text, ours, json_parse=False)
    when = datetime.datetime.fromtimestamp(now, datetime.UTC)
    theirs = {
        "Webhook-Id": webhook_id,
        "Webhook-Timestamp": str(now),
        "Webhook-Signature": library.sign(webhook_id, when, text),
    }
    assert verify(text.encode(), theirs, [secret]) == Verification(Verdict.GENUINE, webhook_id, now)


@given(flipped=st.integers(0, 8 * len(BODY) - 1))
def test_body_of_which_one_bit_differs_is_forged(flipped: int) -> None:
    changed = bytearray(BODY)
    changed[flipped // 8] ^= 1 << flipped % 8
    assert verify(bytes(changed), headers(), [SECRET], now=NOW).verdict is Verdict.FORGED


def test_identifier_and_time_are_signed_too() -> None:
    for name, value in {"webhook-id": "msg_2", "webhook-timestamp": str(NOW + 1)}.items():
        found = verify(BODY, headers() | {name: value}, [SECRET], now=NOW)
        assert found == Verification(Verdict.FORGED)


def test_full_stop_in_the_identifier_cannot_move_what_is_signed() -> None:
    """`a.1.1800000000.body` must not be both `a` at 1 and `a.1` later."""
    signed = headers(webhook_id="a", at=1, body=b"%d.x" % NOW)
    moved = signed | {"webhook-id": "a.1", "webhook-timestamp": str(NOW)}
    assert verify(b"x", moved, [SECRET], now=NOW).verdict is Verdict.MALFORMED


@pytest.mark.parametrize(
    ("late_s", "verdict"),
    [
        (-301, Verdict.STALE),
        (-300, Verdict.GENUINE),
        (0, Verdict.GENUINE),
        (300, Verdict.GENUINE),
        (301, Verdict.STALE),
    ],
)
def test_window_is_five_minutes_both_ways(late_s: int, verdict: Verdict) -> None:
    assert verify(BODY, headers(), [SECRET], now=NOW + late_s).verdict is verdict


def test_one_right_signature_of_several_is_enough() -> None:
    """While a secret is changed the sender signs with both."""
    both = headers(OTHER)["webhook-signature"] + " v1a,unknown v2, " + headers()["webhook-signature"]
    signed = headers() | {"webhook-signature": both}
    assert verify(BODY, signed, [SECRET], now=NOW).verdict is Verdict.GENUINE
    assert verify(BODY, signed, [OTHER], now=NOW).verdict is Verdict.GENUINE


def test_receiver_may_have_several_secrets_and_needs_one() -> None:
    assert verify(BODY, headers(), [OTHER, SECRET], now=NOW).verdict is Verdict.GENUINE
    assert verify(BODY, headers(), [OTHER], now=NOW).verdict is Verdict.FORGED
    assert verify(BODY, headers(), [], now=NOW).verdict is Verdict.FORGED


def test_signature_of_another_version_is_none() -> None:
    signature = headers()["webhook-signature"].removeprefix("v1,")
    for given_ in (signature, f"v1a,{signature}", f"v1 ,{signature}", f"v1,{signature[:-1]}", "", " ", "v1,"):
        found = verify(BODY, headers() | {"webhook-signature": given_}, [SECRET], now=NOW)
        assert found.verdict is Verdict.FORGED, given_


def test_only_some_signatures_are_looked_at() -> None:
    """A header of thousands must not make a receiver work."""
    many = " ".join(["v1,x"] * 20 + [headers()["webhook-signature"]])
    found = verify(BODY, headers() | {"webhook-signature": many}, [SECRET], now=NOW)
    assert found.verdict is Verdict.FORGED


def test_header_that_is_missing_or_there_twice_is_malformed() -> None:
    for name in headers():
        rest = {other: value for other, value in headers().items() if other != name}
        assert verify(BODY, rest, [SECRET], now=NOW).verdict is Verdict.MALFORMED
        twice = [*headers().items(), (name.upper(), headers()[name])]
        assert verify(BODY, twice, [SECRET], now=NOW).verdict is Verdict.MALFORMED


@pytest.mark.parametrize("at", ["1.5", "-5", "+5", " 5", "5 ", "٣", "1e9", "", "nan", "9" * 13, "0x10"])
def test_time_that_is_no_number_of_seconds_is_malformed(at: str) -> None:
    found = verify(BODY, headers() | {"webhook-timestamp": at}, [SECRET], now=NOW)
    assert found.verdict is Verdict.MALFORMED


names = st.sampled_from(["webhook-id", "Webhook-Timestamp", "WEBHOOK-SIGNATURE"]) | st.text()


@given(body=st.binary(), pairs=st.lists(st.tuples(names, st.text())))
def test_no_garbage_raises(body: bytes, pairs: list[tuple[str, str]]) -> None:
    assert verify(body, pairs, [SECRET]).verdict in (Verdict.MALFORMED, Verdict.FORGED)
    assert verify(body, dict(pairs), [SECRET]).verdict in (Verdict.MALFORMED, Verdict.FORGED)


@given(signatures=st.text(), at=st.integers(0, 10**12 - 1), webhook_id=ids, body=st.binary())
def test_no_garbage_in_a_signature_raises(signatures: str, at: int, webhook_id: str, body: bytes) -> None:
    """Surrogates and letters of other scripts among it; the library raises
    ValueError for some of these.
    """
    given_ = {"webhook-id": webhook_id, "webhook-timestamp": str(at), "webhook-signature": signatures}
    assert verify(body, given_, [SECRET]).verdict is Verdict.FORGED


@pytest.mark.parametrize(
    ("verdict", "status"),
    [(Verdict.GENUINE, 204), (Verdict.MALFORMED, 400), (Verdict.FORGED, 401), (Verdict.STALE, 401)],
)
def test_verdict_says_what_to_answer(verdict: Verdict, status: int) -> None:
    assert verdict.http_status == status


def test_event_is_read_from_a_body() -> None:
    event = read_event(BODY)
    assert event is not None and event["data"] == {"state": "partial"}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff\xfe",
        b"[]",
        b"null",
        b"{}",
        b'{"type": "a", "timestamp": "b"}',
        b'{"type": 1, "timestamp": "b", "data": {}}',
        b"[" * 60_000,
        b'{"type": "a", "timestamp": "b", "data": {"x": ' + b"9" * 5000 + b"}}",
    ],
)
def test_body_that_is_no_event_is_none(body: bytes) -> None:
    assert read_event(body) is None


@given(body=st.binary() | st.text().map(str.encode))
def test_no_body_raises(body: bytes) -> None:
    read_event(body)


# -- secrets ---------------------------------------------------------------


@pytest.mark.parametrize("n", [24, 32, 64])
def test_secret_is_written_as_the_specification_says(n: int) -> None:
    key = random.Random(n).randbytes(n)
    text = "whsec_" + base64.b64encode(key).decode()
    assert Secret.from_text(f"  {text}\n").to_text() == text
    assert Secret.from_text(text.rstrip("=")).to_text() == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "whsec_",
        "whsec_" + base64.b64encode(bytes(23)).decode(),
        "whsec_" + base64.b64encode(bytes(65)).decode(),
        base64.b64encode(bytes(32)).decode(),
        "whsk_" + base64.b64encode(bytes(32)).decode(),
        "whsec_ " + base64.b64encode(bytes(32)).decode(),
        "whsec_" + "é" * 44,
        "whsec_" + "_-" * 22,
        "whsec_" + "A" * 41,
    ],
)
def test_text_that_is_no_secret_is_refused_and_not_shown(text: str) -> None:
    with pytest.raises(ValueError, match="24 to 64 bytes in base64") as caught:
        Secret.from_text(text)
    assert len(text) < 10 or text[6:] not in str(caught.value)


def test_secret_shows_itself_to_nobody() -> None:
    assert repr(SECRET) == str(SECRET) == f"{SECRET}" == "Secret(...)"
    with pytest.raises(TypeError):
        pickle.dumps(SECRET)


def test_new_secret_is_for_its_owner_alone_and_replaces_nothing(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    made = write_new_secret(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert read_secret(path).to_text() == made.to_text() == path.read_text().strip()
    assert standardwebhooks.Webhook(path.read_text().strip())
    with pytest.raises(UserError, match="exists"):
        write_new_secret(path)
    assert made.to_text() != Secret.new().to_text()


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o666, 0o610, 0o601])
def test_secret_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "secret"
    write_new_secret(path)
    path.chmod(mode)
    with pytest.raises(UserError, match=f"open to others.*mode {mode:04o}.*chmod 600"):
        read_secret(path)


def test_secret_file_of_mode_0400_will_do(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    write_new_secret(path)
    path.chmod(0o400)
    read_secret(path)


def test_file_that_is_no_secret_file_is_refused_by_name(tmp_path: Path) -> None:
    good = tmp_path / "good"
    write_new_secret(good)
    (tmp_path / "link").symlink_to(good)
    (tmp_path / "lost").symlink_to(tmp_path / "nowhere")
    (tmp_path / "directory").mkdir()
    os.mkfifo(tmp_path / "pipe", 0o600)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
    for name, contents in {
        "empty": b"",
        "wrong": b"password",
        "large": b"x" * 2000,
        "binary": b"\xff",
    }.items():
        (tmp_path / name).write_bytes(contents)
        (tmp_path / name).chmod(0o600)
    expected = {
        "link": "symbolic link",
        "lost": "symbolic link",
        "directory": "no file",
        "pipe": "no file",
        "socket": "cannot be read",
        "nothing": "No such file",
        "empty": "holds no secret",
        "wrong": "holds no secret",
        "large": "more than a thousand",
        "binary": "no text",
    }
    for name, said in expected.items():
        with pytest.raises(UserError, match=f"Secret file {tmp_path / name} .*{said}") as caught:
            read_secret(tmp_path / name)
        assert "password" not in str(caught.value)


def test_secret_file_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "secret"
    write_new_secret(path)
    monkeypatch.setattr(os, "geteuid", lambda: path.stat().st_uid + 1)
    with pytest.raises(UserError, match="belongs to another user"):
        read_secret(path)
