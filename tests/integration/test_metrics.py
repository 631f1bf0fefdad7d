"""
Metrics: that they move by what happened, what a scrape costs, and what no label may hold.

Stock is taken in this process where a test needs to know when; that workers and beat do it by
themselves is seen once.
"""

from __future__ import annotations

import json
import os
from datetime import timedelta

import pytest
from django.db import DatabaseError, connection
from django.db.models import F
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone
from django_celery_beat.models import IntervalSchedule, PeriodicTask
from prometheus_client.parser import text_string_to_metric_families

from tasks_app import outcomes, prune, pulse, queues, rescue, signals, stock
from tasks_app.exceptions import Snooze
from tasks_app.models import Attempt, Heartbeat, Outcome, Slot, Stock
from tests import by_hand
from tests.integration.command_line import claimed, failed
from tests.processes import start_beat, start_worker
from tests.testapp import tasks
from tests.waiting import wait_until

pytestmark = pytest.mark.django_db(transaction=True)

PATIENCE = 60

TOKEN = "only-for-the-scraper"


@pytest.fixture(autouse=True)
def open_metrics(settings):
    settings.TASKS_APP = {**settings.TASKS_APP, "METRICS_TOKEN": TOKEN}


def scrape():
    """Return every sample by name, with its labels in brackets: first the task, if there is one."""
    page = Client().get(reverse("tasks_app:metrics"), headers={"Authorization": f"Bearer {TOKEN}"})
    assert page.status_code == 200
    return {
        f"{sample.name}({','.join(inside(sample.labels))})": sample.value
        for family in text_string_to_metric_families(page.content.decode())
        for sample in family.samples
    }


def inside(labels):
    return [labels[name] for name in sorted(labels, reverse=True)]


def take():
    Stock.objects.bulk_create([Stock(pk=stock.ROW)], ignore_conflicts=True)
    assert stock.take()


def let_settle():
    """Make a minute pass for whatever has ended."""
    past = timedelta(minutes=2)
    Outcome.objects.filter(finished_at__isnull=False).update(finished_at=F("finished_at") - past)
    Stock.objects.update(counted_until=F("counted_until") - past)
    Attempt.objects.update(
        finished_at=F("finished_at") - past,
        started_at=F("started_at") - past,
        due_at=F("due_at") - past,
    )


def act():
    """Let some of everything happen."""
    for number in range(3):
        by_hand.answer(tasks.add.enqueue(number, 1))
    failed(tasks.add.enqueue(1, 1))
    outcomes.cancel(tasks.total.enqueue([1]).pk)
    tasks.add.using(run_after=3600).enqueue(1, 1)
    claimed(tasks.record_late.enqueue("key"))


ADD, TOTAL = tasks.add.name, tasks.total.name


@pytest.mark.parametrize("settled", [False, True])
def test_metrics_tell_what_is_there(settled):
    """Outcomes by task and state, runs, waits and queues, whether long ago or just now."""
    act()
    if settled:
        let_settle()
    take()
    seen = scrape()
    assert seen[f"tasks_app_outcomes({ADD},succeeded)"] == 3
    assert seen[f"tasks_app_outcomes({ADD},failed)"] == 1
    assert seen[f"tasks_app_outcomes({ADD},pending)"] == 1
    assert seen[f"tasks_app_outcomes({TOTAL},cancelled)"] == 1
    assert seen[f"tasks_app_outcomes({tasks.record_late.name},running)"] == 1
    assert seen[f"tasks_app_finished_total({ADD},succeeded)"] == 3
    assert seen[f"tasks_app_attempts_total({ADD},succeeded)"] == 3
    assert seen[f"tasks_app_run_seconds_count({ADD})"] == 4
    assert seen[f"tasks_app_wait_seconds_bucket({ADD},+Inf)"] == 4
    assert 0 <= seen[f"tasks_app_wait_seconds_sum({ADD})"] < 60
    assert seen["tasks_app_queue_depth(celery)"] == 1
    assert seen["tasks_app_running_leases()"] == 1
    assert seen["tasks_app_expired_leases()"] == 0
    assert 0 <= seen["tasks_app_stock_age_seconds()"] < 60


