"""A glance at a helper's parameters says what `Signature.bind` says."""

from __future__ import annotations

import inspect

import pytest

from tasks_app.options import Parameters, TaskOptions


def nothing(): ...
def plain(a, b, c=3): ...
def named(a, *, b, c=3): ...
def open_ended(a, *args, **kwargs): ...
def unnamed(a, b=2, /): ...


CALLS = [
    ((), {}),
    ((1,), {}),
    ((1, 2), {}),
    ((1, 2, 3), {}),
    ((1, 2, 3, 4), {}),
    ((1,), {"b": 2}),
    ((1,), {"a": 1, "b": 2}),
    ((1, 2), {"a": 1}),
    ((), {"a": 1, "b": 2}),
    ((), {"a": 1, "b": 2, "c": 4}),
    ((), {"a": 1, "b": 2, "d": 4}),
    ((), {"b": 2}),
    ((1, 2), {"c": 4}),
    ((1, 2), {"d": 4}),
]


def bound_by_signature(signature, args, kwargs):
    bound = signature.bind(*args, **kwargs)
    bound.apply_defaults()
    return bound.arguments


def told(bind, *given):
    """Return what a binder makes of a call, or what it says is wrong."""
    try:
        return bind(*given)
    except TypeError as error:
        return str(error)


@pytest.mark.parametrize("helper", [nothing, plain, named, open_ended, unnamed])
@pytest.mark.parametrize(("args", "kwargs"), CALLS)
def test_it_places_what_the_signature_places(helper, args, kwargs):
    """The same arguments by the same names, or the same error."""
    signature = inspect.signature(helper)
    options = TaskOptions(signature=signature)
    assert told(options.bound, args, kwargs) == told(bound_by_signature, signature, args, kwargs)


@pytest.mark.parametrize("helper", [open_ended, unnamed])
def test_what_a_glance_cannot_tell_is_left_to_the_signature(helper):
    assert Parameters.of(inspect.signature(helper)) is None


def test_it_binds_a_common_call_by_itself(monkeypatch):
    """The signature is not asked about calls that fit at a glance."""
    options = TaskOptions(signature=inspect.signature(plain))
    monkeypatch.delattr(inspect.Signature, "bind")
    assert options.bound((1,), {"b": 2}) == {"a": 1, "b": 2, "c": 3}
