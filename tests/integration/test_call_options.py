"""
What a declaration and a call may ask for, and what is said of the rest.

A wrong option is an error at the line that gives it, in words that name it; where that line is a
call, the caller's transaction stays usable.
"""

from __future__ import annotations

import inspect
from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.db import transaction

from tasks_app import RetryPolicy, task
from tasks_app.calls import Call
from tasks_app.conf import conf
from tasks_app.enqueue import enqueue
from tasks_app.exceptions import ConfigurationError, InvalidArgument
from tasks_app.models import Outcome
from tasks_app.options import read_options
from tests.integration.command_line import failed, rewritten
from tests.testapp.models import Effect
from tests.testapp.tasks import add, record_once


def helper(order_id, note=""):
    """Do nothing."""


DECLARED = {
    "an unknown option": ({"retrys": 3}, r"Unknown task option 'retrys'\. Did you mean 'retry'\?"),
    "a name that is no text": ({"name": 5}, "name=5: pass a text of 1 to 255"),
    "an empty name": ({"name": ""}, "name='': pass a text of 1 to 255"),
    "a name that is too long": ({"name": "n" * 256}, "pass a text of 1 to 255"),
    "a queue that is no text": ({"queue": 5}, "queue=5: pass a text of 1 to 128"),
    "a queue that is too long": ({"queue": "q" * 129}, "pass a text of 1 to 128"),
    "a queue with NUL": ({"queue": "a\0"}, "pass a text of 1 to 128 printable"),
    "a priority that is none": ({"priority": 10}, "priority=10: a priority is .* 0 to 9"),
    "a priority that is true": ({"priority": True}, "priority=True: a priority is .* 0 to 9"),
    "a key that is no text": ({"idempotency_key": 5}, "idempotency_key=5: pass a format string"),
    "a policy that is a number": ({"retry": 3}, r"retry=3: pass tasks_app.RetryPolicy\("),
    "a limit that is no span": ({"timeout": "1 s"}, "timeout must be a number of seconds"),
    "a limit of nothing": ({"soft_timeout": 0}, "soft_timeout=0: must be longer than zero"),
    "a soft limit behind the hard": ({"timeout": 1, "soft_timeout": 2}, "must be shorter than"),
    "an expiry that is none": ({"expires": -1}, "expires must lie between"),
    "a switch that is a text": ({"atomic": "no"}, "atomic='no': pass True or False"),
    "one name for several": ({"redact": "note"}, "redact='note': pass a list of strings"),
    "a name that is no argument": ({"redact": ["nota"]}, r"'nota', which is no .* mean 'note'\?"),
    "a size that is none": ({"max_result_bytes": 0}, "max_result_bytes=0: pass a whole number"),
}


@pytest.mark.parametrize("name", DECLARED)
def test_a_wrong_option_is_an_error_at_its_declaration(name):
    """The message names the option, what was given, and what to give."""
    options, words = DECLARED[name]
    with pytest.raises(ConfigurationError, match=words):
        task(helper, **options)


@pytest.mark.parametrize(
    "nothing", [print, lambda: 1, 1], ids=["a builtin", "a lambda", "a number"]
)
def test_what_is_no_function_is_not_wrapped(nothing):
    """A task needs a function with a name that workers can find it by."""
    with pytest.raises(ConfigurationError, match="wraps plain functions made with def"):
        task(nothing)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"max_attempts": 0}, "max_attempts must be an integer of 1 or more"),
        ({"initial": "1 s"}, "initial must be a number of seconds"),
        ({"retry_on": ["ValueError"]}, "retry_on must hold exception types"),
    ],
)
def test_a_wrong_policy_is_an_error_too(options, words):
    """A retry policy says which of its options makes no sense."""
    with pytest.raises(ConfigurationError, match=words):
        RetryPolicy(**options)


