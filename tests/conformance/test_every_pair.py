"""Every pair of database and broker passes every scenario."""

from __future__ import annotations

import pytest

from tests.conftest import skip_or_fail
from tests.pairs import PAIRS, SCENARIOS, Pair, Runs


@pytest.mark.on_every_pair(SCENARIOS)
@pytest.mark.parametrize("pair", PAIRS, ids=str)
def test_the_scenarios_pass_on(pair: Pair, pair_runs: Runs) -> None:
    """The same code, with settings alone changed, keeps every promise on every pair."""
    for kind in pair.kinds():
        skip_or_fail(kind)
    run = pair_runs.result(pair, SCENARIOS)
    assert run.returncode == 0, f"scenarios failed on {pair}:\n{run.stdout}"
