"""
Masking: what a log line, an event, a message or a page may show of a call's arguments.

Names decide, at any depth: those of the task's `redact` option and those of `REDACT`. A task that
this process does not know is masked whole. Exception texts are scrubbed of the masked values.
"""

import inspect
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote, quote_plus

from tasks_app.conf import conf
from tasks_app.options import TaskOptions, declared

MASK = "***"

#: What every token for an outcome's status begins with, so that it is known in any text.
STATUS_TOKEN = "tasks-status-"  # noqa: S105 - no token, but how one is recognised
_STATUS_TOKENS = re.compile(rf"{STATUS_TOKEN}[\w.-]+")


class MaskedList(list[Any]):
    """A list that shows its masked form."""

    shown = MASK

    def __repr__(self) -> str:
        return self.shown


class MaskedDict(dict[str, Any]):
    """A dict that shows its masked form."""

    shown = MASK

    def __repr__(self) -> str:
        return self.shown


def guarded_arguments(
    task_name: str, args: list[Any], kwargs: dict[str, Any]
) -> tuple[list[Any], dict[str, Any]]:
    """Return equal arguments whose `repr` is masked, where anything is to be masked."""
    masked_args, masked_kwargs = mask_arguments(task_name, args, kwargs)
    if masked_args != args:
        guarded = MaskedList(args)
        guarded.shown = repr(masked_args)
        args = guarded
    if masked_kwargs != kwargs:
        guarded_dict = MaskedDict(kwargs)
        guarded_dict.shown = repr(masked_kwargs)
        kwargs = guarded_dict
    return args, kwargs


def mask_arguments(
    task_name: str, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> tuple[list[Any], dict[str, Any]]:
    """
    Return copies of the arguments in which every secret is replaced by `***`.

    Values under names that the helper does not know any more are masked too, where it has secrets:
    one of them may have had another name.
    """
    options = declared.get(task_name)
    if options is None:
        return [MASK] * len(args), dict.fromkeys(kwargs, MASK)
    names = options.secret_names
    if not names:
        return list(args), dict(kwargs)
    positional = _positional(options, args)
    masked_args = [
        MASK if not name or name in names else _mask(value, names) for name, value in positional
    ]
    known = _keyword_names(options.signature) or kwargs.keys()
    masked_kwargs = _mask({key: kwargs[key] if key in known else MASK for key in kwargs}, names)
    secrets = _secret_texts([*positional, *kwargs.items()], names)
    return scrub_leaves(masked_args, secrets), scrub_leaves(masked_kwargs, secrets)


def mask_result(task_name: str, args: Sequence[Any], kwargs: Mapping[str, Any], result: Any) -> Any:
    """Return a copy of a result without secret names' values and without the call's secrets."""
    options = declared.get(task_name)
    if options is None:
        return None if result is None else MASK
    secrets = secret_texts(task_name, args, kwargs)
    return scrub_leaves(_mask(result, options.secret_names), secrets)


def presentable_result(
    task_name: str, args: Sequence[Any], kwargs: Mapping[str, Any], result: Any
) -> Any:
    """Return what Celery may be told of a result, which it puts into its log and its events."""
    secrets = secret_texts(task_name, args, kwargs)
    options = declared.get(task_name)
    if options is None or not options.secret_names:
        return result
    try:
        masked = mask_result(task_name, args, kwargs, result)
        return masked if not secrets or is_clean(repr(masked), secrets) else MASK
    except Exception:  # noqa: BLE001 - a helper's result may be broken in any way
        return MASK


def secret_texts(task_name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[str]:
    """Return the texts of the secret values of a call, longest first, for `scrub`."""
    options = declared.get(task_name)
    if options is None or not options.secret_names:
        return []
    named = [*_positional(options, args), *kwargs.items()]
    return _secret_texts(named, options.secret_names)


def _positional(options: TaskOptions, args: Sequence[Any]) -> list[tuple[str, Any]]:
    """Return positional arguments with the names of their parameters."""
    return list(zip(positional_names(options.signature, len(args)), args, strict=True))


def _secret_texts(named: Iterable[tuple[str, Any]], names: frozenset[str]) -> list[str]:
    found: set[str] = set()
    for name, value in named:
        for leaf in _leaves(value) if name in names else _secret_leaves(value, names):
            found.update(_spellings(leaf))
    return sorted(found - {""}, key=len, reverse=True)


def secret_names() -> frozenset[str]:
    """Return every name that is redacted by the project or by a task that this process knows."""
    return frozenset(conf.REDACT).union(*(options.redact for options in declared.values()))


def is_clean(text: str, secrets: Iterable[str]) -> bool:
    """Tell whether a text holds none of the secrets."""
    return not any(secret in text for secret in secrets)


def scrub(text: str, secrets: Iterable[str]) -> str:
    """Return the text with every secret, and every token for a status, replaced by `***`."""
    for secret in secrets:
        text = text.replace(secret, MASK)
    return _STATUS_TOKENS.sub(MASK, text)


def scrub_leaves(value: Any, secrets: Sequence[str]) -> Any:
    """Return a copy of a value with every secret in it, at any depth, replaced by `***`."""
    if isinstance(value, Mapping):
        return {key: scrub_leaves(item, secrets) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [scrub_leaves(item, secrets) for item in value]
    if isinstance(value, str):
        return scrub(value, secrets)
    return MASK if str(value) in secrets else value


def positional_names(signature: inspect.Signature, count: int) -> Iterator[str]:
    """Yield the parameter of each of so many positional arguments; "" where there is none."""
    rest = ""
    names: list[str] = []
    for parameter in signature.parameters.values():
        if parameter.kind is parameter.VAR_POSITIONAL:
            rest = parameter.name
        elif parameter.kind in {parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD}:
            names.append(parameter.name)
    return iter((names + [rest] * count)[:count])


def _keyword_names(signature: inspect.Signature) -> set[str]:
    """Return the parameters of a helper; none where it takes keyword arguments of any name."""
    parameters = signature.parameters.values()
    is_open = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
    return set() if is_open else {parameter.name for parameter in parameters}


def _mask(value: Any, names: frozenset[str]) -> Any:
    if isinstance(value, Mapping):
        return {key: MASK if key in names else _mask(item, names) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_mask(item, names) for item in value]
    return value


def _spellings(value: Any) -> Iterator[str]:
    """Yield a secret as it may stand in a text: plain, quoted by Python or JSON, or in a URL."""
    text = str(value)
    yield text
    yield quote(text, safe="", errors="replace")
    yield quote_plus(text, errors="replace")
    if isinstance(value, str):
        yield repr(text)[1:-1]
        yield json.dumps(text)[1:-1]
    else:
        yield repr(value)


def _secret_leaves(value: Any, names: frozenset[str]) -> Iterator[Any]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _leaves(item) if key in names else _secret_leaves(item, names)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _secret_leaves(item, names)


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, Mapping):
        for item in value.values():
            yield from _leaves(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _leaves(item)
    elif value is not None and not isinstance(value, bool):
        yield value
