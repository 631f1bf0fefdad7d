"""
Rollups: each end is counted once, in its minute, and quantiles are near what was measured.

Stock is taken in this process; times are written past every guard, as if they had passed.
"""

from __future__ import annotations

import json
import random
import statistics
from datetime import datetime, timedelta

import pytest
from django.db import DatabaseError, connection
from django.db.models import F
from django.test.utils import CaptureQueriesContext

from tasks_app import outcomes, rollups, stock
from tasks_app.histograms import bounds, quantile
from tasks_app.models import Attempt, Outcome, Rollup, Stock
from tests import by_hand
from tests.integration.command_line import failed
from tests.testapp import tasks

pytestmark = pytest.mark.django_db(transaction=True)

ADD, TOTAL = tasks.add.name, tasks.total.name


def take():
    Stock.objects.bulk_create([Stock(pk=stock.ROW)], ignore_conflicts=True)
    assert stock.take()


def let_settle(**passed):
    """Make some time pass for whatever has ended."""
    past = timedelta(**passed) if passed else timedelta(minutes=2)
    Outcome.objects.filter(finished_at__isnull=False).update(finished_at=F("finished_at") - past)
    Attempt.objects.update(
        finished_at=F("finished_at") - past,
        started_at=F("started_at") - past,
        due_at=F("due_at") - past,
    )


def let_time_pass():
    """Make two minutes pass for what has ended and for the count alike."""
    let_settle()
    Stock.objects.update(counted_until=F("counted_until") - timedelta(minutes=2))


def act():
    """End two well, one badly, and one without a run."""
    for number in range(2):
        by_hand.answer(tasks.add.enqueue(number, 1))
    failed(tasks.add.enqueue(1, 1))
    outcomes.cancel(tasks.total.enqueue([1]).pk)


def ended(step, task=""):
    """Return what the rows of a step say has ended, all together."""
    point = rollups.empty()
    for row in Rollup.objects.filter(step=step, task_name=task):
        rollups.add(point, json.loads(row.counts_json))
    return point


def together(points):
    """Return points as one."""
    point = rollups.empty()
    for each in points.values():
        rollups.add(point, each)
    return point


ALL = {"succeeded": 2, "failed": 1, "cancelled": 1}


def test_each_step_counts_all_tasks_and_most_count_each_task():
    """A minute has no rows of tasks; what ended without a run is no attempt."""
    act()
    let_settle()
    take()
    for step in rollups.KEPT:
        point = ended(step)
        assert point["ended"] == ALL
        assert point["attempts"] == {"succeeded": 2, "failed": 1}
        assert sum(point["wait"].values()) == sum(point["run"].values()) == 3
        of_task = {} if step == rollups.MINUTE else {"succeeded": 2, "failed": 1}
        assert ended(step, ADD)["ended"] == of_task
    for row in Rollup.objects.all():
        assert row.start_at.timestamp() % row.step == 0


def test_however_often_stock_is_taken_each_end_counts_once():
    """Before it settles it stands beside the rows, in the same form; then in them."""
    act()
    for _ in range(2):
        take()
        recent = stock.newest_minutes(json.loads(Stock.objects.get().recent_json))
        assert together(recent)["ended"] == ALL
        assert not Rollup.objects.exists()
    let_time_pass()
    for _ in range(3):
        take()
        assert ended(rollups.HOUR)["ended"] == ALL
    act()
    let_time_pass()
    take()
    assert ended(rollups.HOUR)["ended"] == {"succeeded": 4, "failed": 2, "cancelled": 2}
    assert stock.newest_minutes(json.loads(Stock.objects.get().recent_json)) == {}


def test_a_row_takes_more_of_its_own_span():
    """What settles later in the same hour is added to what is there."""
    act()
    outcome = Outcome.objects.filter(state="succeeded").first()
    let_settle()
    take()
    rows = Rollup.objects.count()
    points = rollups.counted(Outcome.objects.filter(pk=outcome.pk), outcome.attempts.all())
    rollups.write(rollups.by_step(points))
    assert Rollup.objects.count() == rows
    assert ended(rollups.HOUR, ADD)["ended"] == {"succeeded": 3, "failed": 1}


def test_rows_and_totals_are_written_together(monkeypatch):
    """A count that cannot write the one writes neither, and the next one counts it all."""
    act()
    let_settle()
    Stock.objects.create(pk=stock.ROW)
    write = rollups.write

    def write_and_fail(points):
        write(points)
        raise DatabaseError("away")

    monkeypatch.setattr(rollups, "write", write_and_fail)
    with pytest.raises(DatabaseError):
        stock.take()
    assert not Rollup.objects.exists()
    monkeypatch.setattr(rollups, "write", write)
    take()
    assert ended(rollups.HOUR)["ended"] == ALL


