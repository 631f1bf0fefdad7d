"""
Whatever a helper reports, returns or raises, its run ends as it should on every database.

Databases refuse NUL, lone surrogates, long texts and some numbers, each differently. What is only
told to people is made to fit; it never decides an outcome's fate.
"""

from __future__ import annotations

import pickle

import pytest
from celery.exceptions import Ignore

from tasks_app import current
from tasks_app.exceptions import TaskFailed
from tasks_app.models import Progress
from tests import by_hand
from tests.integration.command_line import claimed
from tests.testapp.helpers import Exiting, Unpicklable, Unprintable
from tests.testapp.tasks import record

pytestmark = pytest.mark.django_db(transaction=True)


def ended(helper):
    """Run a helper as a worker would and return its outcome."""
    outcome = record.enqueue("key")
    try:
        by_hand.run(claimed(outcome), helper)
    except Exception as error:  # noqa: BLE001 - whatever Celery is told
        outcome.told = error
    outcome.refresh()
    return outcome


def deep(depth):
    """Return a set below many long keys: what is said of it is a long path."""
    value = {1}
    for _ in range(depth):
        value = {"k" * 50: value}
    return value


RESULTS = {
    "an object": (object, "result is of type object: return its id"),
    "a set": (lambda: {1}, "result is of type set: return a list"),
    "NaN": (lambda: float("nan"), "result is of type float: return a finite number"),
    "NUL": (lambda: ["a\0"], r"result[0] is of type str: return text without NUL"),
    "a lone surrogate": (lambda: {"a": "\ud800"}, "result.a is of type str: return text without"),
    "a long text": (lambda: "x" * 100_000, "result take more than 65536 bytes"),
    "a set far below": (lambda: deep(20), "result['kkk"),
    "a type with a long name": (type("T" * 300, (), {}), "result is of type "),
}


@pytest.mark.parametrize("name", RESULTS)
def test_a_result_that_cannot_be_kept_is_told_and_the_success_stands(name):
    """The work was done; the row says why its result is not there."""
    make, words = RESULTS[name]
    outcome = ended(lambda key, note="": make())
    assert (outcome.state, outcome.result, outcome.result_json) == ("succeeded", None, None)
    assert outcome.result_omitted.startswith(words)


REPORTS = {
    "plain": ((1, 2, "half"), Progress(1.0, 2.0, "half")),
    "without a total": ((1,), Progress(1.0, None, "")),
    "over several lines": ((1, 2, "a\nb\r\n c"), Progress(1.0, 2.0, "a b c")),
    "with NUL": ((1, 2, "a\0b"), Progress(1.0, 2.0, "a\ufffdb")),
    "with a lone surrogate": ((1, 2, "a\ud800b"), Progress(1.0, 2.0, "a?b")),
    "longer than a line": ((1, 2, "x" * 300), Progress(1.0, 2.0, "x" * 255)),
    "of what is no number": ((float("nan"), 2), None),
    "of infinitely much": ((1, float("inf"), "m"), Progress(1.0, None, "m")),
}


@pytest.mark.parametrize("name", REPORTS)
def test_no_report_of_progress_fails_its_helper(name):
    """Progress is for people: what no database takes is left out or made to fit."""
    given, stored = REPORTS[name]
    outcome = ended(lambda key, note="": current.progress(*given))
    assert (outcome.state, outcome.progress) == ("succeeded", stored)


class Silent(Exception):
    """An exception whose text is no text."""

    def __str__(self):
        return 5  # noqa: PLE0307 - that is what is wrong with it


def raising(error):
    """Return a helper that raises."""

    def helper(key, note=""):
        raise error

    return helper


ERRORS = {
    "unprintable": (Unprintable(), "Unprintable (its text could not be read)"),
    "exiting": (Exiting(), "Exiting (its text could not be read)"),
    "of a text that is none": (Silent(), "Silent (its text could not be read)"),
    "unpicklable": (Unpicklable("cannot", "travel"), "cannot travel"),
    "without a text": (ValueError(), "ValueError"),
    "over several lines": (ValueError("a\nb"), "a b"),
    "with NUL and a surrogate": (ValueError("a\0\ud800"), "a\ufffd?"),
    "as long as a book": (ValueError("x" * 100_000), "x" * 2_000),
    "a group with an unprintable one": (
        ExceptionGroup("many", [ValueError("a"), Unprintable()]),
        "many (2 sub-exceptions)",
    ),
    "of a class with a long name": (type("E" * 300, (Exception,), {})("x"), "x"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_every_exception_is_told_in_one_line(name):
    """What cannot be printed or stored is still a failure with a text, a type and a trace."""
    error, text = ERRORS[name]
    outcome = ended(raising(error))
    attempt = outcome.attempts.get()
    assert (outcome.state, outcome.error, attempt.error) == ("failed", text, text)
    assert type(error).__qualname__[:100] in attempt.error_type
    assert "in helper" in attempt.traceback or len(attempt.traceback) == 16_000
    with pytest.raises(TaskFailed, match=attempt.error_type[:50]) as caught:
        outcome.get(timeout=1)
    assert pickle.loads(pickle.dumps(caught.value)).error == text


def test_what_celery_is_told_can_be_printed():
    """Celery's pool prints what it gets; an exception that raises then is told in words."""
    told = ended(raising(Unprintable())).told
    assert isinstance(told, TaskFailed)
    assert "its text could not be read" in str(told)


def test_the_reason_of_a_cancellation_is_made_to_fit():
    """Whoever cancels may write what he likes."""
    outcome = record.enqueue("key")
    assert outcome.cancel(by="a\0b", reason="\ud800 " + "x" * 300)
    outcome.refresh()
    assert outcome.cancel_reason == "? " + "x" * 253
    with pytest.raises(Ignore):
        by_hand.answer(outcome)
