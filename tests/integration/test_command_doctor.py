"""`tasks doctor`: what is wrong is found, told with a remedy, and never makes it hang."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from django.db import connection
from django.db.migrations.recorder import MigrationRecorder

from tasks_app import queues
from tasks_app.celery import app
from tasks_app.doctor import PROBES
from tasks_app.doctor.database import judge_skew
from tasks_app.doctor.findings import Finding, Probe, Status, bounded
from tests.integration.command_line import Typed, ago, claimed, rewritten, tasks
from tests.processes import ROOT, start_command, start_worker
from tests.servers import Server
from tests.servers.server import free_port
from tests.testapp.tasks import add

pytestmark = pytest.mark.django_db(transaction=True)

#: Seconds within which the doctor has to end, whatever hangs.
PATIENCE = 60


def findings(typed: Typed) -> dict[str, Finding]:
    """Return the findings of `doctor --json` by name."""
    report = json.loads(typed.output)
    found = {item["name"]: Finding(**item) for item in report["findings"]}
    assert report["ok"] == (typed.code == 0)
    assert report["ok"] == all(finding.status != "fail" for finding in found.values())
    return found


def examined() -> dict[str, Finding]:
    """Examine this process' installation."""
    return findings(tasks("doctor", "--json"))


def examined_elsewhere(folder: Path, code: int, **environment: str) -> dict[str, Finding]:
    """Examine an installation with another environment, in a process of its own."""
    name = f"doctor-{len(list(folder.iterdir()))}"
    words = ("tasks", "doctor", "--json")
    doctor = start_command(folder, *words, name=name, environment=environment)
    with doctor:
        assert doctor.process.wait(PATIENCE) == code, doctor.tail()
        text = doctor.output
    assert "Traceback" not in text
    return findings(Typed(code, text[text.index("{\n") : text.rindex("}") + 1], text))


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_a_sound_installation_has_exit_code_0():
    """Nothing fails; that no worker answers is a warning only."""
    typed = tasks("doctor")
    assert (typed.code, typed.errors) == (0, "")
    found = examined()
    assert found["database"].status == "ok"
    assert found["broker"].status == "ok"
    assert found["workers"].status == "warn"
    assert found["relay lag"] == Finding("relay lag", Status.OK, "no row is due")
    for finding in found.values():
        assert f"{finding.status:4}  {finding.name}: " in typed.output


def test_every_probe_is_in_the_documentation():
    """Whoever sees a finding can read what it means."""
    page = (ROOT / "docs" / "reference" / "command.md").read_text()
    assert all(f"| {probe.name} |" in page for probe in PROBES)


def test_every_warning_and_failure_has_a_remedy():
    """A probe that finds something says what to do."""
    rewritten(add.enqueue(1, 2), announce_at=ago(minutes=2), task_name="gone.away")
    rewritten(claimed(add.enqueue(1, 2)), lease_until=ago(minutes=2))
    bad = [finding for finding in examined().values() if finding.status != "ok"]
    assert len(bad) >= 3
    assert all(finding.remedy for finding in bad)


@pytest.mark.parametrize(("seconds", "status"), [(1, "ok"), (20, "warn"), (90, "fail")])
def test_the_lag_is_the_age_of_the_oldest_row_that_nobody_announced(seconds, status):
    """Exit code 1 comes only when the row has waited for a minute."""
    rewritten(add.enqueue(1, 2), announce_at=ago(seconds=seconds))
    assert examined()["relay lag"].status == status


def test_a_paused_queue_is_told_and_is_nobodys_fault():
    """Who paused it, and why; its rows are neither late nor unclaimed."""
    rewritten(add.enqueue(1, 2), announce_at=ago(minutes=5), announced=5)
    queues.pause("celery", by="alice", reason="deploy")
    found = examined()
    assert found["paused queues"].status == "warn"
    assert "'celery' for 0:00:0" in found["paused queues"].found
    assert "by alice (deploy)" in found["paused queues"].found
    assert found["relay lag"].status == found["unclaimed announcements"].status == "ok"
    queues.resume("celery")
    assert examined()["paused queues"].status == "ok"


