"""Which outcomes share a message, and how many: shown on rows that no database has seen."""

from __future__ import annotations

import json

import pytest

from tasks_app.models import Outcome
from tasks_app.peals import AHEAD, GROWTH, SPREAD, Sizes, arranged
from tasks_app.shapes import LONGEST_PEAL
from tests.testapp.tasks import add, record, record_briefly

FULL = {task.name: LONGEST_PEAL for task in (add, record, record_briefly)}

#: Enough alike rows for the longest peals.
MANY = SPREAD * LONGEST_PEAL


def rows(count, task=add, **columns):
    """Return so many rows of a task that wait for their first message."""
    return [Outcome(task_name=task.name, queue="q", **columns) for _ in range(count)]


def lengths(peals):
    return [len(peal) for peal in peals]


@pytest.mark.parametrize(
    ("count", "longest"),
    [(1, 1), (2 * SPREAD - 1, 1), (2 * SPREAD, 2), (MANY, LONGEST_PEAL), (2 * MANY, LONGEST_PEAL)],
)
def test_few_rows_are_spread_and_many_share(count, longest):
    """No process stays idle for a message that rings for what it could do."""
    peals = arranged(rows(count), FULL)
    assert max(lengths(peals)) == longest
    assert len(peals) >= min(count, SPREAD)


def test_every_row_is_rung_for_once_and_in_its_turn():
    """Each peal stands where its first row stood."""
    given = [row for pair in zip(rows(MANY), rows(MANY, record), strict=True) for row in pair]
    peals = arranged(given, FULL)
    assert sorted(row.pk for peal in peals for row in peal) == sorted(row.pk for row in given)
    firsts = [given.index(peal[0]) for peal in peals]
    assert firsts == sorted(firsts)
    assert {row.task_name for row in peals[0]} == {add.name}


def test_few_rows_keep_their_order():
    """Rows of different tasks are not sorted by task when none of them share."""
    given = [row for pair in zip(rows(9), rows(9, record), strict=True) for row in pair]
    assert arranged(given, FULL) == [[row] for row in given]


@pytest.mark.parametrize(
    "columns",
    [
        {"announced": 1},
        {"crashes": 1},
        {"options_json": '{"link": []}'},
        {"task": record_briefly},
    ],
    ids=["announced before", "lost a worker", "has options of its own", "has a short limit"],
)
def test_what_is_special_rings_alone(columns):
    """What may take its process along, or counts its time from the message, harms nobody else."""
    assert lengths(arranged(rows(MANY, **columns), FULL)) == [1] * MANY


def test_a_task_that_is_unknown_here_rings_alone():
    """Nobody here knows its limits."""
    given = rows(MANY)
    for row in given:
        row.task_name = "elsewhere"
    assert lengths(arranged(given, {"elsewhere": LONGEST_PEAL})) == [1] * MANY


@pytest.mark.parametrize(
    "other",
    [{"queue": "other"}, {"priority": 9}, {"trace_context": json.dumps({"traceparent": "00-"})}],
    ids=["queue", "priority", "headers"],
)
def test_only_alike_rows_share(other):
    """Of a message's headers all are there for each outcome, and it goes to one queue."""
    given = rows(MANY)
    for row in given[::2]:
        for name, value in other.items():
            setattr(row, name, value)
    for peal in arranged(given, FULL):
        (column,) = other
        assert len({getattr(row, column) for row in peal}) == 1


def test_sizes_double_until_rows_come_back():
    """Then they are halved, and grow slowly: what was too much once is likely to be so again."""
    sizes = Sizes()
    seen = [sizes.learn(rows(1))[add.name] for _ in range(6)]
    assert seen == [2, 4, 8, 16, 16, 16]
    assert sizes.learn(rows(1, announced=1))[add.name] == 8
    assert sizes.learn(rows(1))[add.name] == 8 + GROWTH
    for _ in range(9):
        sizes.learn(rows(1, announced=1))
    assert sizes.learn(rows(1, announced=1))[add.name] == 1


def test_a_queue_shares_as_much_as_the_most_hesitant_of_its_tasks():
    """So what a long task's messages keep waiting is not announced in the thousands."""
    sizes = Sizes()
    for _ in range(4):
        sizes.learn(rows(1))
    assert sizes.of_queue("q") == AHEAD
    sizes.learn([*rows(1), *rows(1, record, announced=1)])
    assert (sizes.of_queue("q"), sizes.of_queue("never seen")) == (1, 1)
