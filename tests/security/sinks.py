"""Where secrets would surface: Sentry's server, a broker's wire, Celery's events, Flower."""

from __future__ import annotations

import base64
import gzip
import json
import re
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from celery import current_app
from celery.events import EventReceiver
from kombu import Connection

#: What Flower asks for in these tests.
CREDENTIALS = "operator:only-for-tests"


class SentryServer:
    """Takes what the SDK of a worker sends to its DSN."""

    def __init__(self) -> None:
        self.bodies: list[str] = []
        bodies = self.bodies

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                bodies.append(body.decode(errors="replace"))
                self.send_response(200)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

            def log_message(self, *args: object) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, args=[0.05], daemon=True)
        self.thread.start()

    def options(self, **more: Any) -> str:
        """Return options of `sentry_sdk.init`, as `tests/settings.py` reads them."""
        dsn = f"http://key@127.0.0.1:{self.server.server_port}/1"
        return json.dumps({"dsn": dsn, "traces_sample_rate": 1.0, **more})

    @property
    def text(self) -> str:
        return "\n".join(self.bodies)

    def close(self) -> None:
        """Stop listening."""
        self.server.shutdown()
        self.thread.join(timeout=10)
        self.server.server_close()


@contextmanager
def monitored(port: int) -> Iterator[list[bytes]]:
    """Record every command that a Redis gets, with all its bytes."""
    heard: list[bytes] = []
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(b"MONITOR\r\n")
        thread = threading.Thread(target=listen, args=[connection, heard], daemon=True)
        thread.start()
        yield heard
        connection.shutdown(socket.SHUT_RDWR)
        thread.join(timeout=10)


def listen(connection: socket.socket, heard: list[bytes]) -> None:
    while part := connection.recv(65_536):
        heard.append(part)


def with_bodies(wire: str) -> str:
    """Return what went over a wire, with the bodies of messages also as what they hold."""
    bodies = re.findall(r'"body\\*": \\*"([A-Za-z0-9+/=]+)', wire)
    plain = [base64.b64decode(body).decode(errors="replace") for body in bodies]
    return "\n".join([wire, *plain])


@contextmanager
def received_events(url: str) -> Iterator[list[str]]:
    """Record every event of Celery's that goes through a broker."""
    events: list[str] = []
    with Connection(url) as connection:
        receiver = EventReceiver(
            connection, {"*": lambda event: events.append(repr(event))}, app=current_app
        )
        thread = threading.Thread(target=receive, args=[receiver], daemon=True)
        thread.start()
        yield events
        receiver.should_stop = True
        thread.join(timeout=10)


def receive(receiver: EventReceiver) -> None:
    receiver.capture(limit=None, timeout=None, wakeup=False)


def answer(url: str, *, method: str = "GET", credentials: str = "") -> tuple[int, str]:
    """Return status and text of an address; 0 while nobody listens there."""
    request = urllib.request.Request(url, method=method)
    if credentials:
        encoded = base64.b64encode(credentials.encode()).decode()
        request.add_header("Authorization", f"Basic {encoded}")
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()
    except OSError:
        return 0, ""