def test_rows_that_wait_for_workers_are_not_the_relays_fault(settings):
    """Behind a full queue nothing is announced; that calls for workers."""
    settings.TASKS_APP = {"MAX_IN_FLIGHT": 1}
    rewritten(add.enqueue(1, 2), announced=1, announce_at=ago(seconds=-30))
    rewritten(add.enqueue(3, 4), announce_at=ago(seconds=90))
    lag = examined()["relay lag"]
    assert lag.status == "warn"
    assert "workers" in lag.remedy


def test_rows_that_nobody_claims_are_told_with_their_queue():
    """The remedy is a worker for that queue."""
    outcome = add.using(queue="forgotten").enqueue(1, 2)
    rewritten(outcome, announced=6, announce_at=ago(seconds=-60))
    found = examined()["unclaimed announcements"]
    assert found.status == "warn"
    assert add.name in found.found
    assert "-Q forgotten" in found.remedy


def test_running_rows_whose_worker_is_lost_are_a_failure():
    """A lease that is dead for longer than a rescuer needs means that none runs."""
    rewritten(claimed(add.enqueue(1, 2)), lease_until=ago(minutes=2))
    assert examined()["dead leases"].status == "fail"


def test_a_lease_that_just_ran_out_is_left_to_the_rescuer():
    """The doctor does not cry about what is about to be repaired."""
    rewritten(claimed(add.enqueue(1, 2)), lease_until=ago(seconds=1))
    assert examined()["dead leases"].status == "ok"


def test_waiting_rows_of_unknown_tasks_are_told():
    """With their number and the time they have left."""
    rewritten(add.enqueue(1, 2), task_name="gone.away")
    found = examined()["unknown tasks"]
    assert (found.status, found.found) == ("warn", "not declared here: gone.away (1 rows)")
    assert "1 day" in found.remedy


def test_a_row_from_the_future_shows_a_clock_that_went_back():
    """Leases count on the database's clock."""
    rewritten(add.enqueue(1, 2), created_at=ago(minutes=-5))
    assert examined()["clock order"].status == "warn"


@pytest.mark.parametrize(
    ("skew", "took", "status"),
    [
        *((0.9, 0, "ok"), (-1.5, 0, "warn"), (1.5, 0, "warn"), (11, 0, "fail")),
        *((-3600, 0, "fail"), (1.5, 2, "ok"), (11, 4, "warn")),
    ],
)
def test_clocks_may_differ_by_a_second_beyond_what_the_question_took(skew, took, status):
    """A slow answer is not taken for a wrong clock."""
    before = datetime(2025, 1, 1, tzinfo=UTC)
    after = before + timedelta(seconds=took)
    theirs = before + timedelta(seconds=took / 2 + skew)
    verdict = judge_skew(before, theirs, after)
    assert verdict.status == status
    assert ("ahead" if skew > 0 else "behind") in verdict.found


def test_unapplied_migrations_stop_what_stands_on_the_tables():
    """The remedy is `migrate`; probes of the rows are not asked, the others are."""
    applied = MigrationRecorder(connection).migration_qs.filter(app="tasks_app")
    names = list(applied.values_list("name", flat=True))
    applied.delete()
    try:
        found = examined()
    finally:
        for name in names:
            MigrationRecorder(connection).record_applied("tasks_app", name)
    assert found["migrations"].status == "fail"
    assert "migrate" in found["migrations"].remedy
    assert found["relay lag"].found == "not asked, since this failed: migrations"
    assert found["broker"].status == "ok"


def test_a_database_that_is_away_is_said_once(tmp_path):
    """The broker is looked at all the same."""
    found = examined_elsewhere(
        tmp_path,
        1,
        TASKS_TEST_DATABASE="sqlite",
        TASKS_TEST_DATABASE_URL=f"sqlite://{tmp_path}/missing/file.sqlite3",
    )
    failed = [name for name, finding in found.items() if finding.status == "fail"]
    assert failed == ["database"]
    assert found["clock skew"].status == "warn"
    assert found["broker"].status == "ok"


