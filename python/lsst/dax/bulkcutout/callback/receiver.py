# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""A minimal server for callbacks: verifies, keeps, and hands on.

For tests, and for operators who want to see what comes.  A server of a service
uses `webhook.verify` in its own framework.
"""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ..errors import UserError
from .post_server import PATIENCE_S, PostServer
from .secret import Secret
from .webhook import MOST_BODY_BYTES, Verdict, read_event, verify

__all__ = ("Receiver",)

_LOG = logging.getLogger(__name__)


class Receiver:
    """A server for callbacks.

    Parameters
    ----------
    shared
        The secrets that are good.
    hand_on
        Called with each genuine callback, once: its identifier and its
        fields.  One at a time.
    host, port
        Where to listen; port 0 for any that is free.
    store
        File to add each callback to, a line of JSON each, before it is
        answered; what is in it already counts as known.  `None` for none.
    count
        Number of callbacks after which to end; `None` for never.
    patience_s
        How long a client may take.

    Raises
    ------
    UserError
        Raised if the place or the file cannot be had.
    """

    def __init__(
        self,
        shared: Sequence[Secret],
        hand_on: Callable[[dict[str, Any]], None],
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        store: Path | None = None,
        count: int | None = None,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self._shared = tuple(shared)
        self._hand_on = hand_on
        self._store = None if store is None else _Store(store)
        self._known = set() if self._store is None else self._store.read()
        self._left = count
        self._lock = threading.Lock()
        try:
            self._server = PostServer(
                (host, port),
                self.receive,
                self._answered,
                most_bytes=MOST_BODY_BYTES - 1,
                patience_s=patience_s,
            )
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or error
            raise UserError(f"Cannot listen at {host}, port {port}: {reason}.") from None

    @property
    def url(self) -> str:
        """Where it listens."""
        host, port = self._server.server_address[:2]
        text = host if isinstance(host, str) else host.decode()
        return f"http://{f'[{text}]' if ':' in text else text}:{port}/"

    def serve(self) -> None:
        """Serve until the number of callbacks has come, or `stop`."""
        try:
            self._server.serve_forever(poll_interval=0.1)
        finally:
            self._server.server_close()

    def stop(self) -> None:
        """End `serve`, from another thread."""
        self._server.shutdown()

    def receive(self, body: bytes, headers: Sequence[tuple[str, str]]) -> int:
        """Take a callback.

        Parameters
        ----------
        body
            The bytes that came.
        headers
            Name and value of all headers.

        Returns
        -------
        status
            What to answer.
        """
        found = verify(body, headers, self._shared)
        if found.verdict is not Verdict.GENUINE:
            _LOG.warning("A callback is %s.", found.verdict.value)
            return found.verdict.http_status
        event = read_event(body)
        if event is None:
            _LOG.warning(
                "The callback %r is rightly signed, and says nothing that is known.", found.webhook_id
            )
            return 400
        with self._lock:
            if found.webhook_id in self._known:
                _LOG.info("The callback %r has come again.", found.webhook_id)
                return 204
            if self._left == 0:
                # The number has come; whoever is late comes again.
                return 503
            return self._take({**event, "webhook_id": found.webhook_id})

    def _take(self, record: dict[str, Any]) -> int:
        """Only what is on disk, or else was handed on, is taken."""
        try:
            if self._store is not None:
                self._store.add(record)
        except OSError as error:
            _LOG.error("The callback %r cannot be stored: %s", record["webhook_id"], error)
            return 503
        try:
            self._hand_on(record)
        except OSError as error:
            _LOG.error("The callback %r cannot be handed on: %s", record["webhook_id"], error)
            if self._store is None:
                return 503
        self._known.add(record["webhook_id"])
        if self._left is not None:
            self._left -= 1
        return 204

    def _answered(self) -> None:
        if self._left == 0:
            self.stop()


class _Store:
    """A file with a line for each callback."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> set[str]:
        """Identifiers of all that is there."""
        known = set()
        try:
            with self._path.open("ab+") as stream:
                stream.seek(0)
                last = b"\n"
                for last in stream:
                    try:
                        known.add(str(json.loads(last)["webhook_id"]))
                    except (ValueError, KeyError, TypeError, RecursionError):
                        _LOG.warning("%s has a line that is no callback.", self._path)
                if not last.endswith(b"\n"):
                    # Left by one that was killed while it wrote.
                    stream.write(b"\n")
        except OSError as error:
            raise UserError(f"{self._path} cannot be written: {error.strerror or error}.") from None
        return known

    def add(self, record: dict[str, Any]) -> None:
        with self._path.open("ab") as stream:
            stream.write(json.dumps(record).encode("ascii") + b"\n")
            stream.flush()
            os.fsync(stream.fileno())
