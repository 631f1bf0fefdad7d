"""
One request id for all that a request causes, whichever way it is caused.

Each test enqueues with an id, as a request's code would, and lets a worker's own functions answer
in a context that knows nothing of it. The id must be on every row and in every attempt.
"""

from __future__ import annotations

import contextvars
from collections import Counter
from datetime import timedelta
from uuid import UUID

import pytest
from celery import chain, chord, group
from django.core.management import call_command
from django.core.management.base import BaseCommand
from django.db import transaction
from django.db.models.functions import Now
from django_celery_beat.models import IntervalSchedule, PeriodicTask
from django_celery_beat.schedulers import DatabaseScheduler

import tasks_app
from tasks_app import context, outcomes, rescue
from tasks_app.models import Outcome
from tasks_app.states import FINAL
from tests import by_hand, trail
from tests.integration.command_line import claimed
from tests.project import app
from tests.testapp.tasks import add, note_descent, note_ids, total

pytestmark = pytest.mark.django_db

REQUEST = "request-of-this-test"


@pytest.fixture
def request_id():
    """The id that the code of a test works for."""
    with context.working_for(REQUEST, None):
        yield REQUEST
    assert tasks_app.request_id() is None


@pytest.fixture
def key(request):
    """A name that belongs to one test."""
    return request.node.name


@pytest.fixture
def eager():
    """Celery runs each call at once, in this process."""
    app.conf.task_always_eager = True
    yield
    app.conf.task_always_eager = False


def work_off():
    """Answer for everything that waits, one after the other, until nothing is left to do."""

    def answer_all():
        while waiting := list(Outcome.objects.exclude(state__in=FINAL)):
            for outcome in waiting:
                outcomes.run_now(outcome.pk)
                try:
                    by_hand.answer(outcome)
                except Exception:  # noqa: BLE001 - what it means is in the row
                    assert tasks_app.request_id() is None
                assert tasks_app.request_id() is None
                assert context.lineage() is None

    in_worker(answer_all)


def in_worker(act):
    """Do an act with a context as empty as a worker's."""
    return contextvars.Context().run(act)


def ids_on_rows():
    """Return the ids of all rows, one per row."""
    return list(Outcome.objects.order_by("created_at").values_list("request_id", flat=True))


def ids_in_runs(key):
    """Return the ids that the attempts saw, one per attempt."""
    return [line["ours"] for line in trail.left(key)]


def test_children_at_any_depth_have_the_id(request_id, key):
    """What a task enqueues belongs to the request that enqueued the task."""
    note_descent.enqueue(key, 3)
    work_off()
    assert ids_on_rows() == ids_in_runs(key) == [request_id] * 4


def test_each_attempt_of_a_retried_task_has_the_id(request_id, key):
    """The row keeps it between attempts."""
    note_ids.enqueue(key=key, until=3)
    work_off()
    assert ids_in_runs(key) == [request_id] * 3


def test_a_rescued_task_has_the_id_when_it_runs_again(request_id, key):
    """The worker that dies takes nothing with it."""
    by_hand.let_lease_run_out(claimed(note_ids.enqueue(key=key)))
    assert in_worker(rescue.run_once) == 1
    work_off()
    assert ids_in_runs(key) == [request_id]


def test_a_replay_has_the_id_of_the_original(key):
    """Whoever asks for it, on whatever day."""
    with context.working_for(REQUEST, None):
        original = note_ids.enqueue(key=key)
    work_off()
    with context.working_for("request-of-an-operator", None):
        original.refresh()
        original.replay()
    work_off()
    assert ids_on_rows() == ids_in_runs(key) == [REQUEST] * 2


def test_every_link_of_a_chain_has_the_id(request_id, key):
    """Also those that exist only when the one before has succeeded."""
    chain(note_ids.s(key=key), note_ids.s(key=key), note_ids.s(key=key)).apply_async()
    work_off()
    assert ids_on_rows() == ids_in_runs(key) == [request_id] * 3


def test_the_members_of_a_group_that_no_request_causes_share_an_id():
    """Nor a task, nor a command: Celery enqueues them one by one, and they belong together."""
    group(add.s(number, 1) for number in range(3)).apply_async()
    group(add.s(number, 1) for number in range(2)).apply_async()
    ids = Counter(Outcome.objects.values_list("request_id", flat=True))
    assert sorted(ids.values()) == [2, 3]


def test_every_member_of_a_group_has_the_id(request_id, key):
    """The members are siblings: none is enqueued by another."""
    group(note_ids.s(key=key) for _ in range(3)).apply_async()
    work_off()
    assert ids_on_rows() == ids_in_runs(key) == [request_id] * 3


