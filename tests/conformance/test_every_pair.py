"""Every pair of database and broker passes every scenario."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import skip_or_fail
from tests.pairs import PAIRS, SCENARIOS, Pair, Runs


@pytest.mark.parametrize("folder", [SCENARIOS], ids=["scenarios"])
@pytest.mark.parametrize("pair", PAIRS, ids=str)
def test_the_scenarios_pass_on(pair: Pair, folder: Path, pair_runs: Runs) -> None:
    """The same code, with settings alone changed, keeps every promise on every pair."""
    for kind in pair.kinds():
        skip_or_fail(kind)
    run = pair_runs.result(pair, folder)
    assert run.returncode == 0, f"scenarios failed on {pair}:\n{run.stdout}"
