"""Redis in a temporary folder that keeps nothing on disk unless it is asked to."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Self

import redis

from tests.servers.server import Server


class Redis(Server):
    """A Redis without persistence, as brokers mostly run: a crash loses everything."""

    name = "Redis"
    programs = ("redis-server",)
    client_module = "redis"

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def command(self) -> Sequence[str | Path]:
        return [
            self.program("redis-server"),
            *("--bind", "127.0.0.1", "--port", str(self.port), "--dir", self.home),
            *("--save", "", "--appendonly", "no"),
        ]

    def restart(self, *, lose_data: bool = False) -> Self:
        """Stop and start; the data survives only by a dump made for the occasion."""
        if not lose_data:
            with self.client() as client:
                client.save()
        super().restart(lose_data=lose_data)
        (self.home / "dump.rdb").unlink(missing_ok=True)
        return self

    def client(self) -> redis.Redis:
        """Return a new client, to be closed by its user."""
        return redis.Redis.from_url(self.url, socket_timeout=2, socket_connect_timeout=2)

    def ask(self) -> None:
        with self.client() as client:
            client.ping()
