"""
`task()`: a plain helper function becomes a registered Celery task with outcomes.

The helper stays what it was: calling the task calls it. `.enqueue` and all of Celery's own ways
in (`.delay`, `.apply_async`, signatures, canvas) lead to the same `enqueue.py`.
"""

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import cache
from typing import Any, Generic, ParamSpec, TypeVar, cast, overload
from uuid import UUID

from asgiref.sync import async_to_sync, iscoroutinefunction, sync_to_async
from celery import current_app, shared_task
from celery import exceptions as celery_exceptions
from celery.contrib.django.task import DjangoTask
from celery.result import AsyncResult

from tasks_app import context, outcomes, worker
from tasks_app import enqueue as outbox_side
from tasks_app.calls import Call, CallOptions
from tasks_app.canvas import kept_canvas
from tasks_app.exceptions import ConfigurationError, InvalidArgument
from tasks_app.leases import worker_name
from tasks_app.models import Outcome
from tasks_app.options import TaskOptions, declared, read_options
from tasks_app.retry import RetryPolicy
from tasks_app.runs import running
from tasks_app.suggestions import did_you_mean
from tasks_app.turns import in_turn

P = ParamSpec("P")
R = TypeVar("R")

#: Dotted paths of the helpers declared under each name; more than one is `tasks_app.E033`.
declared_by: dict[str, set[str]] = {}

#: What `using()` accepts.
USING = ("queue", "priority", "run_after", "idempotency_key", "expires", "owner", "about")


class OutcomeTask(DjangoTask, Generic[P, R]):  # type: ignore[type-arg]  # generic in the stub alone
    """A Celery task whose every call has an outcome."""

    abstract = True
    Request = "tasks_app.requests:OutcomeRequest"
    # The row's lease covers what a late acknowledgement would, without its duplicates.
    acks_late = False
    track_started = False

    _trace: Any = None

    #: What the declaration said.
    options: TaskOptions
    #: The plain function.
    helper: Callable[P, R]

    @property
    def __trace__(self) -> Any:
        """What Celery's pool calls for each message; the worker that builds it sets it."""
        return self._trace

    @__trace__.setter
    def __trace__(self, trace: Any) -> None:
        self._trace = None if trace is None else in_turn(trace)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the helper; as Celery's worker, answer the message instead."""
        request: Any = self.request_stack.top
        if request is None or request.called_directly or getattr(request, "is_answered", False):
            return cast("R", self.run(*args, **kwargs))
        request.is_answered = True
        if request.is_eager:
            with context.some_request_id():
                return cast("R", _awaited(self.run)(*args, **kwargs))
        return cast("R", worker.answer(self.name, self.options, self.run, request))

    def enqueue(self, *args: P.args, **kwargs: P.kwargs) -> Outcome:
        """
        Record the wish to run the helper: one row in the current transaction, no network.

        Raises:
            TypeError: the arguments do not fit the helper.
            InvalidArgument: a value is not JSON or would not come back identical.
            IdempotencyConflict: the idempotency key belongs to a call with other arguments.
        """
        return self._enqueue(args, kwargs, CallOptions())

    async def aenqueue(self, *args: P.args, **kwargs: P.kwargs) -> Outcome:
        """Do what `enqueue` does, from a coroutine."""
        return await sync_to_async(self.enqueue)(*args, **kwargs)

    def enqueue_many(self, calls: Iterable[Sequence[Any] | Mapping[str, Any]]) -> list[UUID]:
        """
        Record many calls in one atomic bulk write.

        Args:
            calls: For each call a tuple of positional or a dict of keyword arguments.

        Returns:
            The outcomes' ids, in the order of the calls.
        """
        return self.using().enqueue_many(calls)

    def using(self, **options: Any) -> "Using[P, R]":
        """
        Return this task with other options for the calls made through it.

        Args:
            options: `queue, priority, run_after, idempotency_key, expires, owner, about`.

        Raises:
            ConfigurationError: an unknown option; the nearest known one is named.
        """
        return Using(self, CallOptions()).using(**options)

    def apply_async(  # noqa: PLR0913, PLR0917 - Celery's signature
        self,
        args: Any = None,
        kwargs: Any = None,
        task_id: Any = None,
        producer: Any = None,
        link: Any = None,
        link_error: Any = None,
        shadow: Any = None,
        **options: Any,
    ) -> "AsyncResult[Any]":
        """Enqueue, and return Celery's handle on the outcome: the same id."""
        if self.name.startswith("celery."):
            return super().apply_async(
                args, kwargs, task_id, producer, link, link_error, shadow, **options
            )
        call = _celery_options({**options, "link": link, "link_error": link_error}, task_id)
        outcome = self._enqueue(args or (), kwargs or {}, call)
        return self.AsyncResult(str(outcome.id))

    def apply(self, *args: Any, **kwargs: Any) -> Any:
        """Do what Celery's `apply` does, and leave the ids of whoever called as they were."""
        with context.some_request_id():
            return super().apply(*args, **kwargs)

    def retry(  # noqa: PLR0913, PLR0917 - Celery's signature
        self,
        args: Any = None,
        kwargs: Any = None,
        exc: Any = None,
        throw: bool = True,  # noqa: FBT001, FBT002 - Celery's signature
        eta: Any = None,
        countdown: Any = None,
        max_retries: Any = None,
        **options: Any,
    ) -> Any:
        """Do what Celery's `retry` does; the row waits instead of a new message."""
        request, run = self.request, running()
        if run is None or request.called_directly or request.is_eager:
            return super().retry(args, kwargs, exc, throw, eta, countdown, max_retries, **options)
        _refuse_other_arguments(run.outcome, args, kwargs)
        limit = self.max_retries if max_retries is None else max_retries
        if limit is not None and request.retries + 1 > limit:
            raise exc or self.MaxRetriesExceededError(f"{run.outcome} was retried {limit} times.")
        if eta is None and countdown is None:
            countdown = self.default_retry_delay
        error = celery_exceptions.Retry(exc=exc, when=eta or countdown)
        if throw:
            raise error
        return error

    def replace(self, sig: Any) -> Any:
        """Refuse: an outcome keeps its task and its arguments."""
        msg = (
            f"{self.name} cannot replace itself: an outcome keeps its task. Enqueue {sig!r} as a "
            "child, or make it the next step of a chain."
        )
        raise ConfigurationError(msg)

    def _enqueue(self, args: Any, kwargs: Any, options: CallOptions) -> Outcome:
        outcome = outbox_side.enqueue(Call(self.name, self.options, args, kwargs, options))
        if self.app.conf.task_always_eager and outcome.created:
            self._run_here(outcome)
        return outcome

    def _run_here(self, outcome: Outcome) -> None:
        """Run an outcome at once, in this process and transaction: `task_always_eager`."""
        while not outcome.is_final:
            outcomes.run_now(outcome.id)
            claimed = outcomes.claim(outcome.id, frozenset({self.name}), worker_name())
            if claimed is None:
                break
            try:
                worker.execute(claimed, self.options, self.run, durable=False)
            except (celery_exceptions.Retry, celery_exceptions.Ignore):
                pass
            except Exception:
                if self.app.conf.task_eager_propagates:
                    raise
            outcome.refresh()


