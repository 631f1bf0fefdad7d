"""Which broker: one must be named for production, and an embedded one has limits."""

import os
from typing import Any

from django.conf import settings

from tasks_app import filesystem
from tasks_app.celery import BROKER_VARIABLES, MADE, broker_folder
from tasks_app.checks.messages import Messages, listed, problem
from tasks_app.checks.project import (
    celery_app,
    celery_conf,
    database_alias,
    is_debug,
    plain_tasks,
)

#: What each broker without a server cannot do, by the scheme of its URL.
EMBEDDED = {
    filesystem.SCHEME: "only workers on this machine see its folder",
    "filesystem": "it reads half-written files and drops what a killed worker had taken",
    "memory": "no other process sees its messages",
}

#: Seconds that Redis and SQS wait before a message that is not acknowledged runs again.
DEFAULT_VISIBILITY = {"redis": 3600, "rediss": 3600, "sentinel": 3600, "sqs": 1800}


def check_broker_is_chosen(**kwargs: Any) -> Messages:
    """
    E004: no broker was named, and this is no development project.

    Remedy: `CELERY_BROKER_URL = "redis://localhost:6379/0"`, or one of the variables
    `CELERY_BROKER_URL`, `BROKER_URL`, `REDIS_URL`, `RABBITMQ_URL`.
    """
    conf = celery_conf()
    if is_debug() or conf.task_always_eager or _is_chosen(_url(conf)):
        return []
    embedded = filesystem.url(broker_folder() if database_alias() else filesystem.DEFAULT_FOLDER)
    return [
        problem(
            "E004",
            "DEBUG is off and no broker is named: calls would be announced to a broker that was "
            "guessed, and workers may wait at another one.",
            'CELERY_BROKER_URL = "redis://localhost:6379/0", or set one of the environment '
            f"variables {', '.join(BROKER_VARIABLES)}. For workers on this machine alone: "
            f'CELERY_BROKER_URL = "{embedded}"',
        )
    ]


def check_embedded_broker(**kwargs: Any) -> Messages:
    """
    W005: a broker without a server was chosen outside development.

    Remedy: `CELERY_BROKER_URL = "redis://localhost:6379/0"`.
    """
    url = _url(celery_conf())
    limit = EMBEDDED.get(_scheme(url))
    if is_debug() or limit is None or not _is_chosen(url):
        return []
    return [
        problem(
            "W005",
            f"The broker is {_scheme(url)}://, outside DEBUG: {limit}. Outcomes are not lost by "
            "that, since the relay rings again; plain Celery tasks are.",
            'CELERY_BROKER_URL = "redis://localhost:6379/0"',
        )
    ]


def check_visibility(**kwargs: Any) -> Messages:
    """
    W009: a late acknowledgement that comes after the broker gave the message to another worker.

    Only for plain Celery tasks: outcomes acknowledge early and are covered by their lease. A
    task's ETA is not known here.

    Remedy: a longer `visibility_timeout` in `CELERY_BROKER_TRANSPORT_OPTIONS`, or `TASKS_APP =
    {"ADOPT": True}`.
    """
    conf = celery_conf()
    patience = DEFAULT_VISIBILITY.get(_scheme(_url(conf)))
    if patience is None:
        return []
    patience = (conf.broker_transport_options or {}).get("visibility_timeout", patience)
    limits = {
        name: task.time_limit or task.soft_time_limit or 0
        for name, task in plain_tasks().items()
        if task.acks_late
    }
    late = [name for name, limit in limits.items() if limit >= patience]
    if not late:
        return []
    longest = max(limits[name] for name in late)
    return [
        problem(
            "W009",
            f"{listed(late)} may run longer than the broker's visibility timeout ({patience:g} s) "
            "and acknowledge late: the broker hands the message to a second worker meanwhile.",
            'CELERY_BROKER_TRANSPORT_OPTIONS = {"visibility_timeout": '
            f'{longest * 2:g}}}, or TASKS_APP = {{"ADOPT": True}}',
        )
    ]


def _url(conf: Any) -> str:
    return str(conf.broker_write_url or conf.broker_url or "")


def _scheme(url: str) -> str:
    return url.partition(":")[0].partition("+")[0]


def _is_chosen(url: str) -> bool:
    """Tell whether the project named this broker, rather than getting a default."""
    if celery_app().main != MADE:
        return bool(url)
    names = ("CELERY_BROKER_URL", "CELERY_BROKER_WRITE_URL")
    return any(getattr(settings, name, None) for name in names) or any(
        os.environ.get(name) for name in BROKER_VARIABLES
    )


CHECKS = (check_broker_is_chosen, check_embedded_broker, check_visibility)
