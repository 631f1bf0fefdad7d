"""
Plain Celery tasks: what they lack while they bypass this app.

Outcomes acknowledge early under a lease, commit with the caller and await coroutines, so none of
these traps is theirs; only the missing time limit concerns every task.
"""

from typing import Any

from asgiref.sync import iscoroutinefunction
from celery import Task
from django.db import connections

from tasks_app.checks.messages import Messages, listed, problem
from tasks_app.checks.project import celery_conf, loaded_tasks, plain_tasks

ADOPT = 'TASKS_APP = {"ADOPT": True}'


def check_lost_workers(**kwargs: Any) -> Messages:
    """
    W010: late acknowledgement that still loses the message when the worker is killed.

    Remedy: `CELERY_TASK_REJECT_ON_WORKER_LOST = True`, or `TASKS_APP = {"ADOPT": True}`.
    """
    names = [n for n, t in plain_tasks().items() if t.acks_late and not t.reject_on_worker_lost]
    if not names:
        return []
    return [
        problem(
            "W010",
            f"{listed(names)}: acks_late without reject_on_worker_lost; when the worker process is "
            "killed, the message is acknowledged as failed and never runs again.",
            f"CELERY_TASK_REJECT_ON_WORKER_LOST = True, or {ADOPT}",
        )
    ]


def check_atomic_requests(**kwargs: Any) -> Messages:
    """
    W020: requests run in a transaction, and plain tasks start before it commits.

    Remedy: `TASKS_APP = {"ADOPT": True}`, or call `.delay_on_commit()`.
    """
    in_transaction = [a for a, d in connections.settings.items() if d.get("ATOMIC_REQUESTS")]
    names = plain_tasks()
    if not in_transaction or not names:
        return []
    return [
        problem(
            "W020",
            f"ATOMIC_REQUESTS is on for {listed(in_transaction)}, but {listed(names)} bypass the "
            "outbox: their `.delay` publishes before the commit, so they run without the rows "
            "they need, and after a rollback too.",
            f"{ADOPT}, or call .delay_on_commit()",
        )
    ]


def check_coroutines(**kwargs: Any) -> Messages:
    """
    W024: a coroutine function that its task class calls without awaiting.

    Remedy: `@task` of this app instead of `@shared_task`, or `TASKS_APP = {"ADOPT": True}`.
    """
    names = [
        name
        for name, task in plain_tasks().items()
        if iscoroutinefunction(task.run) and type(task).__call__ is Task.__call__
    ]
    if not names:
        return []
    return [
        problem(
            "W024",
            f"{listed(names)}: `async def`, which Celery calls but does not await: the task "
            "succeeds without having run.",
            f"from tasks_app import task, and @task instead of @shared_task; or {ADOPT}",
        )
    ]


def check_limits(**kwargs: Any) -> Messages:
    """
    W011 (deploy): a task that may hang for ever, and hold its worker's place.

    Remedy: `CELERY_TASK_TIME_LIMIT = 1800`, or `task(…, timeout=1800)`.
    """
    if celery_conf().task_time_limit:
        return []
    names = [name for name, task in loaded_tasks().items() if not _has_limit(task)]
    if not names:
        return []
    return [
        problem(
            "W011",
            f"{listed(names)}: no time limit; a helper that hangs holds its place in the worker "
            "for ever, since its lease is renewed as long as the process lives.",
            "CELERY_TASK_TIME_LIMIT = 1800, or task(…, timeout=1800)",
        )
    ]


def _has_limit(task: Any) -> bool:
    options = getattr(task, "options", None)
    return bool(task.time_limit or getattr(options, "timeout", None))


CHECKS = (check_lost_workers, check_atomic_requests, check_coroutines)
DEPLOY_CHECKS = (check_limits,)
