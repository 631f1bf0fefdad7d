"""Who is compared: this project and its peers, and with what settings each of them runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Broker = Literal["redis", "rabbitmq", "none"]

#: What can be measured of a contestant; a peer without a worker of its own has no drain.
ENQUEUE, DRAIN, LATENCY = "enqueue", "drain", "latency"


@dataclass(frozen=True)
class Contestant:
    """
    One of those that are compared.

    Attributes:
        name: As tables and charts call it.
        key: As the command line calls it.
        module: Its module below `benchmarks`.
        says: With what settings it runs, in a few words.
        peer: Folder of `benchmarks/peers` whose environment it needs; empty for this project's.
        broker: The broker of its calls.
        pace: Calls per second that its workers end, about: what a drain's length is made of.
        is_celery: Whether `celery worker` is its worker, one with two processes. Else two
            processes do what its `work` does.
        has_bulk: Whether it can enqueue many calls at once.
        ended: SQL that counts the calls whose visible result says that they succeeded.
        variables: Further variables of its environment.
        measures: What is measured of it.
    """

    name: str
    key: str
    module: str
    says: str
    peer: str = ""
    broker: Broker = "redis"
    pace: int = 700
    is_celery: bool = True
    has_bulk: bool = False
    ended: str = ""
    variables: Mapping[str, str] = field(default_factory=dict)
    measures: frozenset[str] = frozenset({ENQUEUE, DRAIN, LATENCY})

    @property
    def command(self) -> tuple[str, ...]:
        """Arguments of Python that start a worker."""
        module = f"benchmarks.{self.module}"
        if not self.is_celery:
            return "-m", "benchmarks.turn", self.module, "work"
        pool = ("--pool", "prefork", "--concurrency", "2", "--loglevel", "WARNING")
        return "-m", "celery", "-A", module, "worker", *pool

    @property
    def workers(self) -> int:
        """How many such workers make two processes that run tasks."""
        return 1 if self.is_celery else 2


OWN = Contestant(
    name="tasks_app, Redis",
    key="own",
    module="this_app",
    says="as installed",
    has_bulk=True,
    ended="SELECT count(*) FROM tasks_app_outcome WHERE state = 'succeeded'",
)
OWN_RABBITMQ = Contestant(
    name="tasks_app, RabbitMQ",
    key="own-rabbitmq",
    module="this_app",
    says="as installed",
    broker="rabbitmq",
    ended=OWN.ended,
    measures=frozenset({DRAIN, LATENCY}),
)
CELERY = Contestant(
    name="Celery, Redis",
    key="celery",
    module="peers.celery.contestant",
    says="`ignore_result`, without Django",
    peer="celery",
)
CELERY_RABBITMQ = Contestant(
    name="Celery, RabbitMQ",
    key="celery-rabbitmq",
    module="peers.celery.contestant",
    says="`ignore_result`, publisher confirms, without Django",
    peer="celery",
    broker="rabbitmq",
    pace=1_500,
)
RESULTS = Contestant(
    name="django-celery-results",
    key="results",
    module="peers.results.contestant",
    says="as shipped, with `task_track_started` and `result_extended`; Redis",
    peer="results",
    pace=75,
    ended="SELECT count(*) FROM django_celery_results_taskresult WHERE status = 'SUCCESS'",
)
RESULTS_KEPT = Contestant(
    name="django-celery-results, kept connections",
    key="results-kept",
    module="peers.results.contestant",
    says="the same, `CONN_MAX_AGE = None`, and Celery kept from closing connections; Redis",
    peer="results",
    pace=230,
    ended=RESULTS.ended,
    variables={"BENCHMARK_KEEPS_CONNECTIONS": "1"},
    measures=frozenset({DRAIN, LATENCY}),
)
PROCRASTINATE = Contestant(
    name="Procrastinate",
    key="procrastinate",
    module="peers.procrastinate.contestant",
    says="Django app, coroutines, `listen_notify`, `concurrency=1`",
    peer="procrastinate",
    broker="none",
    pace=300,
    is_celery=False,
    has_bulk=True,
    ended="SELECT count(*) FROM procrastinate_jobs WHERE status = 'succeeded'",
)
PROCRASTINATE_TEN = Contestant(
    name="Procrastinate, ten at once",
    key="procrastinate-ten",
    module=PROCRASTINATE.module,
    says="the same with `concurrency=10`: up to twenty calls at once, where the others have two",
    peer="procrastinate",
    broker="none",
    pace=400,
    is_celery=False,
    ended=PROCRASTINATE.ended,
    variables={"BENCHMARK_CONCURRENCY": "10"},
    measures=frozenset({DRAIN}),
)
DJANGO_TASKS_DB = Contestant(
    name="django-tasks-db",
    key="django-tasks-db",
    module="peers.django_tasks_db.contestant",
    says="`CONN_MAX_AGE = None`, `--interval 0.02`",
    peer="django_tasks_db",
    broker="none",
    pace=400,
    is_celery=False,
    ended="SELECT count(*) FROM django_tasks_database_dbtaskresult WHERE status = 'SUCCESSFUL'",
)
OUTBOX = Contestant(
    name="django-celery-outbox",
    key="outbox",
    module="peers.outbox.contestant",
    says="`CONN_MAX_AGE = None`",
    peer="outbox",
    measures=frozenset({ENQUEUE}),
)

LINEUP = (
    OWN,
    OWN_RABBITMQ,
    CELERY,
    CELERY_RABBITMQ,
    RESULTS,
    RESULTS_KEPT,
    PROCRASTINATE,
    PROCRASTINATE_TEN,
    DJANGO_TASKS_DB,
    OUTBOX,
)
