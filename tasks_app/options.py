"""
What a declaration says about a task: `task(helper, …)` turned into one frozen object.

`declared` maps every task name, aliases included, to its options: the path needs them where only
a name is known (masking arguments of a row, judging a lost run). Filled by `task.py` alone.
"""

import inspect
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import timedelta
from string import Formatter
from typing import Any, Self, cast

from tasks_app.conf import conf
from tasks_app.durations import as_timedelta
from tasks_app.exceptions import ConfigurationError
from tasks_app.retry import NO_RETRY, RetryPolicy
from tasks_app.suggestions import did_you_mean

DEFAULT_PRIORITY = 5
PRIORITIES = range(10)

#: Longest name of a queue and of a task, in characters: their columns' widths.
LONGEST_QUEUE, LONGEST_NAME = 128, 255

KeyMaker = str | Callable[..., str]

#: A format string `app_label.model:{pk}`, or what returns objects or such texts.
About = str | Callable[..., Any]

#: The form of a text that names an object.
NAMES_OBJECT = re.compile(r"(\w+\.\w+):(.+)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Parameters:
    """What a helper takes, where a caller may pass each by its name: a signature at a glance."""

    #: Those that may be passed by position, in their order.
    positional: tuple[str, ...]
    defaults: Mapping[str, Any]
    names: frozenset[str]

    @classmethod
    def of(cls, signature: inspect.Signature) -> Self | None:
        """Return a signature's parameters; None where some are open-ended or have no name."""
        each = signature.parameters.values()
        if any(p.kind not in {p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY} for p in each):
            return None
        return cls(
            tuple(p.name for p in each if p.kind is p.POSITIONAL_OR_KEYWORD),
            {p.name: p.default for p in each if p.default is not p.empty},
            frozenset(signature.parameters),
        )

    def bound(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return all arguments by name, defaults too; None where they do not seem to fit."""
        by_position = dict(zip(self.positional, args, strict=False))
        found = {**self.defaults, **by_position, **kwargs}
        is_fit = (
            len(by_position) == len(args)
            and found.keys() == self.names
            and (not kwargs or by_position.keys().isdisjoint(kwargs))
        )
        return found if is_fit else None


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskOptions:
    """
    All that `task()` accepts.

    Attributes:
        name: Stable name under which the task is registered; `module.function` by default.
        queue: Broker queue; None lets Celery's routes or its default queue decide.
        priority: 0 to 9, higher first.
        idempotency_key: Format string over the bound arguments, or a callable that gets them.
        retry: What happens after an exception; None fails at the first one.
        timeout: Hard limit of one attempt, seconds or timedelta.
        soft_timeout: Limit after which `SoftTimeLimitExceeded` is raised in the helper.
        expires: Age after which a pending outcome is not run any more.
        atomic: Commit the helper's writes together with `succeeded`; None means `ATOMIC`.
        redact: Names of arguments that are masked wherever they could be seen.
        max_result_bytes: Largest stored result; None means `MAX_RESULT_BYTES`.
        aliases: Former names, still answered by this task.
        about: Which object a call is about: a format string `app_label.model:{pk}` over the bound
            arguments, or a callable that gets them.
    """

    name: str | None = None
    queue: str | None = None
    priority: int = DEFAULT_PRIORITY
    idempotency_key: KeyMaker | None = None
    retry: RetryPolicy | None = None
    timeout: timedelta | None = None
    soft_timeout: timedelta | None = None
    expires: timedelta | None = None
    atomic: bool | None = None
    redact: frozenset[str] = frozenset()
    max_result_bytes: int | None = None
    aliases: tuple[str, ...] = ()
    about: About | None = None
    signature: inspect.Signature = field(default_factory=inspect.Signature)
    parameters: Parameters | None = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Look at the signature once: `Signature.bind` costs more than all else about a call."""
        object.__setattr__(self, "parameters", Parameters.of(self.signature))

    def bound(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Mapping[str, Any]:
        """
        Return a call's arguments by name, with the defaults of those that it leaves out.

        Raises:
            TypeError: they do not fit the helper's signature.
        """
        found = None if self.parameters is None else self.parameters.bound(args, kwargs)
        if found is not None:
            return found
        bound = self.signature.bind(*args, **kwargs)
        bound.apply_defaults()
        return bound.arguments

    @property
    def policy(self) -> RetryPolicy:
        return self.retry or NO_RETRY

    @property
    def is_atomic(self) -> bool:
        return conf.ATOMIC if self.atomic is None else self.atomic

    @property
    def secret_names(self) -> frozenset[str]:
        return self.redact.union(conf.REDACT)


#: Options by task name and alias, of every task declared or adopted in this process.
declared: dict[str, TaskOptions] = {}

_ACCEPTED = {f.name for f in fields(TaskOptions) if f.init} - {"signature"}


def read_options(given: Mapping[str, Any], signature: inspect.Signature) -> TaskOptions:
    """
    Check the keyword arguments of `task()` and return them as options.

    Raises:
        ConfigurationError: an unknown name (with the nearest known one) or an unusable value.
    """
    for name in given:
        if name not in _ACCEPTED:
            msg = f"Unknown task option {name!r}.{did_you_mean(name, _ACCEPTED)}"
            raise ConfigurationError(msg)
    values = {name: _READERS.get(name, _as_given)(name, value) for name, value in given.items()}
    options = TaskOptions(**values, signature=signature)
    _check_limits(options)
    _check_redact(options)
    _check_about(options)
    return options


def template_fields(template: str) -> list[str]:
    """Return the names of the arguments that a format string uses."""
    fields = (field for _, field, _, _ in Formatter().parse(template) if field is not None)
    return [field.partition(".")[0].partition("[")[0] for field in fields]


def read_priority(name: str, value: Any) -> int:
    """Return a priority from 0 to 9, or raise ConfigurationError naming the option."""
    if isinstance(value, bool) or not isinstance(value, int) or value not in PRIORITIES:
        msg = f"{name}={value!r}: a priority is a whole number from 0 to 9, higher first."
        raise ConfigurationError(msg)
    return value


def read_queue(name: str, value: Any) -> str:
    """Return a queue's name, or raise ConfigurationError naming the option."""
    return _printable(name, value, LONGEST_QUEUE)


def _as_given(name: str, value: Any) -> Any:
    return value


def _printable(name: str, value: Any, longest: int) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= longest or not value.isprintable():
        msg = f"{name}={value!r}: pass a text of 1 to {longest} printable characters."
        raise ConfigurationError(msg)
    return value


def _name(name: str, value: Any) -> str | None:
    return None if value is None else _printable(name, value, LONGEST_NAME)


def _queue(name: str, value: Any) -> str | None:
    return None if value is None else read_queue(name, value)


def _key_maker(name: str, value: Any) -> KeyMaker | None:
    if value is None or callable(value) or isinstance(value, str):
        return cast("KeyMaker | None", value)
    msg = f"{name}={value!r}: pass a format string over the arguments, or a callable."
    raise ConfigurationError(msg)


def _about(name: str, value: Any) -> About | None:
    is_text = isinstance(value, str) and NAMES_OBJECT.fullmatch(value)
    if value is None or callable(value) or is_text:
        return cast("About | None", value)
    msg = f"{name}={value!r}: pass a text such as 'shop.order:{{order_id}}', or a callable."
    raise ConfigurationError(msg)


def _switch(name: str, value: Any) -> bool | None:
    if value is None or isinstance(value, bool):
        return value
    msg = f"{name}={value!r}: pass True or False."
    raise ConfigurationError(msg)


def _size(name: str, value: Any) -> int | None:
    if value is None or (type(value) is int and value > 0):
        return value
    msg = f"{name}={value!r}: pass a whole number of bytes, at least 1."
    raise ConfigurationError(msg)


def _span_or_none(name: str, value: Any) -> timedelta | None:
    try:
        length = None if value is None else as_timedelta(value, name)
    except (TypeError, ValueError) as error:
        msg = str(error)
        raise ConfigurationError(msg) from error
    if length is not None and length <= timedelta(0):
        msg = f"{name}={value!r}: must be longer than zero."
        raise ConfigurationError(msg)
    return length


def _policy(name: str, value: Any) -> RetryPolicy | None:
    if value is None or isinstance(value, RetryPolicy):
        return value
    msg = f"{name}={value!r}: pass tasks_app.RetryPolicy(max_attempts=…)."
    raise ConfigurationError(msg)


def _texts(name: str, value: Iterable[str]) -> tuple[str, ...]:
    if isinstance(value, str) or not all(isinstance(item, str) for item in value):
        msg = f"{name}={value!r}: pass a list of strings."
        raise ConfigurationError(msg)
    return tuple(value)


def _text_set(name: str, value: Iterable[str]) -> frozenset[str]:
    return frozenset(_texts(name, value))


_READERS: Mapping[str, Callable[[str, Any], Any]] = {
    "name": _name,
    "queue": _queue,
    "priority": read_priority,
    "idempotency_key": _key_maker,
    "atomic": _switch,
    "max_result_bytes": _size,
    "retry": _policy,
    "timeout": _span_or_none,
    "soft_timeout": _span_or_none,
    "expires": _span_or_none,
    "redact": _text_set,
    "aliases": _texts,
    "about": _about,
}


def _check_limits(options: TaskOptions) -> None:
    hard, soft = options.timeout, options.soft_timeout
    if hard is not None and soft is not None and soft >= hard:
        msg = f"soft_timeout={soft} must be shorter than timeout={hard}."
        raise ConfigurationError(msg)


def _check_redact(options: TaskOptions) -> None:
    parameters = options.signature.parameters
    open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    for name in sorted(options.redact):
        if name not in parameters and not open_ended:
            hint = did_you_mean(name, parameters)
            msg = f"redact names {name!r}, which is no parameter of the helper.{hint}"
            raise ConfigurationError(msg)


def _check_about(options: TaskOptions) -> None:
    if not isinstance(options.about, str):
        return
    parameters = options.signature.parameters
    try:
        named = template_fields(options.about)
    except ValueError as error:
        msg = f"about={options.about!r} is no format string: {error}."
        raise ConfigurationError(msg) from error
    for name in named:
        if name not in parameters:
            hint = did_you_mean(name, parameters)
            msg = f"about names {name!r}, which is no parameter of the helper.{hint}"
            raise ConfigurationError(msg)
