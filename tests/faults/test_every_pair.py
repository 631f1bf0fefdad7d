"""Every fault is survived on the pairs whose numbers `docs/reliability.md` shows."""

from __future__ import annotations

import pytest

from tests.conftest import skip_or_fail
from tests.faults.conftest import CASES
from tests.pairs import Pair, Runs

PAIRS = [
    Pair("postgres", "redis"),
    Pair("postgres", "rabbitmq"),
    Pair("mariadb", "redis"),
    Pair("sqlite", "embedded"),
]


@pytest.mark.on_every_pair(CASES)
@pytest.mark.parametrize("pair", PAIRS, ids=str)
def test_the_faults_are_survived_on(pair: Pair, pair_runs: Runs) -> None:
    """Nothing is lost, no effect doubles and no state goes back, whatever breaks."""
    for kind in pair.kinds():
        skip_or_fail(kind)
    run = pair_runs.result(pair, CASES)
    assert run.returncode == 0, f"faults were not survived on {pair}:\n{run.stdout}"
