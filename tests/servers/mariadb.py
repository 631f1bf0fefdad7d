"""MariaDB in a temporary folder, with utf8mb4 and its default isolation level."""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from tests.servers.server import Server


class MariaDB(Server):
    """A MariaDB instance of its own that reads no configuration file of the machine."""

    name = "MariaDB"
    programs = ("mariadb-install-db", "mariadbd")
    service_user = "mysql"
    client_module = "MySQLdb"

    @property
    def url(self) -> str:
        return f"mysql://root@127.0.0.1:{self.port}/mysql"

    @classmethod
    def find(cls, program: str) -> Path | None:
        """Look on the path, then where system programs stand that users have not on theirs."""
        system = Path("/usr/sbin") / program
        return super().find(program) or (system if system.is_file() else None)

    @property
    def data(self) -> Path:
        """The instance's data folder."""
        return self.home / "data"

    def environment(self) -> Mapping[str, str]:
        """Keep temporary tables here: who starts removes all that lie about in its folder."""
        return {**os.environ, "TMPDIR": str(self.home)}

    def prepare(self) -> None:
        """Make the system tables, with a root that needs no password on loopback."""
        if self.data.exists():
            return
        self.run(
            "mariadb-install-db",
            [
                self.program("mariadb-install-db"),
                *("--no-defaults", f"--datadir={self.data}", "--skip-test-db"),
                *("--auth-root-authentication-method=normal", "--skip-name-resolve"),
            ],
        )

    def command(self) -> Sequence[str | Path]:
        return [
            self.program("mariadbd"),
            *("--no-defaults", f"--datadir={self.data}", f"--port={self.port}"),
            *("--bind-address=127.0.0.1", "--skip-name-resolve"),
            *(f"--socket={self.home / 'server.sock'}", f"--pid-file={self.home / 'server.pid'}"),
            *("--character-set-server=utf8mb4", "--collation-server=utf8mb4_unicode_ci"),
            *("--innodb-buffer-pool-size=64M", "--innodb-log-file-size=32M"),
        ]

    def connect(self) -> Any:
        """Return a new connection of the client library, to be closed by its user."""
        client = importlib.import_module(self.client_module)
        return client.connect(
            host="127.0.0.1", port=self.port, user="root", connect_timeout=2, read_timeout=2
        )

    def ask(self) -> None:
        with closing(self.connect()) as connection:
            connection.ping()