def test_whoever_empties_the_stock_has_nothing_counted_twice():
    """The first count after that begins its days anew."""
    act()
    let_settle()
    take()
    Stock.objects.all().delete()
    take()
    for step in rollups.KEPT:
        assert ended(step)["ended"] == ALL


def test_a_first_count_goes_back_to_yesterday_and_no_further():
    """A table of years is no reason to read it all."""
    act()
    let_settle(days=3)
    act()
    let_settle()
    take()
    assert ended(rollups.DAY)["ended"] == ALL
    assert ended(rollups.DAY)["attempts"] == {"succeeded": 2, "failed": 1}


def test_a_first_count_reads_so_many_outcomes_of_a_state_at_most(monkeypatch):
    """Of a busy day it takes the end, in whole minutes."""
    for _ in range(3):
        by_hand.answer(tasks.add.enqueue(1, 1))
        let_settle(minutes=10)
    monkeypatch.setattr(rollups, "BACKFILL", 2)
    take()
    assert ended(rollups.DAY)["ended"] == {"succeeded": 2}
    assert ended(rollups.DAY)["attempts"] == {"succeeded": 2}


def test_rows_are_kept_as_long_as_their_step_is_shown():
    """And deleted in batches."""
    now = rollups.moment(1_800_000_000)
    for step, kept in rollups.KEPT.items():
        for age in (kept / 2, kept + timedelta(seconds=1)):
            Rollup.objects.create(step=step, start_at=now - age)
    assert rollups.prune(now) == len(rollups.KEPT)
    left = {row.step: now - row.start_at for row in Rollup.objects.all()}
    assert left == {step: kept / 2 for step, kept in rollups.KEPT.items()}
    assert rollups.prune(now) == 0


def test_the_statements_of_a_count_do_not_grow_with_what_is_counted():
    """Neither with tasks nor with minutes."""
    counts = []
    for _ in range(2):
        act()
        let_time_pass()
        act()
        let_time_pass()
        with CaptureQueriesContext(connection) as captured:
            take()
        counts.append(len(captured))
        act()
        tasks.record.enqueue("x")
    assert counts[0] >= counts[1]


@pytest.mark.parametrize("q", [0.5, 0.95])
def test_quantiles_are_near_what_was_measured(q):
    """Through the database and back, over six powers of ten."""
    dice = random.Random(7)
    begin = datetime(2026, 1, 1, 12, tzinfo=rollups.UTC)
    lengths = [10 ** dice.uniform(-2, 4) for _ in range(400)]
    outcome = tasks.add.enqueue(1, 1)
    Attempt.objects.bulk_create(
        Attempt(
            outcome=outcome,
            number=1,
            fence=place,
            state="succeeded",
            worker="w",
            due_at=begin,
            started_at=begin + timedelta(seconds=length),
            finished_at=begin + timedelta(seconds=length),
        )
        for place, length in enumerate(lengths)
    )
    point = together(rollups.counted(Outcome.objects.none(), Attempt.objects.all()))
    exact = statistics.quantiles(lengths, n=100)[round(q * 100) - 1]
    read = quantile(q, {int(number): count for number, count in point["wait"].items()})
    assert read == pytest.approx(exact, rel=0.15)


def test_a_quantile_stays_within_its_bucket():
    """At either end, and where there is nothing."""
    assert quantile(0.5, {}) is None
    lower, upper = bounds(3)
    for q in (0, 0.5, 1):
        assert lower <= quantile(q, {3: 7}) <= upper
    assert upper / lower < 1.15
    assert quantile(0.95, {0: 95, 50: 5}) <= bounds(0)[1]
    assert quantile(0.96, {0: 95, 50: 5}) >= bounds(50)[0]


def test_an_end_falls_into_its_own_minute():
    """A minute's first instant and its last."""
    minute = datetime(2026, 1, 1, 12, 34, tzinfo=rollups.UTC)
    for offset in (0, 59_999):
        by_hand.answer(tasks.add.enqueue(1, 1))
        newest = Attempt.objects.latest("pk")
        end = minute + timedelta(milliseconds=offset)
        Attempt.objects.filter(pk=newest.pk).update(finished_at=end, started_at=end, due_at=None)
    points = rollups.counted(Outcome.objects.none(), Attempt.objects.all())
    assert list(points) == [(int(minute.timestamp()), ADD)]
    (point,) = points.values()
    assert point["wait"] == {}
    assert point["run"] == {"-50": 2}
