"""The guards are where the list says, and the documentation tells them as they are."""

from __future__ import annotations

from pathlib import Path

import pytest

import tasks_app
from tests.promises.guards import GUARDS, ROOT, Guard

PAGE = ROOT / "docs" / "explanation" / "promises.md"


def row(guard: Guard) -> str:
    """Return the line that the documentation has for a guard."""
    test = guard.test.replace(".py::", "::")
    return f"| {guard.promise} | `{guard.place}` | `{guard.line.strip(' ,')}` | `{test}` |"


@pytest.mark.parametrize("guard", GUARDS, ids=lambda guard: f"{guard.place}: {guard.line}")
def test_each_guard_can_be_taken_away(guard):
    """The line stands where the list says, and what is left without it is a program."""
    source = (Path(tasks_app.__file__).parent / guard.file).read_text()
    without = guard.removed_from(source)
    assert without != source
    compile(without, guard.file, "exec")


@pytest.mark.parametrize("guard", GUARDS, ids=lambda guard: f"{guard.place}: {guard.line}")
def test_each_guard_is_told_with_the_test_that_misses_it(guard):
    """The table names the line and a test that exists."""
    assert row(guard) in PAGE.read_text()
    module, _, name = guard.test.partition("::")
    assert f"def {name}(" in (Path(__file__).parent / module).read_text()


def test_the_table_tells_no_other_guard():
    """A guard that went away has gone from the table too."""
    told = [line for line in PAGE.read_text().splitlines() if line.startswith("| ")]
    assert [line for line in told if line[2].isdigit()] == [row(guard) for guard in GUARDS]


def test_each_promise_has_a_guard():
    """Promises 1 to 7 and 10 are those that one process and a database can show."""
    assert {guard.promise for guard in GUARDS} == {*range(1, 8), 10}
