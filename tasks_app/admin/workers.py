"""
The workers' page: every process that has lately told that it lives, and what it runs now.

What runs on a worker that is silent is shown with the end of its lease, when it will be rescued.
Three statements, and a bounded number of rows.
"""

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any

from django.template.defaultfilters import filesizeformat
from django.urls import reverse

from tasks_app.addresses import flower_worker
from tasks_app.admin.pages import Page
from tasks_app.admin.processes import ALIVE, KINDS
from tasks_app.admin.texts import ago, lasting, shortened
from tasks_app.clock import DatabaseNow
from tasks_app.leases import node_of, prefix_of
from tasks_app.models import Deploy, Heartbeat, Outcome
from tasks_app.states import State

#: Processes and running outcomes that are shown at most.
PROCESSES, RUNS = 200, 500

#: Characters of a version that are shown.
SHORT_VERSION = 16

#: What is read of a running outcome: none of what may be large or secret.
COLUMNS = ("id", "task_name", "queue", "worker", "claimed_at", "lease_until", "attempt")


@dataclass(frozen=True, slots=True)
class Run:
    """An outcome that runs now, or that nobody has rescued yet."""

    row: Any
    #: Its worker is silent or unknown.
    is_orphan: bool
    address: str

    @property
    def since(self) -> str:
        return lasting(self.row.now - self.row.claimed_at)

    @property
    def fate(self) -> str:
        """Tell when an orphan's lease ends; whoever runs a relay rescues it then."""
        left = self.row.lease_until - self.row.now
        if left.total_seconds() <= 0:
            return "its lease has ended: a relay rescues it next"
        return f"its lease ends in {lasting(left)}, then it is rescued"


@dataclass(frozen=True, slots=True)
class Process:
    """A worker, relay or beat, as its heartbeat tells of it."""

    row: Any
    about: Mapping[str, Any]
    #: Version of the newest deploy; empty if there is none.
    newest: str
    runs: list[Run] = field(default_factory=list)

    @property
    def is_alive(self) -> bool:
        return bool(self.row.now - self.row.seen_at < ALIVE)

    @property
    def kind(self) -> str:
        return str(self.row.kind)

    @property
    def name(self) -> str:
        """Return what Celery calls a worker, or the whole name of any other process."""
        return node_of(self.row.name) or str(self.row.name)

    @property
    def seen(self) -> str:
        return ago(self.row.now - self.row.seen_at)

    @property
    def started_at(self) -> datetime | None:
        started: datetime | None = self.row.started_at
        return started

    @property
    def pool(self) -> str:
        pool, concurrency = self.about.get("pool"), self.about.get("concurrency")
        return f"{pool}, {concurrency}" if pool else ""

    @property
    def queues(self) -> str:
        return ", ".join(map(str, self.about.get("queues") or ()))

    @property
    def memory(self) -> str:
        return filesizeformat(self.about["memory"]) if "memory" in self.about else ""

    @property
    def version(self) -> str:
        return shortened(self.row.version, SHORT_VERSION)

    @property
    def is_outdated(self) -> bool:
        return bool(self.row.version and self.newest and self.row.version != self.newest)

    @property
    def flower(self) -> str | None:
        return flower_worker(self.name) if self.kind == "worker" else None


class Workers(Page):
    """One row per process; control of workers is left to Flower."""

    name = "workers"
    route = "workers/"
    title = "Workers"
    template = "admin/tasks_app/console/workers.html"

    def context(self, **named: Any) -> dict[str, Any]:
        processes = self._processes
        return {
            "processes": sorted(processes, key=_place),
            "strays": [run for run in self._runs if run.row.worker_prefix not in self._known],
            "has_measured": any(process.memory for process in processes),
            "is_cut": len(processes) == PROCESSES or len(self._runs) == RUNS,
            "missing": "" if any(self._known.values()) else KINDS["worker"][1],
        }

    @cached_property
    def _beats(self) -> list[Any]:
        rows = Heartbeat.objects.annotate(now=DatabaseNow()).order_by("-seen_at")
        return list(rows[:PROCESSES])

    @cached_property
    def _known(self) -> dict[str, bool]:
        """Return whether each known worker lives, by what the names of its processes begin with."""
        return {
            prefix_of(row.name): row.now - row.seen_at < ALIVE
            for row in self._beats
            if row.kind == "worker"
        }

    @cached_property
    def _runs(self) -> list[Run]:
        running = Outcome.objects.filter(state=State.RUNNING).only(*COLUMNS)
        rows: Any = running.annotate(now=DatabaseNow()).order_by("claimed_at")[:RUNS]
        return list(self._made(rows))

    def _made(self, rows: Any) -> Iterator[Run]:
        site = self.model_admin.admin_site.name
        for row in rows:
            row.worker_prefix = prefix_of(row.worker)
            address = reverse("admin:tasks_app_outcome_change", args=[row.pk], current_app=site)
            yield Run(row, not self._known.get(row.worker_prefix, False), address)

    @cached_property
    def _processes(self) -> list[Process]:
        newest = Deploy.objects.order_by("-first_seen_at").values_list("version", flat=True).first()
        by_worker: dict[str, list[Run]] = defaultdict(list)
        for run in self._runs:
            by_worker[run.row.worker_prefix].append(run)
        return [
            Process(
                row,
                json.loads(row.about_json),
                newest or "",
                by_worker[prefix_of(row.name)] if row.kind == "worker" else [],
            )
            for row in self._beats
        ]


def _place(process: Process) -> tuple[Any, ...]:
    """Sort by kind and name what lives; below it what is silent, the last one first."""
    if process.is_alive:
        return (0, process.kind != "worker", process.kind, process.name)
    return (1, -process.row.seen_at.timestamp(), process.name)
