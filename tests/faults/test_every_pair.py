"""Every fault is survived on the pairs whose numbers `docs/reliability.md` shows."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future

import pytest

from tests.conftest import skip_or_fail
from tests.faults.conftest import CASES
from tests.pairs import Pair, Run, runs

PAIRS = [
    Pair("postgres", "redis"),
    Pair("postgres", "rabbitmq"),
    Pair("mariadb", "redis"),
    Pair("sqlite", "embedded"),
]


@pytest.fixture(scope="module")
def started(request: pytest.FixtureRequest) -> Iterator[dict[Pair, Future[Run]]]:
    """The runs of all selected pairs."""
    items = [item for item in request.session.items if item.path == request.path]
    pairs = [item.callspec.params["pair"] for item in items]  # type: ignore[attr-defined]
    with runs(pairs, CASES) as running:
        yield running


@pytest.mark.parametrize("pair", PAIRS, ids=str)
def test_the_faults_are_survived_on(pair: Pair, started: dict[Pair, Future[Run]]) -> None:
    """Nothing is lost, no effect doubles and no state goes back, whatever breaks."""
    for kind in pair.kinds():
        skip_or_fail(kind)
    run = started[pair].result()
    assert run.returncode == 0, f"faults were not survived on {pair}:\n{run.stdout}"
