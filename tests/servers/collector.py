"""An HTTP server that takes what an exporter posts, in whatever format, and answers."""

from __future__ import annotations

import gzip
import threading
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self


@dataclass(frozen=True)
class Answer:
    """What a collector says to a post."""

    body: bytes
    content_type: str
    status: int = 200


class Collector(ABC):
    """A server on a free loopback port that hands each post to `take`; a context manager."""

    def __init__(self) -> None:
        collector = self

        class Handler(BaseHTTPRequestHandler):
            # Connections stay open, as with the real ones.
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                answer = collector.take(self.path, self.headers, body)
                self.send_response(answer.status)
                self.send_header("Content-Type", answer.content_type)
                self.send_header("Content-Length", str(len(answer.body)))
                self.end_headers()
                self.wfile.write(answer.body)

            def log_message(self, *args: object) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.thread = threading.Thread(target=self.server.serve_forever, args=[0.05], daemon=True)

    @abstractmethod
    def take(self, path: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """Keep what was posted; runs in a thread of its own for each connection."""

    @property
    def port(self) -> int:
        return self.server.server_port

    def __enter__(self) -> Self:
        self.thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.server.shutdown()
        self.thread.join(timeout=10)
        self.server.server_close()
