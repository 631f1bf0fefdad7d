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


@pytest.mark.parametrize("folder", [MACHINE, LOG], ids=["machine", "log"])
@pytest.mark.parametrize("pair", OTHERS, ids=str)
def test_no_history_breaks_a_rule_on(pair: Pair, folder: Path, pair_runs: Runs) -> None:
    """Whoever tests on one database learns of the others too, and of the log's triggers there."""
    if pair.database in KINDS:
        skip_or_fail(pair.database)
    run = pair_runs.result(pair, folder)
    assert run.returncode == 0, f"on {pair.database}:\n{run.stdout}"