def test_a_broker_that_is_away_does_not_stop_the_other_probes(tmp_path):
    """The rows are looked at all the same."""
    url = f"amqp://user:canary-pass@127.0.0.1:{free_port()}//"
    found = examined_elsewhere(tmp_path, 1, TASKS_TEST_BROKER="rabbitmq", TASKS_TEST_BROKER_URL=url)
    failed = [name for name, finding in found.items() if finding.status == "fail"]
    assert failed == ["broker"]
    assert found["relay lag"].status == "ok"
    assert "canary-pass" not in str(found)


def test_a_broker_that_never_answers_does_not_make_it_hang(tmp_path, silent_port):
    """Each probe gives up after some seconds."""
    url = f"amqp://127.0.0.1:{silent_port}//"
    found = examined_elsewhere(tmp_path, 1, TASKS_TEST_BROKER="rabbitmq", TASKS_TEST_BROKER_URL=url)
    assert found["broker"].status == "fail"
    assert found["unknown tasks"].status == "ok"


def test_a_probe_that_hangs_is_given_up():
    """Its silence is the finding."""
    never = Event()
    finding = bounded(Probe("patience", never.wait), patience=0.1)
    assert (finding.status, finding.found) == ("fail", "no answer within 0.1 s")
    never.set()


def test_a_probe_that_raises_is_a_finding_without_passwords(settings):
    """The exception's text is told, less the passwords that the project connects with."""

    def look() -> Any:
        raise RuntimeError("cannot log in\nwith canary-secret")

    connection.settings_dict["PASSWORD"], before = (
        "canary-secret",
        connection.settings_dict.get("PASSWORD", ""),
    )
    try:
        finding = bounded(Probe("login", look))
    finally:
        connection.settings_dict["PASSWORD"] = before
    assert finding == Finding("login", Status.FAIL, "RuntimeError: cannot log in with ***")


def test_the_round_trip_leaves_nothing_at_an_embedded_broker():
    """A doctor that runs every minute must not fill the broker with queues."""
    if app.connection_for_write().transport.driver_type != "filesystem":
        pytest.skip("this run has another broker")
    examined()
    folder = app.connection_for_write().transport.folder
    assert folder.is_dir()
    assert not list(folder.glob("**/*doctor*"))


def test_redis_must_not_evict(redis_server: Server, tmp_path):
    """Every other policy drops messages, and is a failure; nothing of the round trip stays."""
    redis_module = pytest.importorskip("redis")
    broker = {"TASKS_TEST_BROKER": "redis", "TASKS_TEST_BROKER_URL": redis_server.url}
    with redis_module.Redis.from_url(redis_server.url) as redis:
        redis.config_set("maxmemory-policy", "noeviction")
        found = examined_elsewhere(tmp_path, 0, **broker)
        assert found["broker policy"].status == "ok"
        redis.config_set("maxmemory-policy", "allkeys-lru")
        found = examined_elsewhere(tmp_path, 1, **broker)
        redis.config_set("maxmemory-policy", "noeviction")
        assert not redis.keys("*doctor*")
        assert not redis.keys("_kombu.binding.amq.direct")
    assert found["broker policy"].status == "fail"
    assert "noeviction" in found["broker policy"].remedy


def test_rabbitmq_confirms_what_it_took(rabbitmq: Server, tmp_path):
    """The round trip works there too, and confirms are on."""
    broker = {"TASKS_TEST_BROKER": "rabbitmq", "TASKS_TEST_BROKER_URL": rabbitmq.url}
    found = examined_elsewhere(tmp_path, 0, **broker)
    assert found["broker"].status == "ok"
    assert found["broker policy"] == Finding(
        "broker policy", Status.OK, "publisher confirms are on"
    )


def test_a_worker_that_answers_is_told_by_name(tmp_path):
    """It knows every task that is declared."""
    with start_worker(tmp_path, name="alive", pool="solo"):
        found = examined_elsewhere(tmp_path, 0)
    assert found["workers"].status == "ok"
    assert "1 answered: alive@" in found["workers"].found