@dataclass(frozen=True, slots=True)
class Using(Generic[P, R]):
    """A task with options for the calls made through it; made by `OutcomeTask.using`."""

    task: OutcomeTask[P, R]
    options: CallOptions

    def using(self, **options: Any) -> "Using[P, R]":
        """Return a copy with further options."""
        for name in options:
            if name not in USING:
                msg = f"Unknown call option {name!r}.{did_you_mean(name, USING)}"
                raise ConfigurationError(msg)
        return Using(self.task, replace(self.options, **options))

    def enqueue(self, *args: P.args, **kwargs: P.kwargs) -> Outcome:
        """See `OutcomeTask.enqueue`."""
        return self.task._enqueue(args, kwargs, self.options)  # noqa: SLF001 - the task's other half

    async def aenqueue(self, *args: P.args, **kwargs: P.kwargs) -> Outcome:
        """See `OutcomeTask.enqueue`."""
        return await sync_to_async(self.enqueue)(*args, **kwargs)

    def enqueue_many(self, calls: Iterable[Sequence[Any] | Mapping[str, Any]]) -> list[UUID]:
        """See `OutcomeTask.enqueue_many`."""
        name, options = self.task.name, self.task.options
        given = [_arguments(call) for call in calls]
        if self.task.app.conf.task_always_eager:
            write = self.task._enqueue  # noqa: SLF001 - the task's other half
            with context.some_request_id():
                return [write(*arguments, self.options).id for arguments in given]
        return outbox_side.enqueue_many(name, options, given, self.options)


class AdoptedTask(OutcomeTask[..., Any]):
    """The base of existing Celery tasks when `TASKS_APP["ADOPT"]` is true."""

    abstract = True
    _options: TaskOptions | None = None

    @property
    def helper(self) -> Callable[..., Any]:  # type: ignore[override]
        return self.run

    @property
    def options(self) -> TaskOptions:  # type: ignore[override]
        if self._options is None:
            self._options = _adopted_options(self)
            declared[self.name] = self._options
        return self._options

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self.name.startswith("celery."):
            return self.run(*args, **kwargs)
        return super().__call__(*args, **kwargs)


@overload
def task(helper: Callable[P, R], /, **options: Any) -> OutcomeTask[P, R]: ...
@overload
def task(**options: Any) -> Callable[[Callable[P, R]], OutcomeTask[P, R]]: ...


