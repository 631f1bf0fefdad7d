"""A TCP proxy that misbehaves on demand: the network between a client and a real server.

It stands on a loopback port of its own and forwards to one target. Its `mode` may be changed
at any moment and holds for connections that are already open too. Bytes are forwarded whole or
not at all and never reordered, as TCP promises.
"""

from __future__ import annotations

import contextlib
import enum
import socket
import threading
import time
from collections.abc import Callable
from typing import Self

#: Seconds between two looks at the mode while nothing is forwarded.
TICK = 0.02


class Mode(enum.Enum):
    """What happens to the traffic."""

    PASS = "pass"
    """Forward both ways."""
    CUT = "cut"
    """End every connection, old and new."""
    BLACKHOLE = "blackhole"
    """Take connections and forward nothing until the mode changes: a half-open link."""
    DROP_REPLY = "drop_reply"
    """Forward requests and throw the replies away: the client waits for ever."""
    DROP_REPLY_CUT = "drop_reply_cut"
    """Forward requests and end the connection at the reply: done, but the client cannot know."""
    DELAY = "delay"
    """Forward both ways, each piece `delay` seconds late."""


class Trap:
    """
    One request whose connection ends with it: what a client that asked cannot know.

    Args:
        request: Bytes of the request, which has to come in one piece.
        after: Bytes that the same client has to have sent before.
        arrives: Whether the server still gets the request; its reply is lost in any case.
    """

    def __init__(self, request: bytes, after: bytes, *, arrives: bool) -> None:
        self.request = request
        self.after = after
        self.arrives = arrives
        self.marked: set[socket.socket] = set()
        self.caught: socket.socket | None = None

    def springs(self, client: socket.socket, piece: bytes) -> bool:
        """Listen to a client; tell whether this is the request, at its first time."""
        if self.caught is None and client in self.marked and self.request in piece:
            self.caught = client
            return True
        if self.after in piece:
            self.marked.add(client)
        return False


class Proxy:
    """
    A proxy in front of one server; a context manager that ends every connection it made.

    Args:
        port: Loopback port of the server behind it.
        listening: Loopback port of its own; a free one when omitted.
    """

    def __init__(self, port: int, listening: int = 0) -> None:
        self.target = ("127.0.0.1", port)
        self.port = listening
        self.mode = Mode.PASS
        self.delay = 0.5
        self.trap: Trap | None = None
        self.connections: list[tuple[socket.socket, socket.socket]] = []
        self.threads: list[threading.Thread] = []
        self.closing = False

    def start(self) -> Self:
        """Listen; until now its port has refused every connection."""
        self.listener = socket.create_server(("127.0.0.1", self.port))
        self.port = self.listener.getsockname()[1]
        self.run(self.accept)
        return self

    def set(self, mode: Mode, delay: float | None = None) -> None:
        """Change the mode; `CUT` also ends what is open now."""
        self.delay = self.delay if delay is None else delay
        self.mode = mode
        if mode is Mode.CUT:
            self.cut()

    def set_trap(self, request: bytes, *, after: bytes, arrives: bool) -> Trap:
        """End one connection at one request; see `Trap`."""
        self.trap = Trap(request, after, arrives=arrives)
        return self.trap

    def cut(self) -> None:
        """End every open connection."""
        for pair in list(self.connections):
            end(*pair)

    def close(self) -> None:
        """Stop listening, end every connection and wait for every thread."""
        self.closing = True
        # A shutdown wakes the thread that waits in accept; a mere close would not.
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.cut()
        for thread in list(self.threads):
            thread.join()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exception: object) -> None:
        self.close()

    def run(self, target: Callable[..., None], *args: object) -> None:
        """Start a thread that `close` waits for."""
        thread = threading.Thread(target=target, args=args, daemon=True)
        self.threads.append(thread)
        thread.start()

    def accept(self) -> None:
        """Take connections and open one to the server for each."""
        while not self.closing:
            try:
                client, _address = self.listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(self.target, timeout=5)
            except OSError:
                end(client)
                client.close()
                continue
            server.settimeout(None)
            self.connections.append((client, server))
            if self.mode is Mode.CUT or self.closing:
                end(client, server)
            self.run(self.serve, client, server)

    def serve(self, client: socket.socket, server: socket.socket) -> None:
        """Forward both ways until either side ends, then forget the connection."""
        replies = threading.Thread(
            target=self.pump, args=(server, client), kwargs={"replies": True}, daemon=True
        )
        replies.start()
        self.pump(client, server)
        replies.join()
        self.connections.remove((client, server))
        self.threads.remove(threading.current_thread())
        client.close()
        server.close()

    def pump(self, source: socket.socket, sink: socket.socket, *, replies: bool = False) -> None:
        """Forward one direction until either side ends."""
        # Whatever ends this thread ends the connection: nobody waits for one that is left.
        with contextlib.ExitStack() as stack:
            stack.callback(end, source, sink)
            stack.enter_context(contextlib.suppress(OSError))
            while piece := source.recv(65536):
                self.hold()
                if not replies:
                    self.listen(source, piece)
                if replies and self.mode is Mode.DROP_REPLY:
                    continue
                if self.mode is Mode.CUT or (replies and self.mode is Mode.DROP_REPLY_CUT):
                    break
                if self.is_trapped(source, sink, piece, replies=replies):
                    break
                sink.sendall(piece)

    def listen(self, client: socket.socket, piece: bytes) -> None:
        """Take note of what a client sends, before the server gets it; for proxies that count."""

    def is_trapped(
        self, source: socket.socket, sink: socket.socket, piece: bytes, *, replies: bool
    ) -> bool:
        """Tell whether a piece is the last that its connection sees, by the trap's doing."""
        trap = self.trap
        if trap is None:
            return False
        if replies:
            return trap.caught is sink
        return trap.springs(source, piece) and not trap.arrives

    def hold(self) -> None:
        """Keep a piece back for as long as the mode says."""
        if self.mode is Mode.DELAY:
            time.sleep(self.delay)
        while self.mode is Mode.BLACKHOLE and not self.closing:
            time.sleep(TICK)


def end(*sockets: socket.socket) -> None:
    """End connections so that both ends and our own threads notice at once."""
    for each in sockets:
        with contextlib.suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)
