"""Ids sort by age, whatever the clock does."""

from __future__ import annotations

import time

import pytest

from tasks_app import uuid7 as module
from tasks_app.uuid7 import uuid7, uuid7s


def test_an_id_is_of_version_7_and_tells_its_time():
    """RFC 9562: version, variant, and 48 bits of milliseconds."""
    before = time.time_ns() // 1_000_000
    made = uuid7()
    assert (made.version, made.variant) == (7, "specified in RFC 4122")
    assert before <= made.int >> 80 <= time.time_ns() // 1_000_000 + 1


def test_ids_of_one_thread_grow_within_a_millisecond():
    """As fast as they can be made."""
    made = [uuid7() for _ in range(10_000)]
    assert made == sorted(set(made))


@pytest.mark.parametrize("step", [0, -1], ids=["stands still", "goes back"])
def test_ids_grow_when_the_clock_does_not(monkeypatch, step):
    """A coarse clock, or one that is set back."""
    monkeypatch.setattr(module, "_last", 0)
    times = iter(range(2 * 10**18, 2 * 10**18 + step * 10**9 * 100 - 1, -(10**9)) if step else ())
    monkeypatch.setattr(module.time, "time_ns", lambda: next(times, 2 * 10**18))
    made = [uuid7() for _ in range(100)]
    assert made == sorted(set(made))


def test_many_at_once_are_like_one_after_the_other(monkeypatch):
    """Those before are smaller, those after are greater, and each is random."""
    monkeypatch.setattr(module, "_last", 0)
    monkeypatch.setattr(module.time, "time_ns", lambda: 2 * 10**18)
    before, many, after = uuid7(), uuid7s(10_000), uuid7()
    assert [before, *many, after] == sorted({before, *many, after})
    assert {(made.version, made.variant) for made in many} == {(7, "specified in RFC 4122")}
    assert len({made.int & (1 << 62) - 1 for made in many}) == len(many)


def test_none_at_once_are_none():
    assert uuid7s(0) == []
