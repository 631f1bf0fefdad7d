"""What a primary has to do, by hand; and that the page tells what the figures say."""

from __future__ import annotations

import pytest

from benchmarks import capacity
from benchmarks.capacity import FIGURES, PAGE, Load, Outcome
from benchmarks.figures import Sheet

#: Round numbers, so that each line can be checked in one's head.
OUTCOME = Outcome(
    log=4_000,
    images=12_000,
    table=500,
    indexes=500,
    cpu=0.001,
    dead=3,
    hot=0,
    prune=3.6e-5,
    prune_log=600,
    partitioned=0.001,
    whole=0.001,
    drop=0,
)


def test_a_million_a_day_by_hand():
    """Per second, at the peak, and what a week of it takes."""
    load = Load(OUTCOME, 864_000)
    assert (load.mean, load.peak) == (10, 40)
    assert load.written == 40 * 5
    assert load.flushes == 80
    assert load.cores == pytest.approx(0.04)
    assert load.log == pytest.approx(864_000 * 4_000)
    assert load.most_log == pytest.approx(864_000 * 16_000)
    assert load.rows == 864_000 * 7
    assert load.stored == pytest.approx(load.rows * 1_100)
    assert load.indexes == pytest.approx(load.rows * 500)
    assert load.dead == 864_000 * 5
    assert load.pruning == pytest.approx(0.00864)
    assert load.days_to_wrap == pytest.approx(2**31 / (864_000 * 3))


def test_vacuums_come_as_often_however_many_rows_there_are_but_read_more():
    """Autovacuum waits for a share of the rows; its memory is not a share of them."""
    small, large = Load(OUTCOME, 1_000_000), Load(OUTCOME, 100_000_000)
    assert small.vacuums == pytest.approx(large.vacuums) == pytest.approx(4 / (0.2 * 7))
    assert (small.passes, large.passes) == (1, 13)
    assert large.scanned > 100 * small.scanned


@pytest.mark.parametrize(
    ("number", "text"), [(999, "999 B"), (3_570, "3.57 kB"), (2.5e11, "250 GB"), (1.7e12, "1.7 TB")]
)
def test_sizes_are_told_in_units_that_fit(number, text):
    """Three digits that count."""
    assert capacity.size(number) == text


def test_the_page_tells_what_the_figures_say():
    """`python -m benchmarks.capacity --write` has been run since the last measurement."""
    page = PAGE.read_text()
    outcome = Outcome.of(Sheet.read(FIGURES))
    assert capacity.costs(outcome) in page
    assert capacity.loads(outcome) in page
    assert capacity.rendered(page, outcome) == page
