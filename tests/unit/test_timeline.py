"""Times on an axis: every moment has one place, in order, and the marks can be read."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks_app.admin.texts import in_words
from tasks_app.admin.timeline import APART, CLEAR, Axis

START = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def moment(seconds):
    return START + timedelta(seconds=seconds)


def axis(*spans, moments=()):
    return Axis([(moment(a), moment(b)) for a, b in spans], [moment(each) for each in moments])


@given(
    st.lists(
        st.tuples(st.floats(0, 1e7), st.floats(0, 1e4)).map(lambda pair: (pair[0], sum(pair))),
        min_size=1,
        max_size=30,
    )
)
def test_places_keep_the_order_of_moments_and_stay_on_the_axis(spans):
    """However far apart the spans are; the marks are in order, too, and none hides another."""
    found = axis(*spans)
    moments = sorted(moment(each) for span in spans for each in span)
    places = [found.place(each) for each in moments]
    assert places == sorted(places)
    assert places[0] >= 0
    assert places[-1] <= 100
    marks = found.marks()
    assert [mark.place for mark in marks] == sorted(mark.place for mark in marks)
    assert all(b.place - a.place >= CLEAR or a.is_break for a, b in pairwise(marks))


@pytest.mark.parametrize(
    ("length", "texts"),
    [
        (0, []),
        (0.004, ["0", "1 ms", "2 ms", "3 ms", "4 ms"]),
        (1.1, ["0", "200 ms", "400 ms", "600 ms", "800 ms", "1 s"]),
        (50, ["0", "10 s", "20 s", "30 s", "40 s", "50 s"]),
        (400, ["0", "1 min", "2 min", "3 min", "4 min", "5 min", "6 min"]),
        (100_000, ["0", "6 h", "12 h", "18 h", "1 d"]),
    ],
)
def test_marks_are_what_people_count_in(length, texts):
    """Not as many as there is room for: as many as can be read."""
    marks = axis((0, length)).marks()
    assert [mark.text for mark in marks] == texts
    assert len(marks) <= 100 / APART + 1


def test_a_long_rest_is_left_out_and_told():
    """A replay days later does not make a point of what came before it."""
    found = axis((0, 10), (172_800, 172_805))
    assert found.place(moment(10)) > 50
    assert found.place(moment(172_800)) - found.place(moment(10)) < 10
    assert [mark.text for mark in found.marks() if mark.is_break] == ["2 d"]


def test_a_rest_no_longer_than_the_work_keeps_its_length():
    """Nothing is left out without need."""
    found = axis((0, 10), (15, 20))
    assert not [piece for piece in found.pieces if piece.is_break]
    assert found.place(moment(15)) == pytest.approx(75)


def test_a_wait_is_no_reason_to_break_where_nothing_ran():
    """What only waits is shown as long as it waited."""
    found = axis(moments=(0, 3_600))
    assert found.place(moment(1_800)) == pytest.approx(50)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0"),
        (0.25, "250 ms"),
        (1.5, "1.5 s"),
        (90, "1:30 min"),
        (120, "2 min"),
        (5_400, "1:30 h"),
        (90_000, "1 d 1 h"),
        (172_800, "2 d"),
    ],
)
def test_a_length_is_told_in_few_signs(seconds, text):
    """As on a clock."""
    assert in_words(seconds) == text
