"""
A tap on the wire to PostgreSQL: what clients send, counted at the protocol and not by a driver.

Counted are statements, in simple queries and in executions of prepared ones; round trips, which
are the messages by which a client asks the server to answer all it was sent; and connections. A
pipeline of many statements that ends in one Sync is one round trip.
"""

from __future__ import annotations

import socket
import threading
from dataclasses import dataclass, field

from tests.servers.proxy import Proxy

#: First words of statements that frame others.
FRAMES = frozenset({"BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT", "RELEASE", "START"})

#: Codes that stand where a start-up has its version: asks for TLS and for GSSAPI.
ASKS = (80877103, 80877104)

#: Bytes of a message's length, which counts itself.
LENGTH = 4


@dataclass
class Heard:
    """What clients sent: the first word of each statement, round trips, and connections."""

    verbs: list[str] = field(default_factory=list)
    round_trips: int = 0
    connections: int = 0

    @property
    def statements(self) -> int:
        """Statements without those that begin and end transactions and savepoints."""
        return sum(verb not in FRAMES for verb in self.verbs)


class Tap(Proxy):
    """A proxy that listens to the clients of a PostgreSQL which speaks neither TLS nor GSSAPI."""

    def __init__(self, port: int) -> None:
        super().__init__(port)
        self.lock = threading.Lock()
        self.heard = Heard()
        self.clients: dict[socket.socket, Client] = {}

    def take(self) -> Heard:
        """Return what was heard since the last time."""
        with self.lock:
            heard, self.heard = self.heard, Heard()
        return heard

    def listen(self, client: socket.socket, piece: bytes) -> None:
        with self.lock:
            self.clients.setdefault(client, Client()).read(piece, self.heard)


class Client:
    """One client's side of the protocol, taken apart into messages."""

    def __init__(self) -> None:
        self.unread = bytearray()
        self.has_started = False
        #: Kind of the message before: a Flush right after a Sync asks for nothing more.
        self.last = b""
        self.prepared: dict[bytes, str] = {}
        self.portals: dict[bytes, str] = {}

    def read(self, piece: bytes, heard: Heard) -> None:
        """Note the messages that end in this piece."""
        self.unread += piece
        while (message := self.next_message()) is not None:
            kind, body = message
            if self.has_started:
                self.note(kind, body, heard)
            else:
                self.has_started = int.from_bytes(body[:LENGTH]) not in ASKS
                heard.connections += self.has_started
                heard.round_trips += 1

    def next_message(self) -> tuple[bytes, bytes] | None:
        """Take one whole message off what is unread; until its start-up a client sends no kinds."""
        head = 1 if self.has_started else 0
        if len(self.unread) < head + LENGTH:
            return None
        end = head + int.from_bytes(self.unread[head : head + LENGTH])
        if len(self.unread) < end:
            return None
        kind, body = bytes(self.unread[:head]), bytes(self.unread[head + LENGTH : end])
        del self.unread[:end]
        return kind, body

    def note(self, kind: bytes, body: bytes, heard: Heard) -> None:
        """Note one message."""
        match kind:
            case b"Q":
                heard.verbs.append(verb(body.partition(b"\0")[0].decode()))
                heard.round_trips += 1
            case b"P":
                name, sql, _types = body.split(b"\0", 2)
                self.prepared[name] = sql.decode()
            case b"B":
                portal, name, _values = body.split(b"\0", 2)
                self.portals[portal] = self.prepared[name]
            case b"E":
                heard.verbs.append(verb(self.portals[body.partition(b"\0")[0]]))
            case b"S" | b"c":
                heard.round_trips += 1
            case b"H" if self.last != b"S":
                heard.round_trips += 1
        self.last = kind


def verb(sql: str) -> str:
    """Return a statement's first word."""
    return sql.split(maxsplit=1)[0].rstrip(";").upper()
