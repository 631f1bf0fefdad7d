"""
The public API as a user writes it: what a type checker has to know of every name.

`assert_type` is exact, and an error that is expected is marked as such, so mypy fails when a
declaration becomes narrower, wider, or `Any`.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, assert_type
from uuid import UUID

from celery.result import AsyncResult
from django.http import HttpRequest, HttpResponse

from tasks_app import (
    Discard,
    Retry,
    RetryPolicy,
    Snooze,
    accepted,
    current,
    every,
    own_request_id,
    periodic,
    request_id,
    status_token,
    status_url,
    task,
)
from tasks_app.exceptions import (
    ConfigurationError,
    IdempotencyConflict,
    InvalidArgument,
    LeaseLost,
    TaskCancelled,
    TaskFailed,
    TasksAppError,
)
from tasks_app.models import Attempt, Outcome, Progress
from tasks_app.periodic import Missed, Overlap, solar


def charge_card(order_id: int, *, card_token: str = "") -> str:
    """Stand for a helper that knows nothing of tasks."""
    return str(order_id) + card_token


charge = task(
    charge_card,
    idempotency_key="charge:{order_id}",
    retry=RetryPolicy(max_attempts=5, initial=1, retry_on=(OSError,), give_up_on=ValueError),
    timeout=30,
    soft_timeout=timedelta(seconds=20),
    queue="payments",
    priority=5,
    redact=["card_token"],
    about="shop.order:{order_id}",
    atomic=True,
)


@task
def send_receipt(order_id: int) -> None:
    """Decorate in place."""
    assert_type(current.outcome_id, UUID | None)
    assert_type(current.attempt, int | None)
    assert_type(current.idempotency_key, str | None)
    assert_type(current.request_id, str | None)
    assert_type(current.cancelled, bool)
    current.progress(1, total=2, message="half")
    current.raise_if_cancelled()
    if order_id == 1:
        raise Retry(after=1.5)
    if order_id == 2:
        raise Snooze(after=timedelta(minutes=1))
    raise Discard("nobody wants it")


@task(priority=9, expires=timedelta(days=1))
def count(words: list[str]) -> int:
    """Decorate with options."""
    return len(words)


@periodic("*/5 * * * *", tz="Europe/Berlin", missed=Missed.all(max=5), overlap=Overlap.SKIP)
@every(hours=1, jitter=30, missed="skip", name="hourly", args=[1])
@periodic(solar("sunset", 52.5, 13.4), name="at sunset")
@task
def check(order_id: int) -> str:
    """A task stays what it was when it runs by itself."""
    return str(order_id)


def calls() -> None:
    """A task is called like its helper, and each way in checks the arguments."""
    assert_type(charge(7, card_token="x"), str)
    assert_type(charge.helper(7), str)
    assert_type(check.enqueue(7), Outcome)
    periodic(None)  # type: ignore[arg-type]
    assert_type(count(["a"]), int)
    assert_type(charge.enqueue(7, card_token="x"), Outcome)
    assert_type(charge.enqueue_many([(7,), {"order_id": 8}]), list[UUID])
    assert_type(charge.delay(7), AsyncResult[Any])
    assert_type(charge.apply_async((7,), countdown=5), AsyncResult[Any])
    charge.enqueue("7")  # type: ignore[arg-type]
    charge.enqueue(7, token="x")  # type: ignore[call-arg]
    charge.enqueue()  # type: ignore[call-arg]
    charge("7")  # type: ignore[arg-type]


def calls_with_options(due: datetime) -> None:
    """`using` keeps the helper's signature."""
    chosen = charge.using(queue="slow", priority=1, run_after=due, expires=60)
    assert_type(chosen.enqueue(7), Outcome)
    assert_type(chosen.using(about=["shop.order:7"]).enqueue(7), Outcome)
    assert_type(chosen.using(idempotency_key="mine").enqueue_many([(7,)]), list[UUID])
    chosen.enqueue("7")  # type: ignore[arg-type]


async def coroutines() -> None:
    """The async names take and return the same."""
    assert_type(await charge.aenqueue(7), Outcome)
    assert_type(await charge.using(queue="slow").aenqueue(7), Outcome)
    await charge.aenqueue("7")  # type: ignore[arg-type]
    outcome = await count.aenqueue([])
    await outcome.arefresh()
    assert_type(await outcome.aget(timeout=5), Any)


def outcomes(outcome: Outcome) -> None:
    """What can be asked of an outcome and told to it."""
    assert_type(outcome.id, UUID)
    assert_type(outcome.task_name, str)
    assert_type(outcome.state, str)
    assert_type(outcome.args, list[Any])
    assert_type(outcome.kwargs, dict[str, Any])
    assert_type(outcome.attempt, int)
    assert_type(outcome.run_at, datetime)
    assert_type(outcome.finished_at, datetime | None)
    assert_type(outcome.request_id, str | None)
    assert_type(outcome.progress, Progress | None)
    assert_type(outcome.result, Any)
    assert_type(outcome.is_final, bool)
    assert_type(outcome.created, bool)
    assert_type(outcome.get(timeout=timedelta(seconds=5)), Any)
    assert_type(outcome.cancel(by="me", reason="not wanted"), bool)
    assert_type(outcome.replay(), Outcome)
    assert_type(outcome.run_now(), bool)
    assert_type(outcome.discard(by="me", reason="why"), bool)
    assert_type(outcome.move(queue="slow", priority=2), bool)
    assert_type(outcome.replay_of, Outcome | None)


def status(outcome: Outcome, request: HttpRequest) -> HttpResponse:
    """Who waits for an outcome is told where to look, and is given a token for it."""
    token = status_token(outcome, may_cancel=True, max_age=timedelta(hours=1))
    assert_type(token, str)
    assert_type(status_url(outcome.id, token), str)
    return accepted(outcome, request, token=token, retry_after=5)


def attempts(attempt: Attempt) -> None:
    """What is told of each run."""
    assert_type(attempt.number, int)
    assert_type(attempt.started_at, datetime)
    assert_type(attempt.traceback, str)


def errors(error: TasksAppError) -> str:
    """Each error says more in attributes of its own."""
    if isinstance(error, InvalidArgument):
        return error.path + error.remedy
    if isinstance(error, IdempotencyConflict | TaskCancelled | LeaseLost):
        assert_type(error.outcome_id, UUID | None)
    if isinstance(error, TaskFailed):
        return error.reason + error.error_type + error.error + error.traceback
    if isinstance(error, ConfigurationError):
        assert_type(request_id(), str | None)
        with own_request_id() as made:
            assert_type(made, str)
    return str(error)


def policies(policy: RetryPolicy) -> None:
    """A policy is a value."""
    assert_type(policy.delay(failures=1), timedelta)
    assert_type(policy.decide(ValueError(), failures=1), timedelta | None)


wrapped: Callable[[int], None] = send_receipt
