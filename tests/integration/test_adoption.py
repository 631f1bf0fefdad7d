"""An existing Celery project gets outcomes by its settings alone: `tests/adopted`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from uuid import uuid4

import pytest

from tasks_app.models import Outcome
from tests.processes import ROOT, start_worker
from tests.testapp.models import Effect
from tests.waiting import wait_until

pytestmark = pytest.mark.django_db(transaction=True)

#: Seconds that anything may take on a busy machine.
PATIENCE = 60

SETTINGS = {"DJANGO_SETTINGS_MODULE": "tests.adopted.settings"}

#: What comes before each caller's own lines, and after them: it tells what it has left in `told`.
PROLOGUE = """
import json, django
django.setup()
from django.db import transaction
from tests.adopted.celery import app
from tests.adopted.tasks import *
key, told = {key!r}, None
"""
EPILOGUE = "\nprint(json.dumps(told))"


@pytest.fixture
def key():
    """A name that belongs to one test."""
    return uuid4().hex


@pytest.fixture
def worker(tmp_path):
    """A worker of the project."""
    with start_worker(
        tmp_path, name="adopted", app="tests.adopted", pool="threads", environment=SETTINGS
    ) as process:
        yield process


def call(key, lines):
    """Run lines of the project's code in a process of its own; return what they left in `told`."""
    done = subprocess.run(
        [sys.executable, "-c", PROLOGUE.format(key=key) + lines + EPILOGUE],
        cwd=ROOT,
        env={**os.environ, **SETTINGS, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def final(outcome_id):
    """Wait for an outcome's end and return it."""
    outcome = Outcome.objects.get(pk=outcome_id)

    def look():
        outcome.refresh()
        return outcome.is_final

    wait_until(look, PATIENCE, lambda: f"the end of {outcome!r}")
    return outcome


def notes(key):
    """Return what the tasks have left for a key."""
    return list(Effect.objects.filter(key=key).order_by("pk").values_list("note", flat=True))


@pytest.mark.usefixtures("worker")
def test_calls_of_existing_tasks_have_outcomes(key):
    """Each of Celery's ways to call leaves a row that ends as its task does."""
    ids = call(
        key,
        "told = [r.id for r in (add.delay(1, 2), add.apply_async((3,), {'b': 4}), add.s(5).delay(),"
        " named.delay(key))]",
    )
    first, second, third, fourth = map(final, ids)
    assert [outcome.result for outcome in (first, second, third)] == [3, 7, 5]
    assert (fourth.task_name, fourth.state, notes(key)) == ("adopted.named", "succeeded", ["named"])
    assert (first.task_name, first.queue) == ("tests.adopted.tasks.add", "adopted")
    assert first.attempts.get().state == "succeeded"


@pytest.mark.usefixtures("worker")
def test_existing_tasks_carry_the_request_id(key):
    """On their rows, over Celery's own retries, and to the tasks that they call themselves."""
    lines = """
from tasks_app import context
with context.working_for("adopted-request", None):
    told = [r.id for r in (add_elsewhere.delay(1, 2), retry_itself.delay(key))]
"""
    parent, retried = map(final, call(key, lines))
    child = final(parent.result)
    assert {each.request_id for each in (parent, child, retried)} == {"adopted-request"}
    assert (child.parent_id, child.root_id, retried.result) == (parent.pk, parent.pk, 2)


@pytest.mark.usefixtures("worker")
def test_results_and_canvas_keep_their_meaning(key):
    """Celery's own handles wait and tell as before."""
    told = call(
        key,
        "from celery import chain, chord, group\n"
        "told = [add.delay(1, 2).get(timeout=50),"
        " chain(add.s(1, 2), add.s(3)).delay().get(timeout=50),"
        " group(add.s(n, n) for n in range(3)).delay().get(timeout=50)]",
    )
    assert told == [3, 6, [0, 2, 4]]


def test_a_call_is_part_of_its_callers_transaction(key):
    """The row goes with the rollback, and no broker hears of it."""
    kept = call(
        key,
        "with transaction.atomic():\n"
        "    add.delay(1)\n"
        "    transaction.set_rollback(True)\n"
        "told = add.delay(2).id",
    )
    assert [str(pk) for pk in Outcome.objects.values_list("pk", flat=True)] == [kept]


@pytest.mark.usefixtures("worker")
def test_celerys_own_retry_is_another_attempt_of_the_same_outcome(key):
    """`self.retry` and `self.request` say what they said before."""
    outcome = final(call(key, "told = retry_itself.delay(key).id"))
    assert (outcome.state, outcome.result, outcome.attempt) == ("succeeded", 2, 3)
    assert notes(key) == [f"{number} {outcome.pk}" for number in range(3)]


@pytest.mark.usefixtures("worker")
def test_celerys_rules_of_retry_decide_when_it_is_over(key):
    """`autoretry_for` and `max_retries` hold; then the outcome has failed."""
    outcome = final(call(key, "told = fail_thrice.delay(key).id"))
    assert (outcome.state, outcome.attempt, notes(key)) == ("failed", 3, ["tried"] * 3)
    assert "no luck" in outcome.error


@pytest.mark.usefixtures("worker")
def test_what_an_existing_task_has_committed_stays(key):
    """It is not atomic: code that was written for autocommit keeps its commits."""
    outcome = final(call(key, "told = commit_halfway.delay(key).id"))
    assert (outcome.state, notes(key)) == ("failed", ["first half"])
    assert "second half" in outcome.error


@pytest.mark.usefixtures("worker")
def test_a_message_of_another_service_gets_its_row_on_arrival(key):
    """Who publishes by Celery alone has an outcome all the same, under the message's id."""
    task_id = str(uuid4())
    call(
        key,
        "from celery import Celery\n"
        "from django.conf import settings\n"
        "other = Celery('other', broker=settings.CELERY_BROKER_URL, set_as_current=False)\n"
        f"other.send_task('adopted.named', (key,), task_id={task_id!r}, queue='adopted')",
    )
    wait_until(lambda: Outcome.objects.filter(pk=task_id).exists(), PATIENCE, "the row")
    outcome = final(task_id)
    assert (outcome.state, outcome.args, notes(key)) == ("succeeded", [key], ["named"])


def test_arguments_that_no_row_can_hold_are_refused_at_the_call(key):
    """The call says what to pass, as for a declared task."""
    told = call(
        key,
        "from tasks_app.exceptions import InvalidArgument\n"
        "try:\n"
        "    add.delay({1})\n"
        "except InvalidArgument as error:\n"
        "    told = str(error)",
    )
    assert told == "args[0] is of type set: pass a list."


def test_a_direct_call_stays_a_direct_call(key):
    """Calling the function leaves no row."""
    assert call(key, "told = add(1, 2)") == 3
    assert not Outcome.objects.exists()
