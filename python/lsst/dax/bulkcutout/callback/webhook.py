# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Signed callbacks in the wire format of Standard Webhooks 1.0: symmetric
signatures, ``v1``.
"""

from __future__ import annotations

import enum
import hmac
import json
import re
import time
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from .secret import Secret

__all__ = (
    "ID_HEADER",
    "MOST_BODY_BYTES",
    "SIGNATURE_HEADER",
    "TIMESTAMP_HEADER",
    "TOLERANCE_S",
    "Secret",
    "Verdict",
    "Verification",
    "read_event",
    "sign",
    "verify",
)

ID_HEADER = "webhook-id"
TIMESTAMP_HEADER = "webhook-timestamp"
SIGNATURE_HEADER = "webhook-signature"

MOST_BODY_BYTES = 65536
"""A body is smaller than this."""

TOLERANCE_S = 300
"""How far the clocks of sender and receiver may differ, both ways."""

MOST_SIGNATURES = 20
"""Signatures that are looked at, so that a header of many costs nothing."""

# No full stop: it parts what is signed, and one in the identifier could make
# one signature good for two callbacks.
_ID = re.compile(r"[A-Za-z0-9_-]{1,128}", re.ASCII)
_TIMESTAMP = re.compile(r"[0-9]{1,12}", re.ASCII)


class Verdict(enum.Enum):
    """What becomes of a callback."""

    GENUINE = "genuine"
    """From one who has the secret, for us, now."""

    MALFORMED = "malformed"
    """Headers are missing, given twice, or not what they should be."""

    FORGED = "forged"
    """No signature is that of a secret that we have."""

    STALE = "stale"
    """Rightly signed, but at another time: a repetition, or a wrong clock."""

    @property
    def http_status(self) -> int:
        """What to answer; 204 also for a genuine one that is known."""
        return {Verdict.GENUINE: 204, Verdict.MALFORMED: 400}.get(self, 401)


class Verification(NamedTuple):
    """What `verify` has found."""

    verdict: Verdict
    """What becomes of the callback."""

    webhook_id: str = ""
    """Identifies what is told: the same each time that it is sent.  Empty
    unless genuine."""

    timestamp: int = 0
    """When it was sent, seconds since 1970.  0 unless genuine."""


def sign(secret: Secret, *, webhook_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """Make the headers of a callback.

    Parameters
    ----------
    secret
        The secret of this receiver.
    webhook_id
        Identifies what is told, the same for each try.
    timestamp
        Time of this try, seconds since 1970.
    body
        The bytes that are sent.

    Returns
    -------
    headers
        The three headers.
    """
    signature = secret.signature(_signed(webhook_id, str(timestamp), body))
    return {
        ID_HEADER: webhook_id,
        TIMESTAMP_HEADER: str(timestamp),
        SIGNATURE_HEADER: f"v1,{signature.decode('ascii')}",
    }


def verify(
    body: bytes,
    headers: Mapping[str, str] | Iterable[tuple[str, str]],
    shared: Iterable[Secret],
    *,
    now: float | None = None,
) -> Verification:
    """Tell whether a callback is genuine.

    Parameters
    ----------
    body
        The bytes that came, before anything was parsed.
    headers
        Headers of the request, or pairs of name and value; case does not
        matter.
    shared
        The secrets that are good: one, or, while it is changed, several.
    now
        Seconds since 1970; the time of this machine by default.

    Returns
    -------
    verification
        What was found; there is no input that raises.  A genuine one whose
        ``webhook_id`` is known already is answered with 204 and has no
        effect: to know them is the caller's part.
    """
    found = _find_headers(headers)
    if found is None:
        return Verification(Verdict.MALFORMED)
    webhook_id, timestamp, signatures = found
    given = [each.encode("utf-8", "replace") for each in signatures.split(" ", MOST_SIGNATURES)]
    content = _signed(webhook_id, timestamp, body)
    is_right = False
    for secret in shared:
        expected = b"v1," + secret.signature(content)
        for each in given[:MOST_SIGNATURES]:
            # All are compared, and each in constant time.
            is_right |= hmac.compare_digest(expected, each)
    if not is_right:
        return Verification(Verdict.FORGED)
    if abs((time.time() if now is None else now) - int(timestamp)) > TOLERANCE_S:
        return Verification(Verdict.STALE)
    return Verification(Verdict.GENUINE, webhook_id, int(timestamp))


def read_event(body: bytes) -> dict[str, Any] | None:
    """Read the body of a callback that was found to be genuine.

    Parameters
    ----------
    body
        The bytes that came.

    Returns
    -------
    event
        Its fields ``type``, ``timestamp`` and ``data``; `None` if it has not
        these.  There is no input that raises.
    """
    try:
        event = json.loads(body.decode("utf-8"))
    except (ValueError, RecursionError):
        return None
    kinds = {"type": str, "timestamp": str, "data": dict}
    if not isinstance(event, dict) or not all(isinstance(event.get(name), kinds[name]) for name in kinds):
        return None
    return event


def _signed(webhook_id: str, timestamp: str, body: bytes) -> bytes:
    return f"{webhook_id}.{timestamp}.".encode("ascii") + body


def _find_headers(
    headers: Mapping[str, str] | Iterable[tuple[str, str]],
) -> tuple[str, str, str] | None:
    """The three headers, if each is there once and is what it should be."""
    pairs = headers.items() if isinstance(headers, Mapping) or hasattr(headers, "items") else headers
    found: dict[str, str] = {}
    for name, value in pairs:
        folded = name.lower()
        if folded not in (ID_HEADER, TIMESTAMP_HEADER, SIGNATURE_HEADER):
            continue
        if folded in found:
            return None
        found[folded] = value
    webhook_id, timestamp = found.get(ID_HEADER, ""), found.get(TIMESTAMP_HEADER, "")
    if not _ID.fullmatch(webhook_id) or not _TIMESTAMP.fullmatch(timestamp) or SIGNATURE_HEADER not in found:
        return None
    return webhook_id, timestamp, found[SIGNATURE_HEADER]
