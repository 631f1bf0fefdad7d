"""
What a call may carry, on the database of the run: the table of the documentation, row by row.

The words of each refusal are `tests/unit/test_arguments.py`'s; here the value goes into the row
and comes back as the worker hands it to the helper, and a refusal costs the caller nothing.
"""

from __future__ import annotations

import datetime as dt
import math
import re
from decimal import Decimal
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from django.contrib.auth.models import User
from django.core.exceptions import ImproperlyConfigured
from django.db import transaction
from django.http import QueryDict

from tasks_app import task
from tasks_app.exceptions import InvalidArgument
from tasks_app.models import Outcome
from tests import by_hand
from tests.integration.command_line import claimed
from tests.testapp.models import Effect

pytestmark = pytest.mark.django_db

#: A run commits, so it needs a test without a transaction around it.
runs = pytest.mark.django_db(transaction=True)

#: What helpers were called with.
RECEIVED: list[object] = []

#: Bytes that a list of one text and an empty dictionary take beside the text.
AROUND_ONE_TEXT = len('[""]{}')

LIMIT = 65_536
PARIS = ZoneInfo("Europe/Paris")


@task
def receive(value, *, again=None):
    """Keep what arrives and return it."""
    RECEIVED[:] = [value, again]
    return value


def nested(depth):
    """Return lists inside one another."""
    value = []
    for _ in range(depth - 1):
        value = [value]
    return value


def same(left, right):
    """
    Tell whether two values are of the same types and look the same all the way down.

    An aware datetime keeps its offset, hence its moment and its wall clock, not its zone's name.
    """
    if isinstance(left, dt.datetime):
        left, right = left.isoformat(), right.isoformat()
    return type(left) is type(right) and repr(left) == repr(right)


ACCEPTED = {
    "None": None,
    "true": True,
    "false": False,
    "zero": 0,
    "the largest integer": 2**63 - 1,
    "the smallest integer": -(2**63),
    "a float that is a whole number": 1.0,
    "negative zero": -0.0,
    "a tenth": 0.1,
    "a float that jsonb would rewrite": 1e22,
    "the largest float": 1.7976931348623157e308,
    "the smallest float": 5e-324,
    "an empty text": "",
    "a text in many scripts": "Zürich Αθήνα Київ 東京 ✈ 𝄞 e\u0301",
    "a text of separators": "\t\r\n\x0b\x1f\x7f\x85\u2028\u2029\ufeff",
    "a text that looks escaped": "\\u0000 \\ \" ' %s {} `",
    "trailing blanks": "blank  ",
    "a text as long as allowed": "x" * (LIMIT - AROUND_ONE_TEXT),
    "an empty list": [],
    "a list of everything": [None, True, 1, 1.0, "1", [], {}],
    "an empty dictionary": {},
    "a dictionary in its own order": {"z": 1, "a": {"": [2]}, "A": 3, "ключ": 4},
    "a dictionary like a tagged value": {"__type__": "datetime", "__value__": "x", "more": 1},
    "32 containers": nested(32),
    "a naive datetime": dt.datetime(2026, 11, 3, 4, 5, 6, 7),  # noqa: DTZ001
    "a datetime in UTC": dt.datetime(2026, 11, 3, 4, 5, 6, 7, tzinfo=dt.UTC),
    "a datetime in a zone": dt.datetime(2026, 7, 1, 12, tzinfo=PARIS),
    "a datetime that occurs twice": dt.datetime(2026, 10, 25, 2, 30, fold=1, tzinfo=PARIS),
    "the first date": dt.date.min,
    "the last date": dt.date.max,
    "a time": dt.time(23, 59, 59, 999_999),
    "a negative span": dt.timedelta(microseconds=-1),
    "the longest span": dt.timedelta.max,
    "a Decimal with its zeros": Decimal("1.100"),
    "a Decimal beyond a float": Decimal("12345678901234567890.123456789"),
    "a small Decimal": Decimal("1E-50"),
    "a UUID": UUID("0193b0a1-5b3c-7c63-8d2e-6a1f8e0f3c11"),
}