def test_the_body_of_a_chord_has_the_id(request_id, key):
    """It is enqueued by whichever member ends last."""
    chord([note_ids.s(key=key, until=2), note_ids.s(key=key)])(note_ids.s(key=key))
    work_off()
    assert ids_on_rows() == [request_id] * 3
    assert ids_in_runs(key) == [request_id] * 4


@pytest.mark.parametrize("until", [1, 9], ids=["callback", "errback"])
def test_links_have_the_id(request_id, key, until):
    """Whether the task succeeds or fails."""
    linked = note_ids.si(key=f"{key}-linked")
    note_ids.apply_async(kwargs={"key": key, "until": until}, link=linked, link_error=linked)
    work_off()
    assert ids_on_rows() == [request_id] * 2
    assert ids_in_runs(f"{key}-linked") == [request_id]


@pytest.mark.parametrize("ended_by", ["rescuer", "operator"])
def test_an_errback_has_the_id_whoever_ends_the_task(key, settings, ended_by):
    """A rescuer has no request, and an operator has one of his own."""
    settings.TASKS_APP = {"MAX_CRASHES": 1}
    with context.working_for(REQUEST, None):
        note_ids.apply_async(kwargs={"key": key}, link_error=note_ids.si(key=f"{key}-linked"))
    outcome = Outcome.objects.get()
    if ended_by == "rescuer":
        by_hand.let_lease_run_out(claimed(outcome))
        in_worker(rescue.run_once)
    else:
        with context.working_for("request-of-an-operator", None):
            assert outcome.cancel()
    work_off()
    assert ids_on_rows() == [REQUEST] * 2
    assert ids_in_runs(f"{key}-linked") == [REQUEST]
    assert set(Outcome.objects.values_list("root_id", flat=True)) == {outcome.pk}


def test_bulk_enqueue_captures_the_id(request_id, key):
    """Every row of one bulk write has it."""
    note_ids.enqueue_many([{"key": key}] * 3)
    work_off()
    assert ids_on_rows() == ids_in_runs(key) == [request_id] * 3


@pytest.mark.parametrize("call", ["delay", "apply_async"])
def test_celerys_ways_to_call_capture_the_id(request_id, key, call):
    """They are the same path."""
    if call == "delay":
        note_ids.delay(key=key)
    else:
        note_ids.apply_async((), {"key": key}, countdown=60, headers={"request_id": "another-one"})
    work_off()
    assert ids_on_rows() == ids_in_runs(key) == [request_id]


@pytest.mark.django_db(transaction=True)
def test_each_slot_of_beat_has_an_id_of_its_own(key):
    """One of the schedule's times has nothing to do with the next; beat closes its connections."""
    every = IntervalSchedule.objects.create(every=1, period=IntervalSchedule.SECONDS)
    PeriodicTask.objects.create(
        name="ids",
        task=note_ids.name,
        interval=every,
        kwargs=f'{{"key": "{key}"}}',
        last_run_at=Now() - timedelta(hours=1),
    )
    scheduler = DatabaseScheduler(app=app)
    for _ in range(2):
        (entry,) = (entry for entry in scheduler.schedule.values() if entry.name == "ids")
        scheduler.apply_entry(entry)
    assert tasks_app.request_id() is None
    work_off()
    assert len(set(ids_on_rows())) == 2
    assert set(ids_in_runs(key)) == set(ids_on_rows())


class Command(BaseCommand):
    """A command that enqueues twice."""

    def handle(self, *args, **options):
        """Enqueue."""
        add.enqueue(1, 2)
        add.enqueue_many([(3, 4)])


def test_each_run_of_a_management_command_has_one_id():
    """All that it enqueues has it, and the next run has another."""
    for _ in range(2):
        call_command(Command())
        assert tasks_app.request_id() is None
    first, second, third, fourth = ids_on_rows()
    assert first == second != third == fourth


def test_a_command_that_a_request_calls_works_for_the_request(request_id):
    """Its rows belong to whoever is waiting for them."""
    call_command(Command())
    assert ids_on_rows() == [request_id] * 2


def test_a_shell_has_one_id():
    """What is typed into one shell belongs together."""
    lines = "from tests.testapp.tasks import add; add.enqueue(1, 2); add.enqueue(3, 4)"
    call_command("shell", command=lines)
    first, second = ids_on_rows()
    assert first == second
    assert tasks_app.request_id() is None


def test_a_command_that_serves_others_has_no_id():
    """It would be the id of everybody whom it serves."""
    serving = type("Command", (Command,), {"__module__": "shop.management.commands.runserver"})
    call_command(serving())
    first, second = ids_on_rows()
    assert first != second


