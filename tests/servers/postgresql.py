"""PostgreSQL in a temporary folder, durable as in production (fsync stays on)."""

from __future__ import annotations

import shutil
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

import psycopg

from tests.children import Child
from tests.servers.server import Server


class PostgreSQL(Server):
    """A PostgreSQL cluster of its own; `initdb` refuses root, hence the service user."""

    name = "PostgreSQL"
    programs = ("initdb", "postgres")
    service_user = "postgres"
    client_module = "psycopg"

    @property
    def url(self) -> str:
        return f"postgres://postgres@127.0.0.1:{self.port}/postgres"

    @classmethod
    def find(cls, program: str) -> Path | None:
        """Look where pg_config points, then in Debian's folders, newest version first."""
        places = [*configured_folder(), *debian_folders()]
        return next((place / program for place in places if (place / program).is_file()), None)

    @property
    def data(self) -> Path:
        """The cluster's data folder."""
        return self.home / "data"

    def prepare(self) -> None:
        """Make the cluster; only its making may skip the disk's confirmation."""
        if self.data.exists():
            return
        self.run(
            "initdb",
            [
                self.program("initdb"),
                *("--pgdata", self.data),
                *("--username", "postgres", "--auth", "trust"),
                *("--encoding", "UTF8", "--no-locale", "--no-sync"),
            ],
        )

    def command(self) -> Sequence[str | Path]:
        return [
            self.program("postgres"),
            *("-D", self.data, "-h", "127.0.0.1", "-p", str(self.port), "-k", ""),
            *("-c", "max_connections=200", "-c", "shared_buffers=64MB"),
        ]

    def shut_down(self, child: Child) -> None:
        """Use the fast shutdown: the smart one waits for every client."""
        child.terminate(number=signal.SIGINT)

    def ask(self) -> None:
        with psycopg.connect(self.url, connect_timeout=2) as connection:
            connection.execute("SELECT 1")


def configured_folder() -> list[Path]:
    """Return the folder that pg_config names, if there is a pg_config."""
    if shutil.which("pg_config") is None:
        return []
    answer = subprocess.run(["pg_config", "--bindir"], capture_output=True, text=True, check=True)
    return [Path(answer.stdout.strip())]


def debian_folders() -> list[Path]:
    """Return the folders of all versions that Debian's packages installed, newest first."""
    folders = Path("/usr/lib/postgresql").glob("*/bin")
    return sorted(folders, key=lambda folder: float(folder.parent.name), reverse=True)
