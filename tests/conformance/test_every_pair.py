"""Every pair of database and broker passes every scenario."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future

import pytest

from tests.conftest import skip_or_fail
from tests.pairs import PAIRS, SCENARIOS, Pair, Run, runs


@pytest.fixture(scope="module")
def started(request: pytest.FixtureRequest) -> Iterator[dict[Pair, Future[Run]]]:
    """The runs of all selected pairs."""
    items = [item for item in request.session.items if item.path == request.path]
    pairs = [item.callspec.params["pair"] for item in items]  # type: ignore[attr-defined]
    with runs(pairs, SCENARIOS) as running:
        yield running


@pytest.mark.parametrize("pair", PAIRS, ids=str)
def test_the_scenarios_pass_on(pair: Pair, started: dict[Pair, Future[Run]]) -> None:
    """The same code, with settings alone changed, keeps every promise on every pair."""
    for kind in pair.kinds():
        skip_or_fail(kind)
    run = started[pair].result()
    assert run.returncode == 0, f"scenarios failed on {pair}:\n{run.stdout}"
