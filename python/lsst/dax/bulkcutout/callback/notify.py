# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""The last act of a campaign: whoever asked for it is told how it has ended.

A callback is a hint.  It changes nothing in the campaign, and what goes wrong
with it is a line in the log: the server asks for the truth, or finds it in the
manifest.
"""

from __future__ import annotations

import json
import logging
import urllib.parse
from pathlib import Path

import pydantic

from ..campaign import Campaign, write_atomically
from ..errors import UserError
from ..execution import utc_now
from ..finish_note import State
from ..manifest import CALLBACK_SPOOL_NAME, Manifest
from ..policy.request_rules import callback_refusals
from ..policy.site_policy import load_policy
from ..request import CutoutRequest, load_request
from .delivery import Clock, Delivery, Outcome, Schedule, deliver
from .message import Message, message_of
from .secret_file import read_secret
from .webhook import read_event

__all__ = ("notify",)

_LOG = logging.getLogger(__name__)


def notify(
    campaign: Campaign,
    state: State,
    manifest: Manifest | None = None,
    *,
    schedule: Schedule | None = None,
    clock: Clock | None = None,
) -> None:
    """Tell the server that the request names how the campaign has ended.

    Parameters
    ----------
    campaign
        The campaign.
    state
        How it has ended.
    manifest
        Its manifest; `None` if there is none for this outcome.
    schedule
        How long to try; at most three minutes by default.
    clock
        Time.

    Notes
    -----
    Does nothing if the request names no server, or the server knows already.
    Never raises: whatever happens is logged.  What cannot be delivered stays
    in ``callback.spool`` beside the manifest; the next call sends it first.
    """
    try:
        request = load_request(campaign.request)
        if request.notify.url is not None:
            _notify(campaign, request, state, manifest, schedule or Schedule(), clock or Clock())
    except UserError as error:
        _LOG.warning("Nobody was told of the end of the campaign: %s", error)
    except Exception as error:
        _LOG.warning("Nobody was told of the end of the campaign: %s", error, exc_info=True)


def _notify(
    campaign: Campaign,
    request: CutoutRequest,
    state: State,
    manifest: Manifest | None,
    schedule: Schedule,
    clock: Clock,
) -> None:
    url, secret_file = request.notify.url, request.notify.secret_file
    assert url is not None and secret_file is not None
    deadline = clock.monotonic() + schedule.budget_s
    if campaign.policy.exists():
        # Once more: the request may have got another address since.
        for refusal in callback_refusals(load_policy(campaign.policy), url):
            _LOG.warning("Nobody was told of the end of the campaign: the site does not allow %s", refusal)
            return
    record = _Record(campaign.callback, url)
    spool = _Spool(Path(request.output) / CALLBACK_SPOOL_NAME)
    waiting = {message.id: message for message in spool.read()}
    new = message_of(campaign, request, state, manifest)
    if record.is_settled(new.id):
        _LOG.info("%s knows already how the campaign has ended, or wants no callbacks.", _host(url))
    elif new.id not in waiting:
        # On disk before the first try: if this process is killed it is not
        # lost.
        spool.add(new)
        waiting[new.id] = new
    for known in filter(record.is_settled, list(waiting)):
        spool.remove(known)
        del waiting[known]
    if not waiting:
        return
    try:
        secret = read_secret(Path(secret_file))
    except UserError as error:
        _LOG.warning("%s was not told that the campaign has ended: %s", _host(url), error)
        record.add(new, Delivery(Outcome.NOT_REACHED, 0, str(error)))
        return
    for message in waiting.values():
        if not record.is_settled(message.id):
            delivery = deliver(
                url,
                message.body,
                webhook_id=message.id,
                secret=secret,
                deadline=deadline,
                schedule=schedule,
                clock=clock,
            )
            _log(url, message, delivery)
            record.add(message, delivery)
        if record.is_settled(message.id):
            spool.remove(message.id)


def _log(url: str, message: Message, delivery: Delivery) -> None:
    state, tries, reason = message.event["data"].get("state"), delivery.tries, delivery.reason
    if delivery.outcome is Outcome.DELIVERED:
        _LOG.info("%s was told %r (%s, tries: %d, %s).", _host(url), state, message.id, tries, reason)
    elif delivery.outcome is Outcome.GONE:
        _LOG.warning("%s wants no callbacks any more (%s); it is not called again.", _host(url), reason)
    else:
        _LOG.warning(
            "%s was not told %r (%s, tries: %d): %s. `bulkcutout finish` will try again; what was to be said "
            "is in %s beside the manifest.",
            *(_host(url), state, message.id, tries, reason, CALLBACK_SPOOL_NAME),
        )


def _host(url: str) -> str:
    """Scheme and host: the rest of an address may be confidential."""
    parts = urllib.parse.urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


class _Call(pydantic.BaseModel):
    """What came of one callback."""

    model_config = pydantic.ConfigDict(frozen=True)

    id: str
    state: str
    url: str
    time: str
    outcome: Outcome
    tries: int
    reason: str


class _Calls(pydantic.BaseModel):
    """The file ``callback.json``."""

    calls: list[_Call] = []


class _Record:
    """What was delivered to a server, in the campaign's directory.

    Parameters
    ----------
    path
        The file.
    url
        The server.
    """

    def __init__(self, path: Path, url: str) -> None:
        self._path = path
        self._url = url
        self._calls = _Calls()
        try:
            self._calls = _Calls.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            return
        except (OSError, ValueError) as error:
            _LOG.warning("%s cannot be read (%s): a callback may be sent once more.", path, error)

    def is_settled(self, webhook_id: str) -> bool:
        """Whether there is nothing more to send."""
        mine = [call for call in self._calls.calls if call.url == self._url]
        return any(
            call.outcome is Outcome.GONE or (call.outcome is Outcome.DELIVERED and call.id == webhook_id)
            for call in mine
        )

    def add(self, message: Message, delivery: Delivery) -> None:
        call = _Call(
            id=message.id,
            state=str(message.event["data"].get("state")),
            url=self._url,
            time=utc_now(),
            outcome=delivery.outcome,
            tries=delivery.tries,
            reason=delivery.reason,
        )
        self._calls.calls.append(call)
        try:
            write_atomically(self._path, self._calls.model_dump_json(indent=1) + "\n")
        except OSError as error:
            _LOG.warning("The callback is not noted, and may be sent once more: %s", error)


class _Spool:
    """What is still to be delivered, beside the manifest.

    Parameters
    ----------
    directory
        The directory; there only while it holds something.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def read(self) -> list[Message]:
        """All that is there, in the order in which it happened."""
        messages = []
        for path in self._directory.glob("msg_*.json"):
            try:
                event = read_event(path.read_bytes())
            except OSError as error:
                _LOG.warning("The callback %s cannot be read: %s", path, error)
                continue
            if event is None:
                _LOG.warning("%s is damaged, and is not sent.", path)
                continue
            messages.append(Message(path.stem, event))
        return sorted(messages, key=lambda message: (message.event["timestamp"], message.id))

    def add(self, message: Message) -> None:
        try:
            self._directory.mkdir(exist_ok=True)
            write_atomically(
                self._directory / f"{message.id}.json", json.dumps(message.event, indent=1) + "\n"
            )
        except OSError as error:
            _LOG.warning("The callback cannot be kept for later: %s", error)

    def remove(self, webhook_id: str) -> None:
        (self._directory / f"{webhook_id}.json").unlink(missing_ok=True)
        try:
            self._directory.rmdir()
        except OSError:
            # Not empty, or not there.
            return
