"""Malformed messages: dropped, counted, told without their contents."""

from __future__ import annotations

import pytest

from tasks_app import poison, signals

SECRET = "card 4111 1111 1111 1111"


class Message:
    """What the guard needs of a message."""

    def __init__(self, **headers) -> None:
        self.headers = headers
        self.is_acknowledged = False

    def ack_log_error(self, logger, errors):
        self.is_acknowledged = True


@pytest.fixture
def dropped():
    """What the signal `dropped` has told."""
    told = []

    def tell(**values):
        told.append(values["why"])

    signals.dropped.connect(tell)
    yield told
    signals.dropped.disconnect(tell)


@pytest.mark.parametrize("error", poison.MALFORMED, ids=lambda kind: kind.__name__)
def test_what_cannot_be_read_is_acknowledged_counted_and_told(error, dropped, caplog):
    """It does not come back, and what it held is in no log."""

    def handle(message):
        raise error(SECRET)

    message = Message()
    poison.guarded(handle, (OSError,))(message)
    assert message.is_acknowledged
    assert dropped == ["it is malformed"]
    assert error.__name__ in caplog.text
    assert SECRET not in caplog.text


@pytest.mark.parametrize("limits", ["ab", ["a", "b"], [1], {"a": 1}, 5])
def test_time_limits_that_are_none_never_reach_the_pool(limits, dropped):
    """The pool would fail on them where nobody catches it."""
    reached = []
    poison.guarded(reached.append, ())(Message(timelimit=limits))
    assert (reached, len(dropped)) == ([], 1)


@pytest.mark.parametrize("limits", [None, [None, None], (3, 2.5)])
def test_time_limits_pass(limits, dropped):
    """What Celery itself sends is handled."""
    reached = []
    message = Message(timelimit=limits)
    poison.guarded(reached.append, ())(message)
    assert (reached, dropped) == ([message], [])


def test_a_lost_connection_is_no_malformed_message(dropped):
    """The consumer has to reconnect: its errors pass, also those that look like a value's."""

    class Lost(ValueError):
        pass

    def handle(message):
        raise Lost

    message = Message()
    with pytest.raises(Lost):
        poison.guarded(handle, (Lost,))(message)
    assert (message.is_acknowledged, dropped) == (False, [])
