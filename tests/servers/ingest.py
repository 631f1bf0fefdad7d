"""Sentry's side of its protocol: takes envelopes over HTTP and tells what was in them.

It reads what the SDK's own transport sends, as the documented format has it: a line of headers,
then for each item a line of headers and its bytes. Connections stay open, as with the real one.
"""

from __future__ import annotations

import gzip
import json
import re
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from tests.waiting import wait_until

#: Seconds within which an item has to come, on a machine that is busy with others.
PATIENCE = 60

ADDRESS = re.compile(r"/api/(\d+)/envelope/")


@dataclass(frozen=True)
class Item:
    """One item of an envelope that was sent to a project."""

    project: int
    kind: str
    payload: dict[str, Any]

    @property
    def tags(self) -> dict[str, str]:
        return self.payload.get("tags") or {}

    @property
    def trace_id(self) -> str:
        return self.payload["contexts"]["trace"]["trace_id"]

    @property
    def frames(self) -> list[dict[str, Any]]:
        """Frames of the last exception, the innermost one last."""
        return self.payload["exception"]["values"][-1]["stacktrace"]["frames"]


class Ingest:
    """A server on a free loopback port, for any number of projects; a context manager."""

    def __init__(self) -> None:
        self.items: list[Item] = []
        self.text = ""
        self.refused: list[str] = []
        self.lock = threading.Lock()
        ingest = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                status = ingest.take(self.path, self.headers.get("X-Sentry-Auth", ""), body)
                self.send_response(status)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

            def log_message(self, *args: object) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.thread = threading.Thread(target=self.server.serve_forever, args=[0.05], daemon=True)

    def take(self, path: str, key: str, body: bytes) -> int:
        """Keep the items of an envelope; return the status of the answer."""
        address = ADDRESS.fullmatch(path)
        if address is None or "sentry_key=key" not in key:
            self.refused.append(path)
            return 404
        with self.lock:
            self.text += body.decode(errors="replace")
            self.items += [Item(int(address[1]), *item) for item in parsed(body)]
        return 200

    def dsn(self, project: int = 1) -> str:
        """Return the DSN of a project."""
        return f"http://key@127.0.0.1:{self.server.server_port}/{project}"

    def of(self, kind: str, **tags: object) -> list[Item]:
        """Return the items of a kind: `event`, `transaction`, `check_in`."""
        wanted = {name: str(value) for name, value in tags.items()}.items()
        return [item for item in self.items if item.kind == kind and wanted <= item.tags.items()]

    def wait_for(self, kind: str, **tags: object) -> Item:
        """Return the first item of a kind with such tags when it has come."""
        return wait_until(
            lambda: self.of(kind, **tags), PATIENCE, lambda: f"{kind} {tags} among {self.items}"
        )[0]

    def check_ins(self, slug: str) -> list[tuple[str, str]]:
        """Return id and status of each check-in of a monitor."""
        found = [item.payload for item in self.of("check_in")]
        return [(p["check_in_id"], p["status"]) for p in found if p["monitor_slug"] == slug]

    def __enter__(self) -> Self:
        self.thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.server.shutdown()
        self.thread.join(timeout=10)
        self.server.server_close()


def parsed(envelope: bytes) -> list[tuple[str, dict[str, Any]]]:
    """Return type and payload of each item that is JSON."""
    head, _, rest = envelope.partition(b"\n")
    json.loads(head)
    items = []
    while rest.strip():
        line, _, rest = rest.partition(b"\n")
        header = json.loads(line)
        length = header.get("length", len(rest.partition(b"\n")[0]))
        payload, rest = rest[:length], rest[length:].removeprefix(b"\n")
        if payload.startswith(b"{"):
            items.append((header["type"], json.loads(payload)))
    return items
