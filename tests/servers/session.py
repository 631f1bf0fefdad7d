"""The servers of one test run: chosen by environment variables, started when first needed.

`TASKS_TEST_DATABASE` (sqlite, postgres, mariadb) and `TASKS_TEST_BROKER` (embedded, redis,
rabbitmq) name the pair that Django and Celery use. Addresses are fixed before anything starts,
because Django's settings are read before the first test hook; they travel to subprocesses in
`TASKS_TEST_DATABASE_URL`, `TASKS_TEST_BROKER_URL` and `TASKS_TEST_FILES`, so a worker started
by a test finds the servers and files of its test run.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from tests.servers.mariadb import MariaDB
from tests.servers.postgresql import PostgreSQL
from tests.servers.rabbitmq import RabbitMQ
from tests.servers.redis import Redis
from tests.servers.server import Server

DATABASES = ("sqlite", "postgres", "mariadb")
BROKERS = ("embedded", "redis", "rabbitmq")

#: Server class by the name that environment variables, fixtures and pairs use.
KINDS: Mapping[str, type[Server]] = {
    "postgres": PostgreSQL,
    "mariadb": MariaDB,
    "redis": Redis,
    "rabbitmq": RabbitMQ,
}


class Session:
    """The test run's own servers and its folder for files."""

    def __init__(self) -> None:
        self.servers: dict[str, Server] = {}
        self.folder: Path | None = None

    def server(self, kind: str) -> Server:
        """Return the run's server of a kind, started or not."""
        if kind not in self.servers:
            self.servers[kind] = KINDS[kind]()
        return self.servers[kind]

    def start_chosen(self) -> None:
        """Start the servers of the chosen pair, unless their address came from outside."""
        for kind in (chosen_database(), chosen_broker()):
            if kind in self.servers:
                self.servers[kind].start()

    def files(self) -> Path:
        """Return the run's folder for files, made at the first call."""
        if self.folder is None:
            self.folder = Path(tempfile.mkdtemp(prefix="tasks-app-tests-"))
            # Commands that merely read the settings make a folder too and have no test hooks.
            atexit.register(self.close)
        return self.folder

    def close(self) -> None:
        """Stop every server and remove every file of the run."""
        for server in self.servers.values():
            server.close()
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)


session = Session()


def chosen_database() -> str:
    """Return the name of the database that this run uses."""
    return choice("TASKS_TEST_DATABASE", DATABASES)


def chosen_broker() -> str:
    """Return the name of the broker that this run uses."""
    return choice("TASKS_TEST_BROKER", BROKERS)


def choice(variable: str, allowed: tuple[str, ...]) -> str:
    """Read an environment variable that has a default and a fixed set of values."""
    value = os.environ.get(variable, allowed[0])
    if value not in allowed:
        raise ValueError(f"{variable}={value!r} is none of {', '.join(allowed)}")
    return value


def files() -> Path:
    """Return the run's folder for files, the same in every process of the run."""
    if "TASKS_TEST_FILES" not in os.environ:
        os.environ["TASKS_TEST_FILES"] = str(session.files())
    return Path(os.environ["TASKS_TEST_FILES"])


def database_url() -> str:
    """Return the address of the run's database, passing it on to subprocesses."""
    kind = chosen_database()
    if "TASKS_TEST_DATABASE_URL" not in os.environ:
        url = f"sqlite://{files()}/tests.sqlite3" if kind == "sqlite" else session.server(kind).url
        os.environ["TASKS_TEST_DATABASE_URL"] = url
    return os.environ["TASKS_TEST_DATABASE_URL"]


def broker_url() -> str | None:
    """Return the address of the run's broker, passing it on; None for the embedded default."""
    kind = chosen_broker()
    if kind == "embedded":
        return None
    if "TASKS_TEST_BROKER_URL" not in os.environ:
        os.environ["TASKS_TEST_BROKER_URL"] = session.server(kind).url
    return os.environ["TASKS_TEST_BROKER_URL"]
