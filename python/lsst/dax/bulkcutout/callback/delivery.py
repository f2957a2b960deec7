# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""One signed POST, tried until it is taken or time is up."""

from __future__ import annotations

import contextlib
import dataclasses
import email.utils
import enum
import http.client
import importlib.metadata
import queue
import random
import socket
import ssl
import threading
import time
import urllib.parse
from collections.abc import Callable, Mapping

from .secret import Secret
from .webhook import sign

__all__ = ("Answer", "Clock", "Delivery", "Outcome", "Schedule", "deliver", "post_once")

# Worth another try within minutes: too slow, too early, too many, and what is
# the server's own fault.
_TRY_AGAIN = frozenset({408, 425, 429})

_LEAST_TRY_S = 0.05
"""A try that has less time than this is not begun."""


@dataclasses.dataclass(frozen=True)
class Schedule:
    """How long, and how often, delivery is tried."""

    budget_s: float = 180.0
    """Seconds for all tries and waits together: a batch job is kept waiting
    by this, and the caller can always ask how a campaign stands."""

    timeout_s: float = 20.0
    """Seconds for one try, from the look-up of the host to the answer."""

    first_wait_s: float = 1.0
    """Seconds between the first try and the second; doubled each time."""

    longest_wait_s: float = 30.0
    """Longest of these waits."""


class Clock:
    """Time as it is; tests have another."""

    def monotonic(self) -> float:
        """Seconds that have gone by.

        Returns
        -------
        seconds
            Since some moment in the past.
        """
        return time.monotonic()

    def time(self) -> float:
        """Seconds since 1970.

        Returns
        -------
        seconds
            The time of this machine.
        """
        return time.time()

    def sleep(self, seconds: float) -> None:
        """Wait.

        Parameters
        ----------
        seconds
            How long.
        """
        time.sleep(seconds)


class Outcome(enum.Enum):
    """What has become of a callback."""

    DELIVERED = "delivered"
    """The server has answered with 2xx."""

    GONE = "gone"
    """The server wants none of these any more: 410."""

    REFUSED = "refused"
    """An answer that will be the same in a minute: 3xx, most of 4xx."""

    NOT_REACHED = "not reached"
    """No answer, or one that says that the server is in trouble, until time
    was up."""


@dataclasses.dataclass(frozen=True)
class Answer:
    """What came of one try."""

    status: int | None
    """Status of HTTP; `None` if there was no answer."""

    reason: str
    """What happened, in words."""

    wait_s: float = 0.0
    """How long the server asks to wait before another try."""


@dataclasses.dataclass(frozen=True)
class Delivery:
    """What came of all tries."""

    outcome: Outcome
    """What has become of the callback."""

    tries: int
    """Number of tries."""

    reason: str
    """What happened at the last one."""


def deliver(
    url: str,
    body: bytes,
    *,
    webhook_id: str,
    secret: Secret,
    deadline: float,
    schedule: Schedule,
    clock: Clock,
    post: Callable[[str, Mapping[str, str], bytes, float], Answer] | None = None,
) -> Delivery:
    """Send a callback until it is taken.

    Parameters
    ----------
    url
        Where to.
    body
        What to say.
    webhook_id
        Identifies it, the same for each try.
    secret
        What to sign with.
    deadline
        When to end at the latest, in the time of ``clock.monotonic``.
    schedule
        How often to try.
    clock
        Time.
    post
        How to try once; `post_once` by default.

    Returns
    -------
    delivery
        What has become of it.
    """
    tries, wait_s, reason = 0, schedule.first_wait_s, "there was no time left"
    while (left_s := deadline - clock.monotonic()) >= _LEAST_TRY_S:
        tries += 1
        # A fresh time for each try: receivers refuse old ones.
        headers = _headers() | sign(secret, webhook_id=webhook_id, timestamp=int(clock.time()), body=body)
        answer = (post or post_once)(url, headers, body, min(schedule.timeout_s, left_s))
        reason = answer.reason
        outcome = _outcome(answer.status)
        if outcome is not Outcome.NOT_REACHED:
            return Delivery(outcome, tries, reason)
        # Half of it by chance: servers that come back are not to be met by
        # all who were waiting at once.
        pause_s = max(wait_s * random.uniform(0.5, 1.0), answer.wait_s)
        if clock.monotonic() + pause_s + _LEAST_TRY_S > deadline:
            break
        clock.sleep(pause_s)
        wait_s = min(2 * wait_s, schedule.longest_wait_s)
    return Delivery(Outcome.NOT_REACHED, tries, reason)


def post_once(url: str, headers: Mapping[str, str], body: bytes, timeout_s: float) -> Answer:
    """Try once.

    Parameters
    ----------
    url
        Where to; redirects are not followed, and no proxy is asked.
    headers
        Headers to send.
    body
        What to send.
    timeout_s
        Seconds for all of it.

    Returns
    -------
    answer
        What came of it; nothing that server or network do raises.
    """
    answers: queue.SimpleQueue[Answer] = queue.SimpleQueue()
    connection = _connection(url, timeout_s)

    def work() -> None:
        try:
            answers.put(_exchange(connection, url, headers, body))
        except Exception as error:
            answers.put(Answer(None, _describe(error)))
        finally:
            connection.close()

    # In a thread, because time-outs of sockets start anew with every byte and
    # every address of the host, and looking it up has none at all.
    threading.Thread(target=work, daemon=True).start()
    try:
        return answers.get(timeout=timeout_s)
    except queue.Empty:
        if (open_socket := connection.sock) is not None:
            # Wakes the thread.
            with contextlib.suppress(OSError):
                open_socket.shutdown(socket.SHUT_RDWR)
        return Answer(None, f"no answer within {timeout_s:.3g} s")


def _exchange(
    connection: http.client.HTTPConnection, url: str, headers: Mapping[str, str], body: bytes
) -> Answer:
    _, _, path, query, _ = urllib.parse.urlsplit(url)
    connection.request("POST", (path or "/") + (f"?{query}" if query else ""), body, dict(headers))
    # The answer's own body says nothing that is asked here, and is not read.
    response = connection.getresponse()
    return Answer(
        response.status, f"HTTP {response.status}", _retry_after(response.headers.get("Retry-After"))
    )


def _connection(url: str, timeout_s: float) -> http.client.HTTPConnection:
    parts = urllib.parse.urlsplit(url)
    host = parts.hostname or ""
    if parts.scheme == "http":
        return http.client.HTTPConnection(host, parts.port, timeout=timeout_s)
    context = ssl.create_default_context()
    return http.client.HTTPSConnection(host, parts.port, timeout=timeout_s, context=context)


def _headers() -> dict[str, str]:
    version = importlib.metadata.version("lsst-dax-bulkcutout")
    return {
        "Content-Type": "application/json",
        "User-Agent": f"bulkcutout/{version}",
        "Connection": "close",
    }


def _outcome(status: int | None) -> Outcome:
    if status is None or status in _TRY_AGAIN or status >= 500:
        return Outcome.NOT_REACHED
    if 200 <= status < 300:
        return Outcome.DELIVERED
    return Outcome.GONE if status == 410 else Outcome.REFUSED


def _retry_after(text: str | None) -> float:
    """Seconds that a server asks to wait; 0 for what makes no sense."""
    if not text:
        return 0.0
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return 0.0


def _describe(error: Exception) -> str:
    """What went wrong, without anything that the server has said."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the certificate is not good: {error.verify_message}"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return type(error).__name__