CALLED = {
    "a queue that is no text": (lambda: add.using(queue=5).enqueue(1, 2), "queue=5: pass a text"),
    "a queue that is too long": (
        lambda: add.using(queue="q" * 129).enqueue(1, 2),
        "pass a text of 1 to 128",
    ),
    "a queue with a surrogate": (
        lambda: add.apply_async((1, 2), queue="\ud800"),
        r"queue='\\ud800': pass a text",
    ),
    "a priority that is none": (
        lambda: add.using(priority=10).enqueue(1, 2),
        "priority=10: a priority is",
    ),
    "Celery's priority of 255": (
        lambda: add.apply_async((1, 2), priority=255),
        "priority=255: a priority is",
    ),
    "a time that is a text": (
        lambda: add.using(run_after="tomorrow").enqueue(1, 2),
        "run_after must be a number of seconds or a timedelta.*A datetime is fine too",
    ),
    "a time before now": (
        lambda: add.using(run_after=timedelta(days=-1)).enqueue(1, 2),
        "run_after must lie between 0 and 3650 days",
    ),
    "an expiry that is a list": (
        lambda: add.using(expires=[]).enqueue(1, 2),
        "expires must be a number of seconds",
    ),
    "an empty key": (
        lambda: add.using(idempotency_key="").enqueue(1, 2),
        "The idempotency key of .*add must be a text of 1 to 255",
    ),
    "a key that is no text": (
        lambda: add.using(idempotency_key=5).enqueue(1, 2),
        "must be a text of 1 to 255",
    ),
    "a key that is too long": (
        lambda: record_once.enqueue("k" * 300),
        "must be a text of 1 to 255",
    ),
    "a key with NUL": (
        lambda: add.using(idempotency_key="a\0").enqueue(1, 2),
        "holds NUL or a lone surrogate",
    ),
    "a key with a surrogate": (
        lambda: add.using(idempotency_key="a\ud800").enqueue(1, 2),
        "holds NUL or a lone surrogate",
    ),
    "an owner that is none": (
        lambda: add.using(owner="nobody").enqueue(1, 2),
        "owner='nobody' is neither a user nor the primary key of one",
    ),
    "an id that is no UUID": (
        lambda: add.apply_async((1, 2), task_id="mine"),
        "task_id='mine' is no UUID",
    ),
    "a header that is an object": (
        lambda: add.apply_async((1, 2), headers={"a": object()}),
        "Headers and callbacks are kept with the row, as JSON",
    ),
}


@pytest.mark.django_db
@pytest.mark.parametrize("name", CALLED)
def test_a_wrong_option_of_a_call_costs_the_caller_nothing(name):
    """The message names the option; what else is in the transaction commits."""
    call, words = CALLED[name]
    with transaction.atomic():
        with pytest.raises((ConfigurationError, InvalidArgument), match=words):
            call()
        Effect.objects.create(note="after")
        add.enqueue(1, 2)
    assert Effect.objects.count() == Outcome.objects.count() == 1


def test_an_unknown_option_of_a_call_names_the_nearest():
    """`using` knows its names."""
    with pytest.raises(ConfigurationError, match=r"'que'\. Did you mean 'queue'\?"):
        add.using(que="other")


@pytest.mark.django_db
def test_a_key_of_no_argument_is_told_at_the_call():
    """The format string's own error would not say whose key it is."""
    options = read_options({"idempotency_key": "{order}"}, inspect.signature(helper))
    with pytest.raises(ConfigurationError, match=r"\{order\}' of shop\.pay names what is no"):
        enqueue(Call("shop.pay", options, (1,), {}))


@pytest.mark.django_db
def test_an_owner_is_a_user_or_its_primary_key():
    """Both say the same."""
    user = User.objects.create(username="ada")
    for owner in (user, user.pk, str(user.pk)):
        assert Outcome.objects.get(pk=add.using(owner=owner).enqueue(1, 2).pk).owner == user


@pytest.mark.django_db
def test_the_replay_of_an_unknown_task_names_the_nearest():
    """A task that was renamed is missed by its old name."""
    outcome = failed(add.enqueue(1, 2))
    rewritten(outcome, task_name="tests.testapp.helpers.ad")
    words = r"No task 'tests\.testapp\.helpers\.ad' is registered here\. Did you mean '.*add'\?"
    with pytest.raises(ConfigurationError, match=words):
        outcome.replay()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"LEASE": "long"}, r"TASKS_APP\['LEASE'\] is 'long': "),
        ({"LEASE": 0}, r"TASKS_APP\['LEASE'\] is 0: must be longer than zero"),
        ({"ATOMIC": 1}, r"TASKS_APP\['ATOMIC'\] is 1: must be True or False"),
        ({"MAX_ARGUMENT_BYTES": "1k"}, r"TASKS_APP\['MAX_ARGUMENT_BYTES'\] is '1k': must be a"),
        ([], "TASKS_APP is .*: it must be a dict"),
    ],
)
def test_a_wrong_setting_is_told_when_it_is_read(given, words, settings):
    """`check` says so before; a call that needs the setting says so too."""
    settings.TASKS_APP = given
    with pytest.raises(ConfigurationError, match=words):
        getattr(conf, next(iter(given), "LEASE"))
