# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""A server that callbacks can be sent to, and that misbehaves on demand."""

from __future__ import annotations

import http.server
import ssl
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, NamedTuple, Self

from ..callback.secret_file import write_new_secret
from ..callback.webhook import Verdict, Verification, read_event, verify

__all__ = ("Answer", "Call", "CallbackServer")

Answer = int | Literal["slow", "drip", "close", "half", "garbage"]
"""What to do with a call: answer with this status; never answer; answer a
byte at a time without end; hang up; hang up within the answer; answer with
something that is no HTTP."""

PATIENCE_S = 60.0
"""Longest time that a slow answer takes."""


class Call(NamedTuple):
    """A POST that has come."""

    path: str
    """Path and query."""

    headers: dict[str, str]
    """Its headers, lower-case."""

    body: bytes
    """Its bytes."""

    verification: Verification
    """Whether it is genuine."""

    time: float
    """When it came, seconds since 1970."""


class CallbackServer:
    """A server on 127.0.0.1, in threads of this process.

    Parameters
    ----------
    directory
        Where to make the file with the secret.
    answers
        What to do with the first calls; all others are verified, and answered
        as a good server does.
    headers
        Headers to add to each answer.
    certificate
        File with certificate and key, for https; `None` for http.

    Notes
    -----
    To be used as a context manager.
    """

    def __init__(
        self,
        directory: Path,
        answers: Iterable[Answer] = (),
        *,
        headers: dict[str, str] | None = None,
        certificate: Path | None = None,
    ) -> None:
        self.secret_file = directory / "callback.secret"
        self.secret = write_new_secret(self.secret_file)
        self.calls: list[Call] = []
        self._answers = list(answers)
        self._headers = headers or {}
        self._certificate = certificate
        self._address = ("127.0.0.1", 0)
        self._came = threading.Condition()
        self._stopped = threading.Event()
        self._server: http.server.ThreadingHTTPServer | None = None

    @property
    def notify(self) -> dict[str, str]:
        """The field ``notify`` of a request that is to call here."""
        return {"url": self.url, "secret_file": str(self.secret_file)}

    @property
    def url(self) -> str:
        """Where to call; known once it has been started, and for good."""
        scheme = "http" if self._certificate is None else "https"
        return f"{scheme}://127.0.0.1:{self._address[1]}/hooks/test"

    @property
    def events(self) -> list[dict[str, Any]]:
        """What was told, in order: genuine callbacks, each once."""
        genuine = {
            call.verification.webhook_id: read_event(call.body)
            for call in self.calls
            if call.verification.verdict is Verdict.GENUINE
        }
        return [event for event in genuine.values() if event is not None]

    def start(self) -> None:
        """Begin to listen, at the same port as before."""
        self._stopped.clear()
        self._server = _Server(self._address, self)
        self._address = self._server.server_address[:2]  # type: ignore[assignment]
        if self._certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(self._certificate)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def stop(self) -> None:
        """Be down: connections are refused."""
        self._stopped.set()
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def answer_with(self, *answers: Answer) -> None:
        """Misbehave with the next calls.

        Parameters
        ----------
        *answers
            What to do with each of them.
        """
        with self._came:
            self._answers = list(answers)

    def wait_for(self, n: int, seconds: float = 60.0) -> None:
        """Wait until calls have come.

        Parameters
        ----------
        n
            Number of calls, all told.
        seconds
            How long to wait at most.

        Raises
        ------
        TimeoutError
            Raised if they have not come by then.
        """
        with self._came:
            if not self._came.wait_for(lambda: len(self.calls) >= n, seconds):
                raise TimeoutError(f"{len(self.calls)} calls have come, not {n}.")

    def take(self, call: Call) -> Answer:
        """Note a call, and say what to do with it.

        Parameters
        ----------
        call
            The call.

        Returns
        -------
        answer
            What to do.
        """
        with self._came:
            self.calls.append(call)
            self._came.notify_all()
            return self._answers.pop(0) if self._answers else call.verification.verdict.http_status

    def answer(self, handler: http.server.BaseHTTPRequestHandler, answer: Answer) -> None:
        """Do it.

        Parameters
        ----------
        handler
            The connection.
        answer
            What to do.
        """
        if isinstance(answer, int):
            handler.send_response(answer)
            for name, value in self._headers.items():
                handler.send_header(name, value)
            if 300 <= answer < 400:
                handler.send_header("Location", f"{self.url}/elsewhere")
            handler.send_header("Content-Length", "0")
            handler.end_headers()
        elif answer == "slow":
            self._stopped.wait(PATIENCE_S)
        elif answer == "drip":
            handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Drip: ")
            end = time.monotonic() + PATIENCE_S
            while time.monotonic() < end and not self._stopped.wait(0.02):
                handler.wfile.write(b"x")
        elif answer == "half":
            handler.wfile.write(b"HTTP/1.1 2")
        elif answer == "garbage":
            handler.wfile.write(b"\x00\xff\r\n" * 1000)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address: tuple[str, int], owner: CallbackServer) -> None:
        self.owner = owner
        super().__init__(address, _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that hang up are what is tested here."""


class _Handler(http.server.BaseHTTPRequestHandler):
    server: _Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        owner = self.server.owner
        verification = verify(body, self.headers.items(), [owner.secret])
        owner.answer(self, owner.take(Call(self.path, headers, body, verification, time.time())))

    def log_message(self, format: str, *args: Any) -> None:
        """Be quiet."""