@runs
@pytest.mark.parametrize("name", ACCEPTED)
def test_what_is_accepted_arrives_as_it_was_given(name):
    """The helper gets the same value of the same type, and so does who reads the outcome."""
    value = ACCEPTED[name]
    outcome = receive.enqueue(value)
    by_hand.run(claimed(outcome))
    outcome.refresh()
    assert same(RECEIVED[0], value)
    assert len(outcome.args) == 1
    assert same(outcome.args[0], value)
    assert same(outcome.kwargs, {})
    assert same(outcome.result, value)


@runs
@pytest.mark.parametrize("name", ["a datetime in UTC", "a dictionary in its own order"])
def test_every_way_in_keeps_the_value(name):
    """By position and by name, one by one and many at once, through Celery's own calls too."""
    value = ACCEPTED[name]
    ids = [
        receive.enqueue(value, again=value).pk,
        *receive.enqueue_many([(value,), {"value": value, "again": value}]),
        receive.delay(value).id,
        receive.apply_async((value,), {"again": value}).id,
        receive.s(value).delay().id,
    ]
    for outcome in Outcome.objects.filter(pk__in=ids):
        by_hand.run(claimed(outcome))
        assert same(RECEIVED[0], value)
        assert RECEIVED[1] is None or same(RECEIVED[1], value)


@runs
def test_a_tuple_arrives_as_a_list():
    """The one change of type there is."""
    by_hand.run(claimed(receive.enqueue((1, (2, "3")), again={"pair": (4, 5)})))
    assert same(RECEIVED, [[1, [2, "3"]], {"pair": [4, 5]}])


REFUSED = {
    "a model instance": (lambda: User(pk=1), r"User: pass its pk"),
    "a query set": (User.objects.all, r"QuerySet: pass list\("),
    "a set": (lambda: {1}, r"set: pass a list"),
    "bytes": (lambda: b"x", r"bytes: pass base64 text"),
    "a query dictionary": (lambda: QueryDict("a=1"), r"QueryDict: pass value\.dict\(\)"),
    "an object": (object, r"object: pass its id"),
    "an exception": (lambda: ImproperlyConfigured("x"), r"ImproperlyConfigured: pass str\(error\)"),
    "NaN": (lambda: math.nan, r"float: pass a finite number"),
    "infinity": (lambda: math.inf, r"float: pass a finite number"),
    "negative infinity": (lambda: -math.inf, r"float: pass a finite number"),
    "a Decimal that is none": (lambda: Decimal("NaN"), r"Decimal: pass a finite Decimal"),
    "a lone surrogate": (lambda: "\ud83d", r"str: pass text without lone surrogates"),
    "NUL": (lambda: "a\0b", r"str: pass text without NUL"),
    "an integer of 65 bits": (lambda: 2**63, r"int: pass it as text"),
    "a negative integer of 65 bits": (lambda: -(2**63) - 1, r"int: pass it as text"),
    "keys that are no text": (lambda: {1: 2}, r"has a key of type int: pass str keys"),
    # Two of them are those that the value is put into.
    "33 containers": (lambda: nested(31), r"list: pass at most 32 containers"),
}

#: Where each is put, and how the message calls that place.
PLACES = {
    "args[0].items[3]": lambda value: (({"items": [0, 1, 2, value]},), {}),
    "kwargs.again['a b'][1]": lambda value: ((0,), {"again": {"a b": [0, value]}}),
}

WAYS = {
    "enqueue": lambda args, kwargs: receive.enqueue(*args, **kwargs),
    "using": lambda args, kwargs: receive.using(queue="other").enqueue(*args, **kwargs),
    "enqueue_many": lambda args, kwargs: receive.enqueue_many([(0,), kwargs or args]),
    "delay": lambda args, kwargs: receive.delay(*args, **kwargs),
    "apply_async": receive.apply_async,
}


