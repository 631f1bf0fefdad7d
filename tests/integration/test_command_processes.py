"""`tasks relay`, `worker`, `beat` and `flower` as processes, and the command without a database."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tasks_app.models import Outcome
from tests.integration.command_line import rewritten, tasks
from tests.processes import ROOT, Process, start_command, start_worker
from tests.servers.server import free_port
from tests.testapp.tasks import add
from tests.waiting import wait_until

pytestmark = pytest.mark.django_db(transaction=True)

PATIENCE = 60


def ended(process: Process) -> tuple[int, str]:
    """Wait for a process' own end; return its exit code and its output."""
    with process:
        return process.process.wait(PATIENCE), process.output


def run(folder: Path, *words: str, **environment: str) -> tuple[int, str]:
    """Run `manage.py tasks …` in a process of its own."""
    return ended(start_command(folder, "tasks", *words, environment=environment))


def announced(outcome: Outcome) -> bool:
    """Return whether a relay has rung for an outcome."""
    outcome.refresh()
    return outcome.announced > 0


def test_relay_once_announces_all_that_is_due_and_ends(settings):
    """Every due row is announced, more than one batch of them too; what waits, waits."""
    settings.TASKS_APP = {"MAX_IN_FLIGHT": 1000}
    ids = add.enqueue_many([(n, n) for n in range(450)])
    later = add.using(run_after=3600).enqueue(1, 2)
    typed = tasks("relay", "--once")
    assert typed.output == "450 announced, 0 expired, 0 given up.\n"
    assert (typed.code, typed.errors) == (0, "")
    assert Outcome.objects.filter(pk__in=ids, announced=1).count() == 450
    assert not announced(later)
    assert tasks("relay", "--once").output.startswith("0 announced")


def test_relay_once_knows_the_tasks_before_it_gives_any_up(tmp_path):
    """A process that has imported no task module must not take every task for unknown."""
    outcome = add.enqueue(1, 2)
    rewritten(outcome, announced=9, run_at=outcome.run_at.replace(year=2020))
    code, output = run(tmp_path, "relay", "--once")
    assert code == 0
    assert "1 announced, 0 expired, 0 given up." in output


def test_relay_once_without_a_broker_keeps_the_rows(tmp_path):
    """Exit code 1, one line, and the row is due as before."""
    outcome = add.enqueue(1, 2)
    url = f"amqp://127.0.0.1:{free_port()}//"
    code, output = run(
        tmp_path, "relay", "--once", TASKS_TEST_BROKER="rabbitmq", TASKS_TEST_BROKER_URL=url
    )
    assert code == 1
    assert "CommandError: The broker does not answer" in output
    assert "Traceback" not in output
    assert Outcome.objects.due().get() == outcome


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_the_relay_cleanly(number, tmp_path):
    """It announces while it runs; SIGTERM and Ctrl+C end it with exit code 0."""
    with start_command(tmp_path, "tasks", "relay") as relay:
        relay.wait_for_output("The relay runs")
        outcome = add.enqueue(1, 2)
        wait_until(lambda: announced(outcome), PATIENCE, relay.tail)
        assert relay.terminate(number=number) == 0, relay.tail()
        assert "The relay has stopped." in relay.output
        assert "Traceback" not in relay.output


def test_a_worker_is_started_with_celerys_own_arguments(tmp_path):
    """Options behind `worker` are Celery's; it runs outcomes and stops on SIGTERM."""
    words = ("tasks", "worker", "-P", "solo", "-Q", "mail", "-n", "command@%h", "-l", "INFO")
    with start_command(tmp_path, *words, name="worker") as worker:
        worker.wait_for_output(" ready.")
        assert "command@" in worker.output
        outcome = add.using(queue="mail").enqueue(1, 2)
        assert outcome.get(timeout=PATIENCE) == 3
        assert worker.terminate() == 0, worker.tail()


def test_beat_is_started_with_celerys_own_arguments(tmp_path):
    """So is the scheduler."""
    with start_command(tmp_path, "tasks", "beat", "-l", "DEBUG", name="beat") as beat:
        beat.wait_for_output("beat: Ticking")
        assert beat.terminate() == 0, beat.tail()


@pytest.mark.parametrize("name", ["worker", "beat", "flower"])
def test_the_project_is_found_from_any_folder(name, tmp_path):
    """`manage.py` of another folder leads Celery to that folder's project."""
    project = tmp_path / "project"
    project.mkdir()
    (project / "own_settings.py").write_text("from tests.settings import *\n")
    (project / "manage.py").write_text(
        "import os, sys\n"
        "os.environ['DJANGO_SETTINGS_MODULE'] = 'own_settings'\n"
        f"sys.path.append({str(ROOT)!r})\n"
        "from django.core.management import execute_from_command_line\n"
        "execute_from_command_line(sys.argv)\n"
    )
    command = [sys.executable, str(project / "manage.py"), "tasks", name, "--help"]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert done.returncode == 0, done.stderr
    assert f"celery {name} [OPTIONS]" in done.stdout


@pytest.mark.parametrize(
    "words",
    [
        *(("list",), ("show", "0" * 32), ("retry", "0" * 32), ("cancel", "--state", "pending")),
        *(("prune",), ("relay", "--once"), ("relay",)),
    ],
)
def test_missing_tables_are_one_line_with_the_remedy(words, tmp_path):
    """Before `migrate` every sub-command says so, without a traceback."""
    url = f"sqlite://{tmp_path}/empty.sqlite3"
    code, output = run(tmp_path, *words, TASKS_TEST_DATABASE="sqlite", TASKS_TEST_DATABASE_URL=url)
    assert code == 1
    assert "run `manage.py migrate`" in output
    assert "Traceback" not in output


def test_a_worker_without_tables_says_what_to_do_and_ends_quietly(tmp_path):
    """A worker started before `migrate` waits for it, in one line and not in a traceback."""
    environment = {
        "TASKS_TEST_DATABASE": "sqlite",
        "TASKS_TEST_DATABASE_URL": f"sqlite://{tmp_path}/empty.sqlite3",
    }
    with start_worker(tmp_path, pool="solo", environment=environment) as worker:
        worker.wait_for_output("run `manage.py migrate`")
        assert worker.terminate() == 0
    assert "Traceback" not in worker.output


def test_a_database_that_is_away_is_one_line(tmp_path):
    """The line names the database and what it said."""
    url = f"sqlite://{tmp_path}/missing/file.sqlite3"
    code, output = run(tmp_path, "list", TASKS_TEST_DATABASE="sqlite", TASKS_TEST_DATABASE_URL=url)
    assert code == 1
    assert "The database 'default' does not answer: unable to open database file" in output
    assert "Traceback" not in output


def test_a_reader_that_has_had_enough_is_no_error(tmp_path):
    """`tasks list | head -1` ends quietly."""
    add.enqueue_many([(n, n) for n in range(2_000)])
    script = f"{sys.executable} -m django tasks list --limit 2000 | head -1"
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {script}"],
        cwd=ROOT,
        env=None,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.stdout.startswith("ID ")
    assert done.stderr == ""
