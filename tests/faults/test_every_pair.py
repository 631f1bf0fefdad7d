"""Every fault is survived on the pairs whose numbers `docs/reliability.md` shows."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.conftest import skip_or_fail
from tests.faults.conftest import CALLS, RUNS
from tests.pairs import Pair, Runs

#: Every case on two pairs, and on the others what they are about: RabbitMQ the path of a call,
#: MariaDB the run.
PARTS = [
    (Pair("postgres", "redis"), CALLS),
    (Pair("postgres", "redis"), RUNS),
    (Pair("sqlite", "embedded"), CALLS),
    (Pair("sqlite", "embedded"), RUNS),
    (Pair("postgres", "rabbitmq"), CALLS),
    (Pair("mariadb", "redis"), RUNS),
]

#: The rest, which `TASKS_TEST_FAULTS=all` adds.
REST = [(Pair("postgres", "rabbitmq"), RUNS), (Pair("mariadb", "redis"), CALLS)]

WANTED = [*PARTS, *REST] if os.environ.get("TASKS_TEST_FAULTS") == "all" else PARTS


@pytest.mark.parametrize(
    ("pair", "folder"),
    [pytest.param(pair, folder, id=f"{pair}-{folder.name}") for pair, folder in WANTED],
)
def test_the_faults_are_survived_on(pair: Pair, folder: Path, pair_runs: Runs) -> None:
    """Nothing is lost, no effect doubles and no state goes back, whatever breaks."""
    for kind in pair.kinds():
        skip_or_fail(kind)
    run = pair_runs.result(pair, folder)
    assert run.returncode == 0, f"faults were not survived on {pair}:\n{run.stdout}"
