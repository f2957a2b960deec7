# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""HTTP for clients that nobody knows: one POST a connection, and bounds for
its size, its time, and the number of connections.
"""

from __future__ import annotations

import contextlib
import http.client
import http.server
import io
import logging
import socket
import socketserver
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

__all__ = ("PATIENCE_S", "PostServer")

_LOG = logging.getLogger(__name__)

MOST_HEADER_BYTES = 16384

MOST_CONNECTIONS = 16
"""Connections that are served at the same time; others wait."""

PATIENCE_S = 10.0
"""How long a client may take."""

LINGER_S = 0.5
"""How long one is listened to whose request was cut short."""


class PostServer(socketserver.ThreadingMixIn, http.server.HTTPServer):
    """A server that takes POST and nothing else.

    Parameters
    ----------
    address
        Host and port to listen at.
    receive
        Called with the body and the headers of each POST; gives the status to
        answer.
    answered
        Called after each answer.
    most_bytes
        Largest body.
    patience_s
        Seconds that a client has for its request.
    """

    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def __init__(
        self,
        address: tuple[str, int],
        receive: Callable[[bytes, Sequence[tuple[str, str]]], int],
        answered: Callable[[], None],
        *,
        most_bytes: int,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self.receive = receive
        self.answered = answered
        self.most_bytes = most_bytes
        self.patience_s = patience_s
        self._slots = threading.BoundedSemaphore(MOST_CONNECTIONS)
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        super().__init__(address, _Handler)

    def server_bind(self) -> None:
        """Take the address, and do not look up its name."""
        socketserver.TCPServer.server_bind(self)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve a connection in a thread, when there is one to spare.

        Parameters
        ----------
        request, client_address
            The connection.
        """
        # Each connection has an end, so one will be.
        self._slots.acquire()
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serve a connection, in its thread.

        Parameters
        ----------
        request, client_address
            The connection.
        """
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._slots.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that hang up are no news.

        Parameters
        ----------
        request, client_address
            The connection.
        """
        _LOG.debug("The connection of %s has failed.", client_address, exc_info=True)


class _Handler(http.server.BaseHTTPRequestHandler):
    """One connection, one request."""

    server: PostServer
    server_version = "bulkcutout"
    sys_version = ""
    error_content_type = "text/plain"
    error_message_format = "%(code)d %(message)s\n"

    # What an answer needs before a request was understood.
    command = requestline = request_version = ""

    _is_read = False
    """Whether the whole request has been read."""

    def setup(self) -> None:
        super().setup()
        self.rfile.close()
        self._input = _Input(self.connection, self.server.patience_s)
        self.rfile = io.BufferedReader(self._input, 1024)

    def handle(self) -> None:
        try:
            super().handle()
        except http.client.LineTooLong:
            self.send_error(431)
        except TimeoutError:
            self.send_error(408)

    def finish(self) -> None:
        super().finish()
        end = time.monotonic() + LINGER_S
        # Else what was not read would take the answer with it.
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_WR)
            self.connection.settimeout(LINGER_S)
            while not self._is_read and time.monotonic() < end and self.connection.recv(65536):
                pass

    def parse_request(self) -> bool:
        if not super().parse_request():
            return False
        self.close_connection = True
        if self.command != "POST":
            self.send_response(405)
            self.send_header("Allow", "POST")
            self.end_headers()
            return False
        return True

    def do_POST(self) -> None:
        given = self.headers.get_all("Content-Length", [])
        if len(given) != 1 or "Transfer-Encoding" in self.headers:
            self.send_error(411)
            return
        if not (given[0].isascii() and given[0].isdigit()):
            self.send_error(400)
            return
        if len(given[0]) > 12 or (length := int(given[0])) > self.server.most_bytes:
            self.send_error(413)
            return
        self._input.left = length
        body = self.rfile.read(length)
        if len(body) < length:
            self.send_error(400)
            return
        self._is_read = True
        status = self.server.receive(body, [(name, str(value)) for name, value in self.headers.items()])
        if status < 300:
            self.send_response(status)
            self.end_headers()
        else:
            self.send_error(status)
        self.wfile.flush()
        self.server.answered()

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: the line of a request may hold anything."""


class _Input(io.RawIOBase):
    """What a client sends: not more than is good, nor for longer."""

    def __init__(self, connection: socket.socket, patience_s: float) -> None:
        self._connection = connection
        self._end = time.monotonic() + patience_s
        self.left = MOST_HEADER_BYTES

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        left_s = self._end - time.monotonic()
        if left_s <= 0:
            raise TimeoutError
        if self.left <= 0:
            raise http.client.LineTooLong("headers")
        self._connection.settimeout(left_s)
        n = self._connection.recv_into(memoryview(buffer)[: self.left])
        self.left -= n
        return n
