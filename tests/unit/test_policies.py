"""Policies: what becomes of late slots, whatever was asked at a time, and in bounded time."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks_app.periodic.policies import (
    LATE,
    PATIENCE,
    Decision,
    Missed,
    Overlap,
    Planned,
    Policy,
    due_at,
    plan,
)
from tasks_app.periodic.timetables import Clocked, Crontab, Interval, between

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
MINUTES = Crontab()
NIGHTLY = Crontab.read("0 2 * * *")
SECONDS = Interval(timedelta(seconds=1))
YEARS = timedelta(days=3650)

LETTERS = {Decision.FIRED: "f", Decision.MADE_UP: "u", Decision.MISSED: "m"}


def told(planned: list[Planned]) -> str:
    """Return decisions as letters: fired, made up, missed; M where it tells of more than one."""
    letters = [LETTERS[it.decision] if it.since is None else "M" for it in planned]
    return "".join(letters)


def policy(text: str) -> Policy:
    """Return the policy of a text such as `all 3`."""
    name, _, most = text.partition(" ")
    return Policy(missed=Missed(name), missed_max=int(most) if most else None)


@pytest.mark.parametrize(
    ("timetable", "passed", "missed", "expected"),
    [
        # Every minute, and the last slots at 11:58, 11:59 and 12:00.
        (MINUTES, "30s", "skip", "f"),
        (MINUTES, "90s", "skip", "ff"),
        (MINUTES, "5m", "skip", "mmmff"),
        (MINUTES, "5m", "latest", "mmuff"),
        (MINUTES, "5m", "all", "uuuff"),
        (MINUTES, "5m", "all 2", "muuff"),
        (MINUTES, "5m", "all 9", "uuuff"),
        (MINUTES, "20m", "skip", "Mmmmmmmmmm"),
        (MINUTES, "20m", "latest", "Mmmmmmmmmm"),
        (MINUTES, "20m", "all", "uuuuuuuuuu"),
        # Once a night: nothing newer is due, so patience decides.
        (NIGHTLY, "11h", "skip", "m"),
        (NIGHTLY, "11h", "latest", "u"),
        (NIGHTLY, "3d", "latest", "mmu"),
        (NIGHTLY, "3d", "all 2", "muu"),
        (NIGHTLY, "9h", "all", ""),
        # Many slots within a minute are all in time.
        (SECONDS, "8s", "skip", "ffffffff"),
    ],
)
def test_late_slots_are_treated_by_the_policy(timetable, passed, missed, expected):
    """At noon, after a time in which nothing was decided."""
    units = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
    span = timedelta(**{units[passed[-1]]: int(passed[:-1])})
    planned = plan(timetable, NOON - span, NOON, policy(missed), 10)
    assert told(planned) == expected
    assert [it.slot_at for it in planned] == sorted({it.slot_at for it in planned})


@pytest.mark.parametrize(("late", "expected"), [(0, "f"), (299, "f"), (300, "f"), (301, "m")])
def test_a_slot_with_none_after_it_is_in_time_while_patience_lasts(late, expected):
    """A deploy at the wrong minute does not cost a nightly job."""
    now = NOON.replace(hour=2) + timedelta(seconds=late)
    assert told(plan(NIGHTLY, NOON - timedelta(days=1), now, policy("skip"))) == expected
    assert timedelta(seconds=300) == PATIENCE > LATE


def test_a_clock_that_has_rung_while_nobody_heard_is_made_up_or_left():
    at = NOON - timedelta(hours=1)
    assert told(plan(Clocked(at), NOON - YEARS, NOON, policy("latest"))) == "u"
    assert told(plan(Clocked(at), NOON - YEARS, NOON, policy("skip"))) == "m"
    assert plan(Clocked(at), at, NOON, policy("latest")) == []


def test_years_of_downtime_are_told_in_one_decision():
    """Five million minutes, and a timetable is asked for few of them."""
    asked = count()

    class Counted(Crontab):
        def next_after(self, moment):
            next(asked)
            return super().next_after(moment)

    planned = plan(Counted(), NOON - YEARS, NOON, policy("latest"), 10)
    assert told(planned) == "Mmmmmmmmmm"
    assert planned[0].since == NOON - YEARS + timedelta(minutes=1)
    rest = plan(Counted(), planned[-1].slot_at, NOON, policy("latest"), 10)
    assert told(rest) == "uff"
    assert next(asked) < 500


def test_a_timetable_of_microseconds_ends_too():
    microseconds = Interval(timedelta(microseconds=1))
    assert told(plan(microseconds, NOON - YEARS, NOON, policy("skip"), 5)) == "Mmmmm"


spans = st.timedeltas(timedelta(0), timedelta(hours=3))
policies = st.builds(
    Policy,
    missed=st.sampled_from(Missed),
    missed_max=st.none() | st.integers(1, 30),
    jitter=st.sampled_from([0, 7, 90]),
)
timetables = st.sampled_from(
    [MINUTES, NIGHTLY, Crontab.read("*/7 * * * *"), Interval(timedelta(seconds=40))]
)


@given(timetables, spans, spans, policies, st.integers(1, 20))
def test_it_does_not_matter_how_many_are_decided_at_a_time(timetable, ago, later, rules, limit):
    """Call after call, each slot is decided once and as one call would have decided it."""
    after, now = NOON - ago, NOON + later
    whole = plan(timetable, after, now, rules, 10**6, entry_id=7)
    due = list(between(timetable, after, now))
    assert [it.slot_at for it in whole] == due[: len(whole)]
    assert all(due_at(7, slot_at, rules.jitter) > now for slot_at in due[len(whole) :][:1])
    piecemeal: list[Planned] = []
    while step := plan(timetable, after, now, rules, limit, entry_id=7):
        piecemeal += step
        after = step[-1].slot_at
    slots = [it.slot_at for it in piecemeal]
    assert slots == sorted(set(slots))
    decided = {it.slot_at: it.decision for it in whole}
    assert {it.slot_at: it.decision for it in piecemeal}.items() <= decided.items()
    left_out = decided.keys() - {it.slot_at for it in piecemeal}
    assert {decided[slot_at] for slot_at in left_out} <= {Decision.MISSED}


@given(st.integers(1, 10**9), st.datetimes(timezones=st.just(UTC)), st.floats(0, 3600))
def test_jitter_is_bounded_and_always_the_same(entry_id, slot_at, jitter):
    """Whichever beat asks, in whichever zone it writes the slot."""
    slot_at = slot_at.replace(year=2026, day=1)
    due = due_at(entry_id, slot_at, jitter)
    assert slot_at <= due <= slot_at + timedelta(seconds=jitter)
    assert due == due_at(entry_id, slot_at.astimezone(), jitter)


def test_jitter_spreads():
    parts = [due_at(n, NOON, 100) - NOON for n in range(200)]
    assert min(parts) < timedelta(seconds=5)
    assert max(parts) > timedelta(seconds=95)
    assert len(set(parts)) == 200


def test_a_slot_that_jitter_puts_off_is_left_alone_and_not_late():
    rules = Policy(missed=Missed.SKIP, jitter=600)
    due = due_at(7, NOON, 600)
    after = NOON - timedelta(seconds=1)
    hourly = Crontab.read("0 * * * *")
    assert plan(hourly, after, due - timedelta(seconds=1), rules, entry_id=7) == []
    assert told(plan(hourly, after, due, rules, entry_id=7)) == "f"
    assert told(plan(hourly, after, NOON + timedelta(seconds=600), rules)) == "f"


def test_all_may_have_a_limit_and_the_words_are_those_of_the_tables():
    assert Missed.all(max=10) == (Missed.ALL, 10)
    assert [*map(str, Missed)] == ["skip", "latest", "all"]
    assert [*map(str, Overlap)] == ["allow", "skip", "queue_one"]
    assert all(re.fullmatch(r"\w{1,16}", word) for word in Decision)
