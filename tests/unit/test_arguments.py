"""Arguments and results at rest: identical or refused, with place, type and remedy."""

from __future__ import annotations

import collections
import dataclasses
import datetime as dt
import decimal
import enum
import fractions
import io
import ipaddress
import math
import pathlib
import re
import sys
import tempfile
import uuid
import zoneinfo
from decimal import Decimal
from types import SimpleNamespace
from typing import Any, NamedTuple, NoReturn

import pytest
from django.core.files.base import ContentFile
from django.db.models import Model, QuerySet
from django.utils.functional import SimpleLazyObject, lazystr
from django.utils.safestring import mark_safe
from hypothesis import example, given
from hypothesis import strategies as st

from tasks_app.arguments import MAX_DEPTH, decode, digest, encode_arguments, encode_result
from tasks_app.exceptions import InvalidArgument

MAX_BYTES = 65_536
PARIS = zoneinfo.ZoneInfo("Europe/Paris")


def identical(left: Any, right: Any) -> bool:
    """Tell whether two values are equal with equal types all the way down."""
    if type(left) is not type(right):
        return False
    if isinstance(left, dict):
        return list(left) == list(right) and all(identical(left[k], right[k]) for k in left)
    if isinstance(left, list):
        return len(left) == len(right) and all(map(identical, left, right))
    if isinstance(left, dt.datetime | dt.time):
        # A zone comes back as its offset, so compare the wall clock and the offset.
        walls = left.replace(tzinfo=None, fold=0) == right.replace(tzinfo=None, fold=0)
        return bool(walls and left.utcoffset() == right.utcoffset())
    if isinstance(left, float | Decimal):
        return str(left) == str(right)  # tells -0.0 from 0.0 and 1.10 from 1.1
    return bool(left == right)


def listed(value: Any) -> Any:
    """Turn tuples into lists, which is how they are stored."""
    if isinstance(value, list | tuple):
        return [listed(item) for item in value]
    if isinstance(value, dict):
        return {key: listed(item) for key, item in value.items()}
    return value


def nested(depth: int) -> list[Any]:
    """Make lists inside one another, so many."""
    value: list[Any] = []
    for _ in range(depth - 1):
        value = [value]
    return value


