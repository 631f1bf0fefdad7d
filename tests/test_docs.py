"""
The documentation says what the code says.

Names of settings, states, reasons, options, checks and sub-commands are compared in both
directions, links between pages lead somewhere, and examples marked with a comment
``<!-- run -->`` are run as they stand.
"""

import inspect
import re
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from django.dispatch import Signal

from tasks_app import checks, exceptions, signals
from tasks_app.conf import SETTINGS
from tasks_app.declare import OutcomeTask
from tasks_app.models import Outcome
from tasks_app.options import TaskOptions
from tasks_app.periodic import declaring
from tasks_app.states import AttemptState, Reason, State

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md")])

#: In capitals with an underscore, and nevertheless no key of TASKS_APP.
NOT_OURS = re.compile(
    r"CELERY_|FLOWER_|TASKS_|SENTRY_|DJANGO_|INSTALLED_APPS|ATOMIC_REQUESTS|KILL_WAIT"
    r"|SILENCED_SYSTEM_CHECKS|BROKER_URL|REDIS_URL|RABBITMQ_URL|SECRET_KEY"
)


def first_column(page: str, heading: str) -> set[str]:
    """Return the quoted names in the first column of the table under a heading."""
    _, _, table = (DOCS / page).read_text().partition(f"| {heading} |")
    rows = table.split("\n\n")[0]
    return {
        name for cell in re.findall(r"^\| (.+?) \|", rows, re.MULTILINE) for name in quoted(cell)
    }


def quoted(text: str) -> list[str]:
    """Return what stands between backquotes."""
    return re.findall(r"`([^`]+)`", text)


def names(enum: type[State | Reason | AttemptState]) -> set[str]:
    """Return an enum's values."""
    return {str(member) for member in enum}


def test_each_state_reason_and_end_of_an_attempt_is_explained():
    """The tables of states.md list exactly what the code knows."""
    assert first_column("reference/states.md", "State") == names(State)
    assert first_column("reference/states.md", "Reason of `failed`") == names(Reason)
    assert first_column("reference/states.md", "Attempt") == names(AttemptState)


def test_each_option_of_a_task_is_explained():
    """The table of options.md lists exactly the options that `task()` accepts."""
    options = {field.name for field in fields(TaskOptions) if field.init} - {"signature"}
    assert first_column("reference/options.md", "Option") == options


def test_each_check_is_explained_with_its_remedy():
    """The table of checks.md is made of docstrings: each says its id, and what to do."""
    told = set()
    for check in (*checks.ALWAYS, *checks.DEPLOY, *checks.databases.CHECKS):
        text = inspect.cleandoc(check.__doc__)
        number = re.match(r"([EW]\d{3})(?: \(deploy\))?: \w", text)
        assert number, check
        assert len(re.findall(r"^Remedy: ", text, re.MULTILINE)) == 1, check
        told.add(number[1])
    sources = "".join(path.read_text() for path in Path(checks.__file__).parent.glob("*.py"))
    assert told == set(re.findall(r'"([EW]\d{3})"', sources))


def test_each_signal_is_explained():
    """The table of signals.md lists exactly the signals that are sent."""
    sent = {name for name, value in vars(signals).items() if isinstance(value, Signal)}
    assert first_column("reference/signals.md", "Signal") == sent


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_each_exception_named_on_a_page_exists(page):
    """An error whose name a page gives with its module is there."""
    given = re.findall(r"tasks_app\.exceptions\.(\w+)", page.read_text())
    assert [name for name in given if not hasattr(exceptions, name)] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_each_setting_named_on_a_page_exists(page):
    """Whatever looks like a key of TASKS_APP is one. The table of all keys is generated."""
    text = page.read_text()
    given = set(re.findall(r'TASKS_APP\["(\w+)"\]', text))
    given |= set(re.findall(r'TASKS_APP = \{\s*"(\w+)"', text))
    looks_like = {name for name in quoted(text) if re.fullmatch(r"[A-Z]+(_[A-Z]+)+", name)}
    assert given | {name for name in looks_like if not NOT_OURS.match(name)} <= set(SETTINGS)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_each_link_between_files_leads_somewhere(page):
    """A relative link names a file that exists."""
    links = re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", page.read_text())
    missing = [link for link in links if not (page.parent / link).exists()]
    assert not missing


def examples() -> Iterator[object]:
    """Yield the marked examples, each with the place where it stands."""
    for page in PAGES:
        text = page.read_text()
        for match in re.finditer(r"<!-- run -->\n```python\n(.*?)```", text, re.DOTALL):
            line = text.count("\n", 0, match.start()) + 3
            yield pytest.param(match[1], id=f"{page.relative_to(ROOT)}:{line}")


@pytest.fixture
def shop(request, monkeypatch) -> ModuleType:
    """The module that an example is part of, with the names that the example's reader has."""
    module = ModuleType(re.sub(r"\W+", "_", request.node.name))
    orders = SimpleNamespace(create=lambda **_fields: SimpleNamespace(pk=7))
    module.Order = SimpleNamespace(objects=orders)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(declaring, "declarations", [])
    return module


@pytest.mark.django_db
@pytest.mark.parametrize("source", list(examples()))
def test_each_marked_example_runs(source, shop):
    """An example can be pasted into a project, and what it enqueues is a row."""
    exec(compile(source, "example", "exec"), vars(shop))
    assert any(isinstance(value, OutcomeTask) for value in vars(shop).values())
    enqueued = getattr(shop, "outcome", None)
    assert enqueued is None or Outcome.objects.get() == enqueued
