"""The soak itself, run only by `--soak MINUTES`."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.conftest import skip_or_fail
from tests.pairs import ROOT, Pair
from tests.servers.session import chosen_broker, chosen_database


def test_every_promise_holds_under_faults(request, capfd):
    """Nothing is lost, doubled, revived or leaked, whatever is killed, stopped or cut off."""
    pair = Pair(chosen_database(), chosen_broker())
    for kind in pair.kinds():
        skip_or_fail(kind)
    command = [sys.executable, "-m", "tests.soak", *arguments(request.config)]
    with capfd.disabled():
        code = subprocess.call(command, cwd=ROOT, env=pair.environment())
    assert code == 0, "a promise was broken; see the report above"


def arguments(config: pytest.Config) -> list[str]:
    """Return the soak's command line for the options that were given to pytest."""
    names = ("seed", "tasks", "kills", "report")
    given = {name: config.getoption(f"soak_{name}") for name in names}
    options = [f"--{name}={value}" for name, value in given.items() if value is not None]
    return [str(config.getoption("soak")), *options]
