"""The other databases keep every rule too: each in a process and with a server of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import skip_or_fail
from tests.pairs import Pair, Runs
from tests.servers.session import DATABASES, KINDS, chosen_database

OTHERS = [Pair(database, "embedded") for database in DATABASES if database != chosen_database()]

MACHINE = Path(__file__).parent / "test_machine.py"

LOG = Path(__file__).parents[1] / "history" / "test_log.py"


@pytest.mark.on_every_pair(MACHINE)
@pytest.mark.parametrize("pair", OTHERS, ids=str)
def test_no_history_breaks_a_rule_on(pair: Pair, pair_runs: Runs) -> None:
    """Whoever tests on one database learns of the others too."""
    passes_on(pair, MACHINE, pair_runs)


@pytest.mark.on_every_pair(LOG)
@pytest.mark.parametrize("pair", OTHERS, ids=str)
def test_the_log_is_complete_on(pair: Pair, pair_runs: Runs) -> None:
    """Triggers are written anew for each database."""
    passes_on(pair, LOG, pair_runs)


def passes_on(pair: Pair, tests: Path, pair_runs: Runs) -> None:
    """Wait for a run on a database that is installed, and hold its end against success."""
    if pair.database in KINDS:
        skip_or_fail(pair.database)
    run = pair_runs.result(pair, tests)
    assert run.returncode == 0, f"on {pair.database}:\n{run.stdout}"
