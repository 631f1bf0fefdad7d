"""Crash points: off they are nothing, armed they act when and where they were told to."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tasks_app import crash_points
from tasks_app.crash_points import POINTS, Crash, crash_point, read
from tasks_app.exceptions import ConfigurationError
from tests.processes import ROOT

PACKAGE = Path(crash_points.__file__).parent


def visit(count, armed):
    """Visit a point that often in a process of its own, in which it is armed."""
    script = (
        "from tasks_app.crash_points import crash_point\n"
        f"for visit in range({count}):\n"
        "    crash_point('claim.after')\n"
        "    print(visit, flush=True)\n"
    )
    return subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "TASKS_APP_CRASH": armed, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_point_that_is_not_armed_is_an_empty_function():
    """A site that sets nothing pays for a call and a return."""
    assert crash_point is crash_points._pass


def test_every_point_stands_in_the_code_once_and_no_other_does():
    """The list and the code name the same places."""
    called = re.compile(r"\bcrash_point\(\"([^\"]+)\"\)")
    sources = [path.read_text() for path in PACKAGE.rglob("*.py")]
    named = {name for source in sources for name in called.findall(source)}
    assert named == set(POINTS)


def test_kill_ends_the_process_at_the_visit_that_was_named():
    """The process dies like one that was killed, at the second visit and not before."""
    run = visit(3, "claim.after:kill:nth=2")
    assert (run.returncode, run.stdout) == (-9, "0\n")
    assert run.stderr == "crash point claim.after: kill\n"


def test_a_point_acts_at_its_first_visit_if_nothing_else_is_said():
    """An action alone is enough."""
    run = visit(2, "claim.after:raise")
    assert run.returncode == 1
    assert "Crash: claim.after" in run.stderr


def test_a_mark_disarms_the_point_for_every_process(tmp_path):
    """What happens once happens once, however many processes come by."""
    armed = f"claim.after:kill:once={tmp_path / 'mark'}"
    assert visit(1, armed).returncode == -9
    assert visit(1, armed).returncode == 0


def test_the_dice_of_a_process_are_repeatable():
    """The same seed in the same process acts at the same visits."""

    def visits():
        (trap,) = read("claim.after:raise:chance=0.5,seed=3").values()
        for _ in range(40):
            try:
                trap.spring()
            except Crash:
                yield True
            else:
                yield False

    first, second = list(visits()), list(visits())
    assert first == second
    assert 5 < sum(first) < 35


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("claim.afer:kill", "unknown crash point 'claim.afer'. Did you mean 'claim.after'?"),
        ("claim.after:kil", "unknown action 'kil'. Did you mean 'kill'?"),
        ("claim.after:kill:nht=1", "unknown option 'nht'. Did you mean 'nth'?"),
        ("claim.after:kill:nth=x", "nth='x' is no number."),
        ("claim.after", "unknown action ''"),
    ],
)
def test_a_typing_error_is_named(text, complaint):
    """A fault that is silently not injected would be a test that cannot fail."""
    with pytest.raises(ConfigurationError, match=re.escape(f"TASKS_APP_CRASH: {complaint}")):
        read(text)


def test_several_points_are_armed_at_once():
    """Semicolons separate them."""
    traps = read("claim.after:kill:nth=2; relay.after_take:stop:chance=0.1,seed=7")
    assert {name: trap.action for name, trap in traps.items()} == {
        "claim.after": "kill",
        "relay.after_take": "stop",
    }
    assert traps["claim.after"].nth == 2
    assert (traps["relay.after_take"].chance, traps["relay.after_take"].seed) == (0.1, 7)
