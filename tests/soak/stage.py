"""The installation under test: servers behind proxies, a migrated database, and its processes.

Processes reach the servers through the proxies; who watches them goes straight to the servers.
"""

from __future__ import annotations

import contextlib
import os
import queue
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from django.db import DatabaseError, connection
from django.test.utils import setup_databases, teardown_databases

from tests.servers import Proxy, Server
from tests.servers.session import KINDS, chosen_broker, chosen_database, files, session
from tests.soak import members
from tests.soak.members import Member

WORKERS, CLIENTS = 3, 2


class Stage:
    """Servers, proxies and processes; made by `standing`."""

    def __init__(self, folder: Path, seed: str) -> None:
        self.folder = folder
        self.seed = seed
        self.database = chosen_server(chosen_database())
        self.broker = chosen_server(chosen_broker())
        self.database_proxy: Proxy | None = None
        self.broker_proxy: Proxy | None = None
        self.members: list[Member] = []
        #: Names of faults that have just ended, for each of which a probe is due.
        self.ended_faults: queue.Queue[str] = queue.Queue()
        #: What went wrong beside the judged facts.
        self.findings: list[str] = []

    def of_role(self, role: str) -> list[Member]:
        """Return the places for a role."""
        return [member for member in self.members if member.role == role]

    def supervise(self) -> None:
        """Start again whatever has ended."""
        for member in self.members:
            if not member.running:
                if finding := member.bury():
                    self.findings.append(finding)
                member.start()

    @property
    def message_files(self) -> list[Path]:
        """The waiting messages of the embedded broker."""
        return list(self.folder.glob(".tasks_broker/queues/*/*.msg"))

    def environment(self) -> dict[str, str]:
        """Return what every process of the installation has in its environment."""
        proxied = {
            "TASKS_TEST_DATABASE_URL": behind(self.database_proxy, self.database),
            "TASKS_TEST_BROKER_URL": behind(self.broker_proxy, self.broker),
        }
        return {name: url for name, url in proxied.items() if url}

    def cast(self) -> None:
        """Make the places for all processes."""
        environment = self.environment()
        for number in range(WORKERS):
            self.members.append(
                members.worker(f"worker{number}", self.folder, environment, self.seed)
            )
        # One main process lives through the whole run: its memory is what is watched.
        self.members[0].is_spared = True
        self.members.append(members.relay("relay", self.folder, environment, self.seed))
        for number in range(CLIENTS):
            self.members.append(
                members.client(f"client{number}", self.folder, environment, self.seed)
            )
        for member in self.members[1:]:
            member.crashes = True


def chosen_server(kind: str) -> Server | None:
    """Return the run's server of a kind, or None where that is no server."""
    return session.server(kind) if kind in KINDS else None


def behind(proxy: Proxy | None, server: Server | None) -> str | None:
    """Return a server's address with its proxy's port."""
    if proxy is None or server is None:
        return None
    return server.url.replace(f":{server.port}/", f":{proxy.port}/")


@contextlib.contextmanager
def standing(seed: str) -> Iterator[Stage]:
    """Start servers and migrate; at the end, leave no process and no database."""
    stage = Stage(files(), seed)
    with ExitStack() as stack:
        if stage.database:
            stack.enter_context(stage.database)
            stage.database_proxy = stack.enter_context(Proxy(stage.database.port))
        if stage.broker:
            stack.enter_context(stage.broker)
            stage.broker_proxy = stack.enter_context(Proxy(stage.broker.port))
        databases = setup_databases(verbosity=0, interactive=False)
        stack.callback(teardown_databases, databases, verbosity=0)
        stack.callback(end_all, stage)
        stage.cast()
        yield stage


def end_all(stage: Stage) -> None:
    """Kill every process of the installation."""
    for member in stage.members:
        if member.process is None:
            continue
        member.kill()
        for pid in member.left_over():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, 9)


def asked(question: Callable[[], Any], otherwise: Any) -> Any:
    """Return the database's answer, or something else while it is away."""
    try:
        return question()
    except DatabaseError:
        connection.close()
        return otherwise


def connections_in_use() -> int | None:
    """Return how many connections the database serves, or None where it counts none."""
    question = {
        "postgresql": "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'",
        "mysql": "SELECT count(*) FROM information_schema.processlist",
    }.get(connection.vendor)
    if question is None:
        return None
    return asked(lambda: _number(question), None)


def _number(question: str) -> int:
    with connection.cursor() as cursor:
        cursor.execute(question)
        return int(cursor.fetchone()[0])
