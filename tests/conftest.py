"""Fixtures of every test: the run's servers, and the logs of its processes.

A server that is not installed skips the tests that need it, with its name in the run's last
lines; where the environment variable `CI` is true it fails them instead, so that a green run
there means that everything ran.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from pathlib import Path
from typing import NoReturn

import pytest

from tests.children import LIVING
from tests.pairs import Pair, Runs
from tests.servers import Server, ServerMissing
from tests.servers.session import KINDS, session

SOAK = Path(__file__).parent / "soak"

#: Why tests were skipped for want of a server or a browser, by what was wanted.
SKIPPED: dict[str, str] = {}

PAIR_RUNS = pytest.StashKey[Runs]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of the soak, which runs instead of all other tests (see `tests.soak`)."""
    group = parser.getgroup("soak", "a long run under faults, instead of the tests")
    group.addoption("--soak", type=float, metavar="MINUTES", help="run it for so long")
    group.addoption("--soak-seed", type=int, metavar="N", help="of its dice")
    group.addoption("--soak-tasks", type=int, metavar="N", help="end at so many outcomes")
    group.addoption("--soak-kills", type=int, metavar="N", help="end at so many kills")
    group.addoption("--soak-report", type=Path, metavar="FILE", help="write a report as JSON")


def pytest_configure(config: pytest.Config) -> None:
    """Start the servers that Django's settings name, before Django connects to them."""
    config.stash[PAIR_RUNS] = Runs()
    if config.getoption("soak") is not None:
        # It starts servers of its own, which die many deaths.
        config.args[:] = [str(SOAK)]
        return
    try:
        session.start_chosen()
    except ServerMissing as error:
        raise pytest.UsageError(str(error)) from None


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Ask for the runs on pairs last, in the order in which they are started."""
    items.sort(key=lambda item: run_on_pair(item) is not None)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Start the runs on pairs: they mostly wait, so the other tests go on beside them."""
    if session.config.option.collectonly or session.testsfailed:
        return
    runs = filter(None, map(run_on_pair, session.items))
    # From the back of the alphabet: faults take longer than the scenarios of conformance.
    for pair, folder in sorted(runs, key=lambda run: str(run[1]), reverse=True):
        session.config.stash[PAIR_RUNS].start(pair, folder)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Stop every server of the run, also after Ctrl+C."""
    config.stash[PAIR_RUNS].close()
    session.close()


def run_on_pair(item: pytest.Item) -> tuple[Pair, Path] | None:
    """Return the pair and the folder whose run a test waits for, or None for an ordinary test."""
    if not isinstance(item, pytest.Function) or "pair_runs" not in item.fixturenames:
        return None
    return item.callspec.params["pair"], item.callspec.params["folder"]


@pytest.fixture(scope="session")
def pair_runs(pytestconfig: pytest.Config) -> Runs:
    """The runs on pairs of this session."""
    return pytestconfig.stash[PAIR_RUNS]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the end of every living process' output below a failure."""
    report = yield
    if report.failed:
        for child in sorted(LIVING, key=lambda child: child.pid):
            report.sections.append((f"Output of {child.name}", child.tail()))
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Name the servers whose tests did not run."""
    for reason in SKIPPED.values():
        terminalreporter.write_line(f"NOT TESTED: {reason}", yellow=True, bold=True)


def skip_or_fail(kind: str) -> None:
    """Skip the asking test where a server is not installed, or fail it under `CI`."""
    missing = KINDS[kind].missing()
    if missing is not None:
        do_without(kind, missing)


def do_without(what: str, missing: str) -> NoReturn:
    """Skip the asking test for want of something, or fail it under `CI`."""
    if os.environ.get("CI", "").lower() in {"1", "true", "yes"}:
        pytest.fail(missing)
    SKIPPED[what] = missing
    pytest.skip(missing)


def started(kind: str) -> Server:
    """Return the run's server of a kind, started."""
    skip_or_fail(kind)
    return session.server(kind).start()


@pytest.fixture(scope="session")
def postgres() -> Server:
    """The run's PostgreSQL."""
    return started("postgres")


@pytest.fixture(scope="session")
def mariadb() -> Server:
    """The run's MariaDB."""
    return started("mariadb")


@pytest.fixture(scope="session")
def redis_server() -> Server:
    """The run's Redis."""
    return started("redis")


@pytest.fixture(scope="session")
def rabbitmq() -> Server:
    """The run's RabbitMQ."""
    return started("rabbitmq")
