"""
The log of a real worker: what it writes with `dict_config`, and with no `LOGGING` at all.

Standard output is read line by line as a log shipper would; standard error has what Celery says to
whoever sits at the terminal.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command

from tasks_app.models import Outcome
from tasks_app.states import FINAL
from tests.integration.command_line import tasks as command
from tests.processes import ROOT, Process, start_worker
from tests.testapp import tasks
from tests.waiting import wait_until

PATIENCE = 60

#: What every line of a run has.
FIVE = ("request_id", "outcome_id", "task", "attempt", "queue")

PASSWORD = "canary-4242"

MOODS = ("well", "retry", "fail")


@dataclass
class Log:
    """What a worker left behind."""

    lines: list[dict[str, Any]] = field(default_factory=list)
    rest: str = ""
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    attempts: dict[str, list[str]] = field(default_factory=dict)
    heard: dict[str, bool] = field(default_factory=dict)

    def of(self, mood: str) -> list[dict[str, Any]]:
        """Return the lines that name the outcome of a mood."""
        outcome_id = str(self.outcomes[mood].pk)
        return [line for line in self.lines if line.get("outcome_id") == outcome_id]

    def about(self, mood: str, logger: str, text: str = "") -> list[dict[str, Any]]:
        """Return those of a logger that hold a text."""
        return [
            line for line in self.of(mood) if line["logger"] == logger and text in line["message"]
        ]


def start(folder: Path, environment: dict[str, str]) -> Process:
    """Start a worker whose standard error goes to a file of its own."""
    words = [
        sys.executable,
        "-m",
        "celery",
        "-A",
        "tests.project",
        "worker",
        "--hostname",
        "log@%h",
    ]
    options = ["--pool", "prefork", "--concurrency", "1", "--loglevel", "ERROR"]
    options += ["--logfile", str(folder / "ignored")]
    line = f"exec {shlex.join([*words, *options])} 2>{folder / 'stderr'}"
    return Process(
        "worker",
        ["sh", "-c", line],
        log=folder / "stdout",
        environment={
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "tests.settings",
            "PYTHONPATH": str(ROOT),
            **environment,
        },
        folder=ROOT,
    )


def has_ended(outcome: Outcome) -> bool:
    outcome.refresh()
    return outcome.state in FINAL


def run(mood: str) -> Outcome:
    """Let the worker run a call; return its outcome."""
    outcome = tasks.speak.enqueue("it", mood, password=PASSWORD)
    wait_until(lambda: has_ended(outcome), PATIENCE, lambda: repr(outcome))
    return outcome


@pytest.fixture(scope="module")
def log(django_db_setup, django_db_blocker, tmp_path_factory):
    """Let one worker live through it all."""
    folder = tmp_path_factory.mktemp("log")
    settings = {"LOG_LEVELS_FILE": str(folder / "levels")}
    environment = {
        "TASKS_TEST_LOGGING": json.dumps({"debug": False}),
        "TASKS_TEST_SETTINGS": json.dumps(settings),
    }
    found = Log()
    with django_db_blocker.unblock(), pytest.MonkeyPatch.context() as patch:
        try:
            with start(folder, environment) as worker:
                worker.wait_for_output(" ready.")
                found.outcomes = {mood: run(mood) for mood in MOODS}
                patch.setattr("django.conf.settings.TASKS_APP", settings)
                patch.setattr("tasks_app.conf.conf._cache", {})
                for level in ("DEBUG", "RESET"):
                    typed = command("loglevel", "tests.helpers", level)
                    assert "log@" in typed.output, typed
                    found.heard[level] = wait_for_muttering(worker, wanted=level == "DEBUG")
                worker.terminate()
                found.attempts = {
                    mood: [attempt.log for attempt in outcome.attempts.order_by("number")]
                    for mood, outcome in found.outcomes.items()
                }
        finally:
            call_command("flush", verbosity=0, interactive=False)
    found.lines = [json.loads(line) for line in (folder / "stdout").read_text().splitlines()]
    found.rest = (folder / "stderr").read_text()
    return found


def wait_for_muttering(worker: Process, *, wanted: bool) -> bool:
    """Run calls until one has the DEBUG line, or has it no more."""

    def is_so() -> bool:
        mine = f'"outcome_id": "{run("well").pk}"'
        spoken = [line for line in worker.output.splitlines() if mine in line]
        return bool(spoken) and any("muttering" in line for line in spoken) == wanted

    return bool(wait_until(is_so, PATIENCE, worker.tail))


def test_every_line_of_standard_output_is_json(log):
    """No banner, no print, no traceback and no last word stands between them."""
    assert all({"timestamp", "level", "logger", "message", "process"} <= set(x) for x in log.lines)
    assert "\nworker: Warm shutdown (MainProcess)\n" in log.rest


def test_what_the_command_line_says_of_logging_is_told_to_be_ignored(log):
    """`LOGGING` alone decides: INFO is logged though ERROR was asked for."""
    (line,) = [line for line in log.lines if "LOGGING decides" in line["message"]]
    assert "ignored" in line["message"]
    assert {line["level"] for line in log.lines} >= {"INFO", "WARNING", "ERROR"}


@pytest.mark.parametrize("mood", MOODS)
def test_every_line_of_a_child_about_a_run_has_all_fields(log, mood):
    """The app's own, the helper's, a thread's, a print's and Celery's last one."""
    lines = log.of(mood)
    assert lines
    for line in lines:
        if "received" not in line["message"]:
            assert not set(FIVE) - set(line), line
            assert line["request_id"] == log.outcomes[mood].request_id
            assert line["task"] == "tests.testapp.helpers.speak"
    for logger in ("tasks_app", "tests.helpers", "tests.thread", "celery.redirected"):
        assert log.about(mood, logger), logger


def test_attempts_are_told_apart(log):
    """Each line of a retried call says in which attempt it was written."""
    lines = log.about("retry", "tests.helpers")
    assert [line["attempt"] for line in lines] == [1, 2]
    assert [line["event"] for line in log.about("retry", "tasks_app")] == ["retrying", "succeeded"]


def test_a_failure_has_the_fields_of_a_success(log):
    """And its reason and the type of its error."""
    (good,) = [x for x in log.about("well", "tasks_app") if x["event"] == "succeeded"]
    (bad,) = [x for x in log.about("fail", "tasks_app") if x["event"] == "failed"]
    assert set(good) <= set(bad)
    assert (bad["reason"], bad["error_type"]) == ("retries_exhausted", "builtins.ValueError")


def test_no_line_shows_a_secret(log):
    """Masked where the helper logs it itself."""
    (line,) = log.about("well", "tests.helpers")
    assert line["message"] == "speaking of it with ***"
    assert PASSWORD not in json.dumps(log.lines)


def test_each_attempt_keeps_the_lines_of_its_child(log):
    """Prints too, without secrets."""
    assert [len(kept) for kept in log.attempts.values()] != [0, 0, 0]
    first, second = log.attempts["retry"]
    for kept in (first, second):
        assert "INFO tests.helpers: speaking of it with ***" in kept
        assert "printing it" in kept


def test_a_level_is_changed_in_the_children_of_a_running_worker(log):
    """And put back, by the operator's command."""
    assert log.heard == {"DEBUG": True, "RESET": True}


@pytest.mark.django_db(transaction=True)
def test_without_logging_a_worker_still_talks(tmp_path):
    """Celery's own lines on the console, at the level that was asked for."""
    with start_worker(tmp_path, concurrency=1) as worker:
        run("well")
        worker.wait_for_output("speaking of it")
        worker.terminate()
    assert "[config]" in worker.output
    assert "succeeded" in worker.output
