"""Every kind of value goes through a real worker: it arrives as it was, or the call is refused."""

from __future__ import annotations

import datetime as dt
import math
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest

from tasks_app.exceptions import InvalidArgument
from tasks_app.models import Outcome
from tests.faults import tasks as faults
from tests.installation import in_state
from tests.testapp.models import Effect
from tests.trail import left


def nested(depth):
    """Return lists inside one another."""
    value = []
    for _ in range(depth - 1):
        value = [value]
    return value


ZURICH = ZoneInfo("Europe/Zurich")

#: What arrives as it was given.
IDENTICAL = {
    "negative zero": -0.0,
    "a float that is a large whole number": 1e22,
    "the largest float": 1.7976931348623157e308,
    "the smallest float": 5e-324,
    "the largest integer": 2**63 - 1,
    "32 containers": nested(32),
    "a text in many scripts": "Zürich Αθήνα Київ 東京 ✈ 𝄞 e\u0301 \x85\u2028",
    "a text that looks like a wildcard": "%s {} \\ \\u0000 ' \" `",
    "a dictionary that is nearly tagged": {"__type__": "x", "__value__": 1, "more": 2},
    "a dictionary in its own order": {"z": 1, "a": {"": [2]}},
    "a naive datetime": dt.datetime(2026, 11, 3, 4, 5, 6, 7),  # noqa: DTZ001
    "a datetime in UTC": dt.datetime(2026, 11, 3, 4, 5, 6, 7, tzinfo=dt.UTC),
    "a date": dt.date(1, 1, 1),
    "a span": dt.timedelta(days=-1, microseconds=1),
    "a Decimal": Decimal("12345678901234567890.100"),
}

#: What arrives as something else, which the documentation says.
CHANGED = {
    "a tuple": ((1, (2,)), [1, [2]]),
    "a datetime that occurs twice": (
        dt.datetime(2026, 10, 25, 2, 30, fold=1, tzinfo=ZURICH),
        dt.datetime(2026, 10, 25, 2, 30, tzinfo=dt.timezone(dt.timedelta(hours=1))),
    ),
}

ARRIVING = {**{name: (value, value) for name, value in IDENTICAL.items()}, **CHANGED}

#: What no row takes, with a maker where the value is better not shown by pytest.
REFUSED = {
    "33 containers": lambda: nested(33),
    "500 containers": lambda: nested(500),
    "5,000 containers": lambda: nested(5_000),
    "a list that holds itself": faults.endless,
    "a megabyte and a byte": lambda: "x" * (1024 * 1024 + 1),
    "NaN": lambda: math.nan,
    "infinity": lambda: math.inf,
    "negative infinity": lambda: -math.inf,
    "a number of 5,000 digits": lambda: 10**5_000,
    "an integer of 65 bits": lambda: 2**63,
    "NUL": lambda: "a\0b",
    "a lone surrogate": lambda: "\ud800",
    "bytes": lambda: b"\xff",
    "a set": lambda: {1},
    "a tagged dictionary": lambda: {"__type__": "decimal", "__value__": "1"},
    "a key that is no text": lambda: {1: 2},
}


@pytest.fixture(scope="module")
def sent(trapped_worker):
    """The outcomes of a call with each value that is accepted, all of them under way at once."""
    trapped_worker.running()
    receive = trapped_worker.using(faults.receive)
    yield {name: receive.enqueue(f"f60 {name}", given) for name, (given, _) in ARRIVING.items()}
    assert trapped_worker.works()


@pytest.mark.parametrize("name", ARRIVING)
def test_f60_a_value_arrives_as_it_was(name, sent):
    """The helper sees the same value of the same type, and so does who reads its result."""
    expected = ARRIVING[name][1]
    outcome = in_state(sent[name], "succeeded", "failed")
    assert outcome.state == "succeeded"
    [seen] = left(f"f60 {name}")
    assert (seen["is_a"], seen["looks"]) == (type(expected).__name__, repr(expected))
    assert (type(outcome.result), repr(outcome.result)) == (type(expected), repr(expected))


@pytest.mark.parametrize("name", REFUSED)
def test_f60_a_value_that_would_not_arrive_is_refused_at_the_call(name, key):
    """The message names the place, and no row is left."""
    with pytest.raises(InvalidArgument) as caught:
        faults.receive.using(queue=key).enqueue(key, {"items": [0, REFUSED[name]()]})
    assert not Outcome.objects.filter(queue=key).exists()
    assert "args" in str(caught.value)
    assert len(str(caught.value)) < 500
    if "megabyte" not in name:
        assert caught.value.path.startswith("args[1].items[1]")


@pytest.fixture(scope="module")
def produced(trapped_worker):
    """The outcomes of a call with each result, all of them under way at once."""
    trapped_worker.running()
    produce = trapped_worker.using(faults.produce)
    yield {kind: produce.enqueue(kind) for kind in faults.RESULTS}
    assert trapped_worker.works()


@pytest.mark.parametrize("kind", faults.RESULTS)
def test_f61_a_result_that_cannot_be_kept_leaves_a_success(kind, produced):
    """What the helper did stays done: the result is left out, and the row says why."""
    outcome = in_state(produced[kind], "succeeded", "failed")
    assert (outcome.state, outcome.attempt, outcome.result) == ("succeeded", 1, None)
    assert outcome.result_omitted
    assert Effect.objects.filter(key=f"f61 {kind}").count() == 1
