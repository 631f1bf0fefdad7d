"""Every pair of database and broker passes every scenario."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from tests.conformance.pairs import PAIRS, Pair
from tests.conftest import skip_or_fail

#: Scenarios mostly wait, so three pairs share a small machine without slowing each other much.
AT_A_TIME = 3

Run = subprocess.CompletedProcess[str]


@pytest.fixture(scope="module")
def runs(request: pytest.FixtureRequest) -> Iterator[dict[Pair, Future[Run]]]:
    """The runs of all selected pairs, started together and worked off a few at a time."""
    items = [item for item in request.session.items if item.path == request.path]
    pairs = [item.callspec.params["pair"] for item in items]  # type: ignore[attr-defined]
    with ThreadPoolExecutor(AT_A_TIME) as threads:
        yield {pair: threads.submit(pair.run) for pair in pairs if not pair.missing()}
        threads.shutdown(cancel_futures=True)


@pytest.mark.parametrize("pair", PAIRS, ids=str)
def test_the_scenarios_pass_on(pair: Pair, runs: dict[Pair, Future[Run]]) -> None:
    """The same code, with settings alone changed, keeps every promise on every pair."""
    for kind in pair.kinds():
        skip_or_fail(kind)
    run = runs[pair].result()
    if run.returncode:
        pytest.fail(f"scenarios failed on {pair}:\n{run.stdout}", pytrace=False)