def test_rounds_of_a_loop_can_have_ids_of_their_own(request_id):
    """A listener that never ends says where its next piece of work begins."""
    for _ in range(2):
        with tasks_app.own_request_id() as made:
            assert tasks_app.request_id() == made
            add.enqueue(1, 2)
            add.enqueue(3, 4)
    first, second, third, fourth = ids_on_rows()
    assert first == second != third == fourth
    assert request_id not in {first, third}


@pytest.mark.django_db(transaction=True)
def test_a_thread_started_with_the_context_has_the_id(request_id, key):
    """`contextvars.copy_context().run` hands it over; a bare thread starts with none."""
    seen = []

    def look():
        seen.append((tasks_app.request_id(), add.enqueue(1, 2).request_id))

    here = contextvars.copy_context()
    by_hand.elsewhere(lambda: here.run(look))
    by_hand.elsewhere(look)
    assert seen[0] == (request_id, request_id)
    assert seen[1][0] is None
    assert seen[1][1] != request_id


@pytest.mark.usefixtures("eager")
def test_an_eager_task_has_the_id_and_leaves_the_callers_alone(request_id, key):
    """`task_always_eager`: the row has it, the run sees it, and the request goes on with it."""
    note_descent.enqueue(key, 2)
    assert ids_on_rows() == ids_in_runs(key) == [request_id] * 3
    assert tasks_app.request_id() == request_id
    assert context.lineage() is None


@pytest.mark.usefixtures("eager")
def test_an_eager_task_without_a_request_leaves_no_id_behind(key):
    """What it made for itself goes with it, also if it fails."""
    note_descent.enqueue(key, 1)
    note_ids.enqueue(key=key, until=9)
    assert tasks_app.request_id() is None
    first, second, third = ids_on_rows()
    assert first == second != third


@pytest.mark.usefixtures("eager")
def test_eager_bulk_enqueue_has_one_id(key):
    """As the rows of one bulk write have."""
    note_ids.enqueue_many([{"key": key}] * 2)
    assert len(set(ids_on_rows())) == 1


def test_apply_has_the_id_of_its_caller(request_id, key):
    """A task that is called past its outbox works for the request all the same."""
    assert note_ids.apply((), {"key": key}).get() == request_id
    assert tasks_app.request_id() == request_id


def test_apply_without_a_request_has_an_id_of_its_own(key):
    """All that it enqueues has the same one, and the caller has none afterwards."""
    note_descent.apply((key, 1))
    work_off()
    (seen, child) = ids_in_runs(key)
    assert seen == child
    assert ids_on_rows() == [seen]
    assert tasks_app.request_id() is None


def test_one_task_leaves_nothing_for_the_next_in_its_process(key):
    """Two requests' tasks, one after the other in one thread, whether they fail or not."""
    for name in ("first-request", "second-request"):
        with context.working_for(name, None):
            note_ids.enqueue(key=key, until=9)
            note_ids.enqueue(key=key)
    work_off()
    seen = [(line["ours"], line["attempt"]) for line in trail.left(key)]
    assert sorted(seen) == sorted(
        (name, attempt) for name in ("first-request", "second-request") for attempt in (1, 1, 2, 3)
    )


def test_a_requests_outcomes_come_parents_first(request_id, key):
    """Through children, a chain and a chord, in the order of enqueueing."""
    steps = chain(note_ids.s(key=key), group(add.si(1, 1), add.si(2, 2)), total.s())
    note_descent.enqueue(key, 3)
    steps.apply_async()
    work_off()
    found = list(Outcome.objects.for_request(request_id))
    assert len(found) == 8
    places = {outcome.pk: place for place, outcome in enumerate(found)}
    assert all(
        places[outcome.parent_id] < place
        for place, outcome in enumerate(found)
        if outcome.parent_id is not None
    )
    assert found == sorted(found, key=lambda outcome: outcome.created_at)


def test_within_a_tick_of_the_clock_the_order_is_that_of_enqueueing(request_id):
    """A database that reads the clock once for many rows does not mix them."""
    with transaction.atomic():
        expected = [add.enqueue(number, 0).pk for number in range(20)]
        expected += add.enqueue_many([(number, 1) for number in range(20)])
    Outcome.objects.update(created_at=Now())
    assert [outcome.pk for outcome in Outcome.objects.for_request(request_id)] == expected


def test_within_a_tick_of_the_clock_the_root_comes_first(request_id):
    """Celery gives the links of a chain ids that say nothing of their age."""
    root = add.enqueue(1, 2)
    early = add.apply_async((3, 4), task_id=str(UUID(int=1)), root_id=root.pk, parent_id=root.pk)
    Outcome.objects.update(created_at=Now())
    found = [str(outcome.pk) for outcome in Outcome.objects.for_request(request_id)]
    assert found == [str(root.pk), early.id]