class Colour(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    LOW = 1


class Kind(enum.StrEnum):
    CARGO = "cargo"


class Point(NamedTuple):
    x: int
    y: int


@dataclasses.dataclass
class Order:
    number: int


class Pk(int):
    pass


class Untouchable:
    """Raises at every touch a careless serialiser makes."""

    def __getattr__(self, name: str) -> NoReturn:
        raise RuntimeError(name)

    def __repr__(self) -> NoReturn:
        raise RuntimeError

    __str__ = __iter__ = __len__ = __eq__ = __hash__ = __bool__ = __repr__  # type: ignore[assignment]


class Unnamed(type):
    def __getattribute__(cls, name: str) -> NoReturn:
        raise RuntimeError(name)


class Faceless(metaclass=Unnamed):
    pass


ACCEPTED: list[Any] = [
    None,
    True,
    False,
    0,
    -1,
    2**63 - 1,
    -(2**63),
    0.0,
    -0.0,
    0.1,
    1e22,
    1e308,
    5e-324,
    "",
    "plain",
    "Zürich ✈ 𝄞",
    "\u2028 \x7f \x1b \\ \" '",
    "{'not': 'json'}",
    [],
    {},
    [[], {}, [None]],
    {"": 1, "a.b": 2, "ключ": 3, "__type__": "datetime"},
    {"__type__": "datetime", "__value__": "x", "more": 1},
    {"z": 1, "a": 2},
    dt.datetime(2026, 11, 3, 4, 5, 6, 7),  # noqa: DTZ001
    dt.datetime(2026, 11, 3, tzinfo=dt.UTC),
    dt.datetime(2026, 7, 1, 12, tzinfo=PARIS),
    dt.datetime(2026, 10, 25, 2, 30, tzinfo=PARIS),
    dt.datetime(2026, 10, 25, 2, 30, tzinfo=PARIS, fold=1),
    dt.datetime(1900, 1, 1, tzinfo=PARIS),  # an offset of 9 minutes and 21 seconds
    dt.datetime.max.replace(tzinfo=dt.timezone(-dt.timedelta(hours=23, minutes=59))),
    dt.datetime.min.replace(tzinfo=dt.timezone(dt.timedelta(hours=23, seconds=1))),
    dt.date(1, 1, 1),
    dt.date.max,
    dt.time(23, 59, 59, 999_999),
    dt.time(0, 0, tzinfo=dt.timezone(dt.timedelta(seconds=-1))),
    dt.timedelta.min,
    dt.timedelta.max,
    dt.timedelta(microseconds=-1),
    Decimal("1.10"),
    Decimal("-0.00"),
    Decimal("1E+30"),
    Decimal("123456789012345678901234567890.123456789"),
    uuid.UUID(int=0),
    uuid.UUID("0193b0a1-5b3c-7c63-8d2e-6a1f8e0f3c11"),
    nested(MAX_DEPTH),
]


@pytest.mark.parametrize("value", ACCEPTED, ids=ascii)
def test_an_accepted_value_comes_back_identical(value: object) -> None:
    """Same value, same type, wherever it stands; and the text is ASCII."""
    args, kwargs = encode_arguments([value], {"it": value}, MAX_BYTES)
    assert identical(decode(args), [value])
    assert identical(decode(kwargs), {"it": value})
    assert args.isascii()
    assert kwargs.isascii()
    text, reason = encode_result(value, MAX_BYTES)
    assert reason is None
    assert text is not None
    assert identical(decode(text), value)


def test_tuples_come_back_as_lists() -> None:
    """The one change of type that the contract names."""
    args, kwargs = encode_arguments((1, (2, (3,))), {"pair": (4, 5)}, MAX_BYTES)
    assert identical(decode(args), [1, [2, [3]]])
    assert identical(decode(kwargs), {"pair": [4, 5]})


REFUSED: list[tuple[Any, str, str]] = [
    ({1}, "set", "pass a list"),
    (frozenset(), "frozenset", "pass a list"),
    (b"x", "bytes", "pass base64 text"),
    (bytearray(), "bytearray", "pass base64 text"),
    (memoryview(b""), "memoryview", "pass base64 text"),
    (1j, "complex", "real and imaginary"),
    (range(3), "range", "pass a list: list(value)"),
    ((char for char in "ab"), "generator", "pass a list: list(value)"),
    (iter([]), "list_iterator", "pass a list: list(value)"),
    ({}.keys(), "dict_keys", "pass a list: list(value)"),
    (object(), "object", "pass its id"),
    (print, "builtin_function_or_method", "pass its id"),
    (nested, "function", "pass its dotted name"),
    (Order, "type", "pass its dotted name"),
    (sys, "module", "pass its id"),
    (ValueError("x"), "ValueError", "pass str(error)"),
    (math.nan, "float", "pass a finite number, or None"),
    (math.inf, "float", "pass a finite number, or None"),
    (-math.inf, "float", "pass a finite number, or None"),
    (Decimal("NaN"), "Decimal", "pass a finite Decimal, or None"),
    (Decimal("sNaN"), "Decimal", "pass a finite Decimal, or None"),
    (Decimal("-Infinity"), "Decimal", "pass a finite Decimal, or None"),
    (2**63, "int", "pass it as text"),
    (-(2**63) - 1, "int", "pass it as text"),
    (10**5000, "int", "pass it as text"),
    ("\0", "str", "without NUL"),
    ("\ud83d", "str", "without lone surrogates"),
    ({1: 2}, "has a key of type int", "pass str keys"),
    ({None: 2}, "has a key of type NoneType", "pass str keys"),
    ({Kind.CARGO: 2}, "Kind", "pass str keys"),
    ({"a\0": 1}, "str", "without NUL"),
    ({"\udc00": 1}, "str", "without lone surrogates"),
    ({"__type__": "datetime", "__value__": "x"}, "dict", "__type__"),
    (Colour.RED, "Colour", "pass its .value"),
    (Level.LOW, "Level", "pass its .value"),
    (Kind.CARGO, "Kind", "pass its .value"),
    (Point(1, 2), "Point", "pass a list: list(value)"),
    (Order(1), "Order", "pass dataclasses.asdict(value)"),
    (SimpleNamespace(), "SimpleNamespace", "pass its id"),
    (Pk(1), "Pk", "pass a plain int"),
    (collections.OrderedDict(), "collections.OrderedDict", "pass a plain dict"),
    (collections.Counter(), "Counter", "pass a plain dict"),
    (collections.deque(), "collections.deque", "pass a list"),
    (mark_safe("<b>"), "SafeString", 'pass a plain str: "".join(value)'),
    (lazystr("later"), "__proxy__", "pass str(value)"),
    (SimpleLazyObject(object), "SimpleLazyObject", "pass the pk"),
    (ContentFile(b""), "ContentFile", "pass its name"),
    (io.StringIO(), "StringIO", "pass the file's name"),
    (tempfile.SpooledTemporaryFile(), "SpooledTemp", "pass the file's name"),  # noqa: SIM115
    (pathlib.Path(), "Path", "pass str(value)"),
    (ipaddress.ip_address("::1"), "IPv6Address", "pass str(value)"),
    (fractions.Fraction(1, 3), "Fraction", "pass str(value)"),
    (re.compile("a"), "Pattern", "pass its .pattern"),
    (PARIS, "ZoneInfo", "pass the zone's name"),
    (dt.UTC, "timezone", "pass the zone's name"),
    (dt.datetime(2026, 1, 1, fold=1), "datetime", "pass an aware datetime"),  # noqa: DTZ001
    (dt.time(2, 30, fold=1), "time", "pass a time without fold"),
    (dt.time(2, 30, tzinfo=PARIS), "time", "pass a datetime"),
    (
        dt.datetime(2026, 1, 1, tzinfo=dt.timezone(dt.timedelta(microseconds=1))),
        "datetime",
        "whole",
    ),
    (dt.time(2, tzinfo=dt.timezone(dt.timedelta(microseconds=1))), "time", "whole seconds"),
    (nested(MAX_DEPTH + 1), "list", "at most 32 containers"),
    (nested(500), "list", "at most 32 containers"),
    (nested(50_000), "list", "at most 32 containers"),
    (Untouchable(), "Untouchable", "pass a list"),
]


@pytest.mark.parametrize(("value", "kind", "remedy"), REFUSED, ids=lambda part: type(part).__name__)
def test_everything_else_is_refused_with_place_type_and_remedy(
    value: object, kind: str, remedy: str
) -> None:
    """The message alone is enough to mend the call, and never shows the value."""
    with pytest.raises(InvalidArgument) as caught:
        encode_arguments([{"items": [0, value]}], {}, MAX_BYTES)
    message = str(caught.value)
    assert message.startswith("args[0].items[1]")
    assert kind in message
    assert remedy in message
    assert caught.value.path in message
    assert caught.value.remedy in message


@pytest.mark.parametrize(("value", "kind", "remedy"), REFUSED, ids=lambda part: type(part).__name__)
def test_a_refused_result_is_omitted_with_the_reason(value: object, kind: str, remedy: str) -> None:
    """A result that cannot be kept never turns a success into a failure."""
    text, reason = encode_result({"rows": (value,)}, MAX_BYTES)
    assert text is None
    assert reason is not None
    assert reason.startswith("result.rows[0]")
    assert kind in reason
    assert remedy.replace("pass ", "return ") in reason
    assert "\n" not in reason


def test_a_result_that_resists_inspection_is_omitted() -> None:
    """Even a class whose name cannot be read only costs the result."""
    text, reason = encode_result([Faceless()], MAX_BYTES)
    assert text is None
    assert reason == "result: reading it raised RuntimeError."


def test_a_model_instance_says_pass_its_pk() -> None:
    """The commonest mistake with Celery gets the clearest answer."""
    # No settings are needed to derive a plain class in the model's line.
    instance: object = object.__new__(type("Flight", (_plain(Model),), {}))
    with pytest.raises(InvalidArgument, match=r"kwargs\.flight is of type .*Flight: pass its pk"):
        encode_arguments([], {"flight": instance}, MAX_BYTES)
    with pytest.raises(InvalidArgument, match=r"values_list\(\"pk\", flat=True\)"):
        encode_arguments([QuerySet()], {}, MAX_BYTES)


def _plain(kind: type) -> type:
    return type(kind.__name__, (), {"__module__": kind.__module__})


PLACES: list[tuple[Any, Any, str]] = [
    ([{1}], {}, "args[0]"),
    ([0, {"items": [1, 2, 3, {1}]}], {}, "args[1].items[3]"),
    ([], {"order": {"lines": [1, 2, {1}]}}, "kwargs.order.lines[2]"),
    ([], {"a b": {1}}, "kwargs['a b']"),
    ([], {"a": {"Zürich\n": {1}}}, r"kwargs.a['Z\xfcrich\n']"),
    ([], {"a": {"0": [({1},)]}}, "kwargs.a['0'][0][0]"),
    ([{"k" * 1000: {1}}], {}, f"args[0]['{'k' * 40}']"),
    ([], {1: 2}, "kwargs"),
    ([], {"__type__": 1, "__value__": 2}, "kwargs"),
    ("ab", {}, "args"),
    (None, {}, "args"),
    ([], None, "kwargs"),
    ([], [("a", 1)], "kwargs"),
]


@pytest.mark.parametrize(("args", "kwargs", "path"), PLACES, ids=[path for *_, path in PLACES])
def test_the_path_leads_to_the_value(args: list[Any], kwargs: dict[str, Any], path: str) -> None:
    """It reads like the Python expression one would type."""
    with pytest.raises(InvalidArgument) as caught:
        encode_arguments(args, kwargs, MAX_BYTES)
    assert caught.value.path == path
    assert str(caught.value).startswith(f"{path} ")


def test_the_message_never_shows_the_value() -> None:
    """A value to be redacted must not leak by being refused."""
    secret = "4111111111111111"
    for value in ({secret}, {int(secret): 1}, secret + "\0", secret.encode(), [secret] * 9_999):
        with pytest.raises(InvalidArgument) as caught:
            encode_arguments([value], {}, MAX_BYTES)
        assert secret not in f"{caught.value!s}{caught.value!r}"


def test_cycles_are_refused() -> None:
    """What contains itself is deeper than any limit."""
    cycle: list[Any] = []
    cycle.append({"again": cycle})
    with pytest.raises(InvalidArgument, match="at most 32 containers"):
        encode_arguments([cycle], {}, MAX_BYTES)
    text, reason = encode_result(cycle, MAX_BYTES)
    assert text is None
    assert "at most 32 containers" in str(reason)


def test_the_size_counts_both_texts_and_escapes() -> None:
    """The limit is on what is stored, to the byte."""
    args, kwargs = encode_arguments(["é"], {"a": "b"}, MAX_BYTES)
    size = len(args) + len(kwargs)
    assert size == len(r'["\u00e9"]{"a":"b"}')
    assert encode_arguments(["é"], {"a": "b"}, size) == (args, kwargs)
    with pytest.raises(InvalidArgument, match=rf"more than {size - 1} bytes.*store the data"):
        encode_arguments(["é"], {"a": "b"}, size - 1)


def test_the_size_of_a_result_is_limited_too() -> None:
    """Too large is omitted, not failed."""
    assert encode_result("ab", 4) == ('"ab"', None)
    text, reason = encode_result("ab", 3)
    assert text is None
    assert "more than 3 bytes" in str(reason)


def test_values_that_share_parts_cannot_stall_the_call() -> None:
    """Two to the thirtieth nodes are refused at once, not walked."""
    bomb: list[Any] = []
    for _ in range(30):
        bomb = [bomb, bomb]
    shared = ["x" * 1_000_000] * 1_000
    for value in (bomb, shared, {"k" * 1_000_000: 1}, [None] * 10_000_000):
        with pytest.raises(InvalidArgument, match="more than 65536 bytes"):
            encode_arguments([value], {}, MAX_BYTES)


def test_equal_arguments_hash_equal_whatever_their_dicts_order() -> None:
    """An idempotency key is compared with arguments, not with spelling."""
    one = digest(*encode_arguments([{"a": 1, "b": [1, {"x": 1, "y": 2}]}], {"k": 1, "l": 2}, 999))
    two = digest(*encode_arguments(({"b": (1, {"y": 2, "x": 1}), "a": 1},), {"l": 2, "k": 1}, 999))
    assert one == two
    assert re.fullmatch("[0-9a-f]{64}", one)


def test_different_arguments_hash_differently() -> None:
    """Order in lists, types and places all count."""
    calls: list[tuple[list[Any], dict[str, Any]]] = [
        ([], {}),
        ([[]], {}),
        ([1], {}),
        ([1.0], {}),
        ([True], {}),
        (["1"], {}),
        ([Decimal(1)], {}),
        ([Decimal("1.0")], {}),
        ([1, 2], {}),
        ([2, 1], {}),
        ([], {"a": 1}),
        ([{"a": 1}], {}),
        ([None], {}),
        ([0.0], {}),
        ([-0.0], {}),
        ([dt.date(2026, 1, 1)], {}),
        (["2026-01-01"], {}),
    ]
    assert len({digest(*encode_arguments(*call, MAX_BYTES)) for call in calls}) == len(calls)


def test_a_digest_is_stable_over_releases() -> None:
    """Keys outlive deploys: this number may never change."""
    texts = encode_arguments([7, "Zürich"], {"at": dt.date(2026, 1, 2)}, MAX_BYTES)
    expected = "72eb213cf25bd54d48e8bb385873393bdf54e6090b6131c1356de2ae515babbd"
    assert digest(*texts) == expected


def test_the_stored_form_is_stable_over_releases() -> None:
    """Rows outlive deploys too: what is stored today must be read tomorrow."""
    args, kwargs = encode_arguments(
        [
            dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC),
            dt.date(2026, 1, 2),
            dt.time(3, 4),
            dt.timedelta(days=1, seconds=2, microseconds=3),
            Decimal("1.50"),
            uuid.UUID(int=1),
        ],
        {},
        MAX_BYTES,
    )
    assert kwargs == "{}"
    assert args == (
        '[{"__type__":"datetime","__value__":"2026-01-02T03:04:05+00:00"},'
        '{"__type__":"date","__value__":"2026-01-02"},'
        '{"__type__":"time","__value__":"03:04:00"},'
        '{"__type__":"timedelta","__value__":[1,2,3]},'
        '{"__type__":"decimal","__value__":"1.50"},'
        '{"__type__":"uuid","__value__":{"hex":"00000000000000000000000000000001"}}]'
    )