def test_what_is_counted_once_is_not_counted_again():
    """However often stock is taken, and whenever a thing settles between."""
    act()
    for _ in range(2):
        take()
    let_settle()
    for _ in range(2):
        take()
    by_hand.answer(tasks.add.enqueue(1, 1))
    for _ in range(2):
        take()
    seen = scrape()
    assert seen[f"tasks_app_finished_total({ADD},succeeded)"] == 4
    assert seen[f"tasks_app_run_seconds_count({ADD})"] == 5
    assert seen[f"tasks_app_outcomes({TOTAL},cancelled)"] == 1


def test_a_paused_queue_is_told_and_lags_behind_nobody():
    """Rows that wait on purpose wake nobody up at night."""
    tasks.add.enqueue(1, 1)
    Outcome.objects.update(announce_at=F("announce_at") - timedelta(minutes=9))
    take()
    seen = scrape()
    assert seen["tasks_app_queue_paused(celery)"] == 0
    assert seen["tasks_app_relay_lag_seconds(celery)"] > 500
    queues.pause("celery")
    seen = scrape()
    assert seen["tasks_app_queue_paused(celery)"] == 1
    assert seen["tasks_app_relay_lag_seconds(celery)"] == 0


def test_pruning_lowers_what_is_there_and_no_counter(settings):
    """A gauge follows the table, a counter never falls."""
    act()
    let_settle()
    take()
    settings.TASKS_APP = {**settings.TASKS_APP, "RETENTION": {"succeeded": 1}}
    assert sum(prune.prune()) == 3
    seen = scrape()
    assert seen[f"tasks_app_outcomes({ADD},succeeded)"] == 0
    assert seen[f"tasks_app_finished_total({ADD},succeeded)"] == 3
    take()
    assert scrape()[f"tasks_app_outcomes({ADD},succeeded)"] == 0


def test_waits_and_runs_fall_into_their_buckets():
    """A wait of half a minute is no wait of ten seconds."""
    by_hand.answer(tasks.add.enqueue(1, 1))
    Attempt.objects.update(due_at=F("started_at") - timedelta(seconds=20))
    take()
    seen = scrape()
    assert seen[f"tasks_app_wait_seconds_bucket({ADD},10)"] == 0
    assert seen[f"tasks_app_wait_seconds_bucket({ADD},30)"] == 1
    assert seen[f"tasks_app_wait_seconds_sum({ADD})"] == 20


def test_an_attempt_of_older_code_has_no_wait():
    """It did not write since when it was due."""
    by_hand.answer(tasks.add.enqueue(1, 1))
    Attempt.objects.update(due_at=None)
    take()
    seen = scrape()
    assert seen[f"tasks_app_wait_seconds_count({ADD})"] == 0
    assert seen[f"tasks_app_run_seconds_count({ADD})"] == 1


def test_each_end_of_a_run_keeps_since_when_it_was_due():
    """Success and failure alike."""
    outcome = tasks.add.enqueue(1, 1)
    by_hand.answer(outcome)
    failed(tasks.add.enqueue(1, 1))
    paused = tasks.add.enqueue(1, 1)

    def helper(*args):
        raise Snooze(after=9)

    with pytest.raises(BaseException):  # noqa: B017, PT011 - a worker hears of every end
        by_hand.answer(paused, helper)
    assert Attempt.objects.filter(due_at__lte=F("started_at")).count() == 3


def test_ages_grow_while_nobody_works():
    """The oldest due outcome, and the oldest that no relay has announced."""
    outcome = tasks.add.enqueue(1, 1)
    Outcome.objects.filter(pk=outcome.pk).update(
        run_at=F("run_at") - timedelta(seconds=500),
        announce_at=F("announce_at") - timedelta(seconds=300),
    )
    take()
    seen = scrape()
    assert 500 <= seen["tasks_app_oldest_due_age_seconds(celery)"] < 560
    assert 300 <= seen["tasks_app_relay_lag_seconds(celery)"] < 360


