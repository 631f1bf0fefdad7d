"""The other databases keep every rule too: each in a process and with a server of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conformance.pairs import Pair
from tests.conftest import skip_or_fail
from tests.servers.session import DATABASES, KINDS, chosen_database

TESTS = ("test_machine.py", "../history/test_log.py")

#: Seconds after which a run that hangs is ended; a long run on request may take its time.
TIMEOUT = 600

OTHERS = [database for database in DATABASES if database != chosen_database()]


@pytest.mark.parametrize("database", OTHERS)
def test_no_history_breaks_a_rule_on(database):
    """Whoever tests on one database learns of the others too."""
    if database in KINDS:
        skip_or_fail(database)
    here = Path(__file__).parent
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", *(str(here / test) for test in TESTS)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=Pair(database, "embedded").environment(),
        cwd=here.parents[1],
        timeout=TIMEOUT,
        check=False,
    )
    if run.returncode:
        pytest.fail(f"on {database}:\n{run.stdout}", pytrace=False)
