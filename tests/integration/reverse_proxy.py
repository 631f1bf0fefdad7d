"""A small reverse proxy in front of the test's own servers, as nginx stands before a site."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self

#: Headers that are about one connection and do not travel on.
OF_ONE_CONNECTION = {"connection", "keep-alive", "transfer-encoding", "content-length"}


class ReverseProxy:
    """
    Serves several programs at one address.

    Args:
        routes: The beginning of a path, and what serves it: a port, and the beginning that its
            program knows nothing of, which is taken away.
    """

    def __init__(self, routes: Mapping[str, tuple[int, str]]) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                found = (target for start, target in routes.items() if self.path.startswith(start))
                port, taken_away = next(found, (0, ""))
                if not port:
                    self.send_error(404)
                    return
                pass_on(self, port, self.path.removeprefix(taken_away))

            do_POST = do_GET  # noqa: N815 - the server's own naming

            def log_message(self, *args: object) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=[0.05], daemon=True)

    def __enter__(self) -> Self:
        self.thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        self.server.shutdown()
        self.thread.join(timeout=10)
        self.server.server_close()


def pass_on(asked: BaseHTTPRequestHandler, port: int, path: str) -> None:
    """Ask the program behind, under the name that the browser used, and hand its answer back."""
    body = asked.rfile.read(int(asked.headers.get("Content-Length", 0)))
    behind = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        behind.request(asked.command, path, body, dict(asked.headers))
        answer = behind.getresponse()
        content = answer.read()
    finally:
        behind.close()
    asked.send_response(answer.status)
    for name, value in answer.getheaders():
        if name.lower() not in OF_ONE_CONNECTION:
            asked.send_header(name, value)
    asked.send_header("Content-Length", str(len(content)))
    asked.end_headers()
    asked.wfile.write(content)