def test_a_dead_lease_shows_until_it_is_rescued():
    """And its rescue is counted."""
    outcome = claimed(tasks.add.enqueue(1, 1))
    by_hand.let_lease_run_out(outcome)
    take()
    assert scrape()["tasks_app_expired_leases()"] == 1
    assert rescue.run_once() == 1
    take()
    seen = scrape()
    assert seen["tasks_app_expired_leases()"] == 0
    assert seen[f"tasks_app_rescued_total({ADD})"] == 1


def test_no_label_holds_an_id_an_argument_or_an_unknown_name():
    """Tasks and queues that nobody has declared are one."""
    for name, queue in (("gone.away", "celery"), ("gone.too", "somewhere"), (ADD, "elsewhere")):
        outcome = tasks.add.using(queue=queue).enqueue(41_424_344, 1)
        Outcome.objects.filter(pk=outcome.pk).update(task_name=name)
    take()
    seen = scrape()
    assert seen["tasks_app_outcomes(other,pending)"] == 2
    assert seen["tasks_app_queue_depth(other)"] == 2
    text = str(list(seen))
    for secret in ("41424344", str(outcome.pk), outcome.request_id, "gone", "elsewhere"):
        assert secret not in text


def test_a_scrape_costs_at_most_ten_statements():
    """And no more with more tasks, queues, processes and schedules."""
    act()
    take()
    scrape()
    with CaptureQueriesContext(connection) as few:
        scrape()
    every = IntervalSchedule.objects.create(every=1, period=IntervalSchedule.HOURS)
    for number in range(5):
        PeriodicTask.objects.create(name=f"s{number}", task=ADD, interval=every)
        tasks.add.using(queue=f"q{number}").enqueue(1, 1)
        pulse.beat(f"worker{number}", "worker")
    act()
    take()
    with CaptureQueriesContext(connection) as many:
        scrape()
    assert len(few) == len(many) <= 10


def test_dropped_messages_of_children_count():
    """A child's drops reach the process that forked it, which adds them to the totals."""
    take()
    drops = pulse.Drops()
    child = os.fork()
    if not child:
        try:
            drop(is_refused=True)
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    drop()
    taken = drops.take()
    assert taken == {"refused": 1, "unneeded": 1}
    assert drops.take() == {}
    for _ in range(2):
        stock.add({"dropped": taken})
    assert scrape()["tasks_app_dropped_messages_total(refused)"] == 2


def drop(**more):
    signals.dropped.send_robust(None, task_name="", outcome_id="", why="a reason", **more)


def test_only_one_process_takes_stock_at_a_time(settings):
    """The others leave it to the next turn; a process that dies in between costs one turn."""
    settings.TASKS_APP = {**settings.TASKS_APP, "METRICS_INTERVAL": 3600}
    assert [stock.StockTaker().take_if_due() for _ in range(3)] == [False, True, False]
    before = Stock.objects.get()
    assert not stock.StockTaker().take_if_due()
    assert Stock.objects.get().taken_at == before.taken_at


def test_a_count_that_was_overtaken_is_thrown_away(monkeypatch):
    """Nothing is added twice by two that counted the same."""
    act()
    let_settle()
    take()
    count = stock._present
    monkeypatch.setattr(stock, "_present", lambda now: (overtake(), count(now))[1])

    def overtake():
        monkeypatch.setattr(stock, "_present", count)
        take()

    assert not stock.take()
    assert scrape()[f"tasks_app_finished_total({ADD},succeeded)"] == 3


def test_a_schedules_success_is_told_by_its_name():
    """As far as its calls say whose they are; one that is gone is not shown."""
    every = IntervalSchedule.objects.create(every=1, period=IntervalSchedule.HOURS)
    PeriodicTask.objects.create(name="nightly", task=ADD, interval=every)
    for name in ("nightly", "gone"):
        result = tasks.add.apply_async((1, 2), headers={"periodic_task_name": name})
        by_hand.answer(Outcome.objects.get(pk=result.id))
    take()
    seen = scrape()
    finished = Outcome.objects.order_by("finished_at").first().finished_at.timestamp()
    told = seen["tasks_app_schedule_last_success_timestamp_seconds(nightly)"]
    assert told == pytest.approx(finished, abs=1)
    assert "gone" not in str(list(seen))


