"""The slope of memory is found through the restarts of a process."""

from __future__ import annotations

import pytest

from tests.soak.samples import FEWEST, MEGABYTE, WARM_UP, Sample, most_files, slope


def series(pid, begin, growth, *, level=50, count=40):
    """Samples of one process that grows by some megabytes per hour."""
    times = [10.0 * number for number in range(count)]
    return [
        Sample("worker0", pid, begin + at, int((level + growth * at / 3600) * MEGABYTE), 10)
        for at in times
    ]


@pytest.mark.parametrize("growth", [0, 36])
def test_the_slope_is_the_same_whatever_the_levels_of_the_processes(growth):
    """A successor that starts lower hides no leak, and one that starts higher feigns none."""
    samples = [*series(1, 0, growth, level=90), *series(2, 400, growth, level=40)]
    found = slope(samples)
    assert found is not None
    assert found.megabytes_per_hour == pytest.approx(growth, abs=0.1)
    assert found.processes == 2


def test_a_process_that_did_not_live_long_has_no_slope():
    """What a process loads at its start is not a leak."""
    assert slope(series(1, 0, 1000, count=int(WARM_UP / 10) + FEWEST - 1)) is None


def test_open_files_are_compared_from_the_first_to_the_last_third():
    """A worker that leaks descriptors has more at the end."""
    samples = [Sample("worker0", 1, at, 0, files) for at, files in enumerate((9, 8, 9, 9, 30, 31))]
    assert most_files(samples) == (9, 31)
    assert most_files(samples[:2]) is None