@pytest.mark.parametrize("text", ["", "[", '{"__type__":"unheard-of","__value__":1}'])
def test_a_text_that_is_not_ours_is_a_value_error(text: str) -> None:
    """A damaged row is told apart from a failing helper."""
    with pytest.raises(ValueError):  # noqa: PT011 - json's own words
        decode(text)


DAY = 86_400
offsets = st.integers(1 - DAY, DAY - 1).map(lambda seconds: dt.timedelta(seconds=seconds))
zones = st.none() | st.just(dt.UTC) | st.builds(dt.timezone, offsets) | st.timezones()
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
    st.datetimes(timezones=zones).filter(lambda at: at.tzinfo is not None or not at.fold),
    st.dates(),
    st.times(timezones=zones).filter(
        lambda at: not at.fold and (at.tzinfo is None or at.utcoffset() is not None)
    ),
    st.timedeltas(),
    st.decimals(allow_nan=False, allow_infinity=False),
    st.uuids(),
)
keys = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(inner, inner)
        | st.dictionaries(keys, inner, max_size=4)
    ),
    max_leaves=12,
)


@given(args=st.lists(values, max_size=3), kwargs=st.dictionaries(keys, values, max_size=3))
@example(args=[decimal.Decimal("0E-999999")], kwargs={})
def test_every_accepted_value_makes_the_round_trip(args: list[Any], kwargs: dict[str, Any]) -> None:
    """decode(encode(x)) is x, types included, tuples as lists."""
    texts = encode_arguments(args, kwargs, 10**9)
    assert identical(decode(texts[0]), listed(args))
    assert identical(decode(texts[1]), listed(kwargs))
    assert encode_arguments(decode(texts[0]), decode(texts[1]), 10**9) == texts
    shuffled = dict(reversed(kwargs.items()))
    assert digest(*encode_arguments(args, shuffled, 10**9)) == digest(*texts)


class Holder:
    pass


anything = st.recursive(
    scalars
    | st.floats()
    | st.binary(max_size=3)
    | st.complex_numbers()
    | st.sampled_from([Holder(), Colour.RED, math.nan, "\ud800", 2**70]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.sets(st.integers(), max_size=2)
        | st.dictionaries(st.integers() | st.none() | keys, inner, max_size=3)
    ),
    max_leaves=8,
)


@given(value=anything, max_bytes=st.integers(0, 200))
def test_a_result_is_text_or_a_reason_and_never_an_error(value: object, max_bytes: int) -> None:
    """Exactly one of the two, whatever the helper returned."""
    text, reason = encode_result(value, max_bytes)
    assert (text is None) != (reason is None)
    if text is not None:
        assert len(text) <= max_bytes
        assert identical(decode(text), listed(value))