def test_slots_that_were_missed_are_counted_by_their_schedule():
    """Each once, however often stock is taken; those of a schedule that is gone are not shown."""
    every = IntervalSchedule.objects.create(every=1, period=IntervalSchedule.HOURS)
    PeriodicTask.objects.create(name="nightly", task=ADD, interval=every)
    now = timezone.now()
    for number, (name, decision) in enumerate(
        [("nightly", "missed"), ("nightly", "missed"), ("nightly", "fired"), ("gone", "missed")]
    ):
        decided_at = now - timedelta(hours=1) if number else now
        slot_at = now - timedelta(hours=number)
        Slot.objects.create(
            entry_id=1, slot_at=slot_at, name=name, decision=decision, decided_at=decided_at
        )
    for _ in range(2):
        take()
        seen = scrape()
        assert seen["tasks_app_schedule_missed_total(nightly)"] == 2
        assert "gone" not in str(list(seen))


def test_workers_and_beat_count_and_beat_by_themselves(tmp_path):
    """Heartbeats, stock and the liveness file come from the processes that a site runs anyway."""
    file = tmp_path / "alive"
    given = json.dumps({"METRICS_INTERVAL": 0.5, "LIVENESS_FILE": str(file)})
    with (
        start_worker(tmp_path, concurrency=1, environment={"TASKS_TEST_SETTINGS": given}) as worker,
        start_beat(tmp_path),
    ):
        tasks.add.enqueue(1, 2).get(PATIENCE)
        wait_until(
            lambda: scrape().get(f"tasks_app_finished_total({ADD},succeeded)") == 1,
            PATIENCE,
            worker.tail,
        )
        wait_until(file.exists, PATIENCE, worker.tail)
        wait_until(lambda: Heartbeat.objects.count() == 2, PATIENCE, worker.tail)
        ages = scrape()
    told = {row.kind: json.loads(row.about_json) for row in Heartbeat.objects.all()}
    assert told["beat"]["pid"] != told["worker"]["pid"]
    assert (told["worker"]["concurrency"], told["worker"]["queues"]) == (1, ["celery"])
    for kind in ("worker", "beat"):
        assert ages[f"tasks_app_heartbeat_age_seconds({kind})"] < PATIENCE


def test_the_liveness_file_is_touched_only_while_the_process_works(settings, tmp_path):
    """A loop or a relay that hangs lets it grow old."""
    file = tmp_path / "alive"
    settings.TASKS_APP = {"LIVENESS_FILE": str(file)}
    pulse.Pulse("w", "worker", lambda: False).turn()
    assert not file.exists()
    assert not Heartbeat.objects.exists()
    pulse.Pulse("w", "worker", lambda: True).turn()
    assert file.exists()
    assert Heartbeat.objects.get().kind == "worker"
    os.utime(file, (0, 0))
    pulse.touch()
    assert file.stat().st_mtime > 1_000


def test_probes_tell_a_process_from_its_database(monkeypatch):
    """A process without a database is up and not ready, and says nothing of why."""
    assert Client().get(reverse("tasks_app:healthz")).content == b"ok\n"
    ready = Client().get(reverse("tasks_app:readyz"))
    assert (ready.status_code, ready.json()) == (200, {"database": "ok", "migrations": "ok"})

    def refuse(*args):
        raise DatabaseError("password=secret")

    with connection.execute_wrapper(refuse), CaptureQueriesContext(connection) as asked:
        assert Client().get(reverse("tasks_app:healthz")).status_code == 200
        assert not asked
        away = Client().get(reverse("tasks_app:readyz"))
    assert away.status_code == 503
    assert "secret" not in away.content.decode()