def task(helper: Any = None, /, **options: Any) -> Any:
    """
    Wrap a helper as a Celery task whose calls have outcomes; also a decorator.

    Args:
        helper: A plain function or coroutine function.
        options: See `tasks_app.options.TaskOptions`.

    Raises:
        ConfigurationError: an unknown option or an unusable value.
    """
    if helper is None:
        return lambda function: task(function, **options)
    if not inspect.isfunction(helper) or not helper.__name__.isidentifier():
        msg = f"task() wraps plain functions made with def; {helper!r} is none."
        raise ConfigurationError(msg)
    read = read_options(options, inspect.signature(helper))
    name = read.name or f"{helper.__module__}.{helper.__qualname__}"
    read = replace(read, name=name)
    registered = _register(helper, name, read)
    for alias in (name, *read.aliases):
        declared[alias] = read
        declared_by.setdefault(alias, set()).add(f"{helper.__module__}.{helper.__qualname__}")
    for alias in read.aliases:
        _register(helper, alias, replace(read, aliases=(*read.aliases, name)))
    return registered


def _register(helper: Callable[..., Any], name: str, options: TaskOptions) -> Any:
    return shared_task(  # type: ignore[call-overload]  # the base's own options are unknown to it
        name=name,
        base=OutcomeTask,
        options=options,
        helper=staticmethod(helper),
        __signature__=options.signature,
        time_limit=_seconds(options.timeout),
        soft_time_limit=_seconds(options.soft_timeout),
    )(helper)


def replay(outcome: Outcome, by: Any = None) -> Outcome:
    """Enqueue a final outcome's call again; see `enqueue.replay`."""
    return outbox_side.replay(outcome, task_options(outcome.task_name), by)


@cache
def load_tasks() -> None:
    """Import the modules in which Celery looks for tasks, once per process."""
    current_app.loader.import_default_modules()


def task_options(task_name: str) -> TaskOptions:
    """
    Return the declaration of a task by name.

    Raises:
        ConfigurationError: no task of that name is registered in this process.
    """
    if task_name not in declared:
        load_tasks()
    registered = current_app.tasks.get(task_name)
    if task_name not in declared and isinstance(registered, OutcomeTask):
        return registered.options
    if task_name not in declared:
        hint = did_you_mean(task_name, declared)
        msg = f"No task {task_name!r} is registered here.{hint}"
        raise ConfigurationError(msg)
    return declared[task_name]


def place_of(task_name: str) -> str:
    """Return where a task's helper stands, as `module:line`; empty where that is not known."""
    helper = getattr(current_app.tasks.get(task_name), "helper", None)
    try:
        code = inspect.unwrap(helper).__code__  # type: ignore[arg-type]
    except (AttributeError, TypeError, ValueError):
        return ""
    return f"{inspect.unwrap(helper).__module__}:{code.co_firstlineno}"  # type: ignore[arg-type]


def _awaited(helper: Callable[..., Any]) -> Callable[..., Any]:
    return async_to_sync(helper) if iscoroutinefunction(helper) else helper


def _arguments(call: Any) -> tuple[Sequence[Any], Mapping[str, Any]]:
    if isinstance(call, list | tuple):
        return call, {}
    if isinstance(call, Mapping):
        return (), call
    kind = type(call).__name__
    msg = (
        f"A call of type {kind}: give each as a tuple of positional or a dict of keyword arguments."
    )
    raise InvalidArgument(msg)


def _celery_options(options: Mapping[str, Any], task_id: Any) -> CallOptions:
    """Translate what `apply_async` accepts; transport options mean nothing to a row."""
    hard, soft = options.get("time_limit"), options.get("soft_time_limit")
    kept = {**kept_canvas(options), "headers": options.get("headers")}
    if hard is not None or soft is not None:
        kept["limits"] = [hard, soft]
    queue = options.get("queue")
    countdown = options.get("countdown")
    return CallOptions(
        queue=getattr(queue, "name", queue),
        priority=options.get("priority"),
        run_after=options.get("eta") if countdown is None else max(countdown, 0),
        expires=options.get("expires"),
        task_id=task_id,
        root_id=options.get("root_id"),
        parent_id=options.get("parent_id"),
        group_id=options.get("group_id"),
        group_index=options.get("group_index"),
        kept=kept,
    )


def _refuse_other_arguments(outcome: Outcome, args: Any, kwargs: Any) -> None:
    if (args is not None and list(args) != outcome.args) or (
        kwargs is not None and dict(kwargs) != outcome.kwargs
    ):
        msg = f"{outcome} keeps its arguments over all attempts; enqueue a new call instead."
        raise InvalidArgument(msg)


def _adopted_options(adopted: AdoptedTask) -> TaskOptions:
    retries = adopted.max_retries
    return TaskOptions(
        name=adopted.name,
        signature=inspect.signature(adopted.run),
        atomic=False,
        # Celery's own retry decides; the policy only sets how often `Retry` may be raised.
        retry=RetryPolicy(
            max_attempts=(retries if retries is not None else 10**6) + 1, retry_on=()
        ),
        timeout=_span(adopted.time_limit),
        soft_timeout=_span(adopted.soft_time_limit),
    )


def _seconds(span: timedelta | None) -> float | None:
    return None if span is None else span.total_seconds()


def _span(seconds: float | None) -> timedelta | None:
    return None if seconds is None else timedelta(seconds=seconds)
