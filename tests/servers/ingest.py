"""Sentry's side of its protocol: takes envelopes over HTTP and tells what was in them.

It reads what the SDK's own transport sends, as the documented format has it: a line of headers,
then for each item a line of headers and its bytes.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tests.servers.collector import Answer, Collector
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


class Ingest(Collector):
    """Sentry's server, for any number of projects."""

    def __init__(self) -> None:
        super().__init__()
        self.items: list[Item] = []
        self.text = ""
        self.refused: list[str] = []
        self.lock = threading.Lock()

    def take(self, path: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """Keep the items of an envelope."""
        address = ADDRESS.fullmatch(path)
        if address is None or "sentry_key=key" not in headers.get("X-Sentry-Auth", ""):
            self.refused.append(path)
            return Answer(b"{}", "application/json", status=404)
        with self.lock:
            self.text += body.decode(errors="replace")
            self.items += [Item(int(address[1]), *item) for item in parsed(body)]
        return Answer(b"{}", "application/json")

    def dsn(self, project: int = 1) -> str:
        """Return the DSN of a project."""
        return f"http://key@127.0.0.1:{self.port}/{project}"

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