def refused_inside_a_transaction(enqueue):
    """Return the refusal of a call; the transaction that it was made in goes on and commits."""
    with transaction.atomic():
        Effect.objects.create(note="before")
        with pytest.raises(InvalidArgument) as caught:
            enqueue()
        Effect.objects.create(note="after")
        receive.enqueue("after")
    assert Effect.objects.count() == 2
    assert Outcome.objects.get().args == ["after"]
    return caught.value


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_names_place_type_and_remedy(name):
    """The call raises, no row is left, and the caller's transaction stays usable."""
    make, words = REFUSED[name]
    args, kwargs = PLACES["args[0].items[3]"](make())
    error = refused_inside_a_transaction(lambda: receive.enqueue(*args, **kwargs))
    assert error.path.startswith("args[0].items[3]")
    assert str(error).startswith(error.path)
    assert re.search(words, str(error))
    assert error.remedy in str(error)


@pytest.mark.parametrize("way", WAYS)
def test_every_way_in_refuses_alike(way):
    """Whoever calls by Celery's names gets the same error at the same moment."""
    args, kwargs = PLACES["args[0].items[3]"]({1})
    error = refused_inside_a_transaction(lambda: WAYS[way](args, kwargs))
    assert (error.path, error.remedy) == ("args[0].items[3]", "pass a list")


def test_keyword_arguments_are_named_by_their_path():
    """A path reads like the expression that one would type."""
    args, kwargs = PLACES["kwargs.again['a b'][1]"]({1})
    error = refused_inside_a_transaction(lambda: receive.enqueue(*args, **kwargs))
    assert error.path == "kwargs.again['a b'][1]"


def test_one_byte_too_many_is_refused():
    """The limit counts both JSON texts of the call."""
    value = "x" * (LIMIT - AROUND_ONE_TEXT + 1)
    error = refused_inside_a_transaction(lambda: receive.enqueue(value))
    assert str(error) == (
        "args and kwargs take more than 65536 bytes as JSON: store the data and pass its key."
    )


def test_the_limit_is_a_setting(settings):
    """What is too large is the project's to say."""
    settings.TASKS_APP = {"MAX_ARGUMENT_BYTES": 20}
    error = refused_inside_a_transaction(lambda: receive.enqueue("x" * 20))
    assert "more than 20 bytes" in str(error)


@pytest.mark.parametrize("args", ["ab", 5, {1}], ids=repr)
def test_arguments_that_are_no_list_are_refused(args):
    """Celery's `apply_async(args)` does not take a text for two arguments."""
    error = refused_inside_a_transaction(lambda: receive.apply_async(args))
    assert (error.path, "list or tuple" in error.remedy) == ("args", True)


def test_keyword_arguments_that_are_no_dictionary_are_refused():
    """Nor a list of pairs for keywords."""
    error = refused_inside_a_transaction(lambda: receive.apply_async((), [("value", 1)]))
    assert (error.path, "dict" in error.remedy) == ("kwargs", True)


@pytest.mark.parametrize("call", [5, "text", b"bytes"], ids=repr)
def test_a_call_that_is_neither_tuple_nor_dictionary_is_refused(call):
    """A bulk enqueue writes nothing then, and does not show what it was given."""
    error = refused_inside_a_transaction(lambda: receive.enqueue_many([(1,), call]))
    assert "tuple of positional or a dict of keyword arguments" in str(error)
    assert repr(call) not in str(error)


def test_arguments_that_do_not_fit_are_refused_like_a_wrong_call():
    """A wrong arity is the TypeError of the helper itself, before a row exists."""
    with transaction.atomic():
        with pytest.raises(TypeError, match="missing a required argument: 'value'"):
            receive.enqueue()
        with pytest.raises(TypeError, match="too many positional arguments"):
            receive.delay(1, 2)
        receive.enqueue("after")
    assert Outcome.objects.get().args == ["after"]
