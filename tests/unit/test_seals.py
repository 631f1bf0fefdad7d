"""Seals: genuine ones are accepted once; every other is refused with its reason."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.test import override_settings

from tasks_app.seals import Once, Refused, read_seal, seal

AGE = timedelta(minutes=10)
COMMAND = {"method": "shutdown", "arguments": {"n": (1, 2), 3: None}}


class Clock:
    """The time, as a test wants it to be."""

    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch):
    """The time at which seals are made and looked at."""
    clock = Clock(1_800_000_000)
    monkeypatch.setattr("time.time", clock)
    return clock


@pytest.fixture
def once(clock):
    """What has accepted nothing yet."""
    return Once(AGE, clock)


def test_a_seal_is_accepted_once(once):
    """The same bytes a second time are a replay."""
    token = seal("control", COMMAND)
    once.accept("control", COMMAND, token)
    with pytest.raises(Refused, match="before"):
        once.accept("control", COMMAND, token)
    once.accept("control", COMMAND, seal("control", COMMAND))


@pytest.mark.parametrize("token", [None, 1, {}, [], "", "x", "e30:1tNUZl:x", "é:\n:1"])
def test_what_is_no_seal_is_refused(token, once):
    """Whatever stands in its place, nothing but a refusal comes of it."""
    with pytest.raises(Refused):
        once.accept("control", COMMAND, token)


def test_a_seal_is_for_one_content_and_one_purpose(once):
    """It cannot be moved to another command, or from a task to a command."""
    token = seal("control", COMMAND)
    with pytest.raises(Refused, match="another message"):
        once.accept("control", {**COMMAND, "method": "pool_grow"}, token)
    with pytest.raises(Refused, match="not this project's"):
        once.accept("task", COMMAND, token)
    once.accept("control", COMMAND, token)


def test_a_seal_outlives_its_key_as_long_as_the_project_says(once):
    """Keys change as Django's documentation tells, with the old one among the fallbacks."""
    token = seal("control", COMMAND)
    with override_settings(SECRET_KEY="new"):
        with pytest.raises(Refused, match="not this project's"):
            once.accept("control", COMMAND, token)
        with override_settings(SECRET_KEY_FALLBACKS=["only-for-tests"]):
            once.accept("control", COMMAND, token)


def test_a_seal_ages(once, clock):
    """At its age it is accepted, and a moment later no more."""
    token = seal("control", COMMAND)
    clock.now += AGE.total_seconds()
    read_seal("control", COMMAND, token, AGE)
    clock.now += 1
    with pytest.raises(Refused, match="too old"):
        once.accept("control", COMMAND, token)


def test_a_seal_of_the_future_is_refused(once, clock):
    """It would outlive the memory of its first use."""
    clock.now += AGE.total_seconds() + 1
    token = seal("control", COMMAND)
    clock.now -= AGE.total_seconds() + 1
    with pytest.raises(Refused, match="future"):
        once.accept("control", COMMAND, token)


def test_a_process_that_has_begun_anew_takes_no_old_seal(clock):
    """It has forgotten which it has used, so all of them count as used."""
    token = seal("control", COMMAND)
    clock.now += 0.1
    with pytest.raises(Refused, match="began"):
        Once(AGE, clock).accept("control", COMMAND, token)


def test_only_what_could_come_again_is_remembered(once, clock):
    """Two ages later the memory is empty but for the newest."""
    for _ in range(3):
        once.accept("control", COMMAND, seal("control", COMMAND))
        clock.now += 2 * AGE.total_seconds() + 1
    assert len(once._seen) == 1
