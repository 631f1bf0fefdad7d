"""
The workers' page: who is alive, and what each runs now.

Heartbeats are written as processes write them; one test reads what a real worker told.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from datetime import timedelta
from types import SimpleNamespace

import pytest
from celery.concurrency.solo import TaskPool
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from django.db import connection
from django.db.models import F
from django.test import Client
from django.test.utils import CaptureQueriesContext

from tasks_app import outcomes, pulse, vitals
from tasks_app.models import Deploy, Heartbeat, Outcome
from tasks_app.worker_steps import about_worker
from tests.integration.command_line import ago
from tests.project import app
from tests.testapp import tasks

pytestmark = pytest.mark.django_db(transaction=True)

PAGE = "/admin/tasks_app/outcome/workers/"

SECRET = "tok_canary_4242"


@pytest.fixture
def viewer() -> Client:
    user = get_user_model().objects.create_user("viewer", is_staff=True)
    user.user_permissions.add(Permission.objects.get(codename="view_outcome"))
    client = Client()
    client.force_login(user)
    return client


def running(worker):
    """Return an outcome that a worker's child runs."""
    outcome = tasks.add.enqueue(1, 1)
    assert outcomes.claim(outcome.pk, frozenset({tasks.add.name}), worker) is not None
    return outcome


def go_silent(name, **span):
    Heartbeat.objects.filter(pk=name).update(seen_at=ago(**span))


def processes(response):
    return {process.row.name: process for process in response.context["processes"]}


def test_each_process_tells_what_it_is(viewer, settings):
    """Host, process, pool, queues, memory and version; control is Flower's."""
    settings.TASKS_APP = {"VERSION": "abc", "FLOWER_URL": "https://flower.example/"}
    parent = SimpleNamespace(pool_cls=TaskPool, pool=SimpleNamespace(num_processes=4), app=app)
    pulse.beat("node@host#1f/1", "worker", {**about_worker(parent), "memory": 3 * 1024**2})
    pulse.beat("relay@host/2", "relay", vitals.about())
    pulse.beat("beat@host/3", "beat", vitals.about())
    response = viewer.get(PAGE)
    worker, *others = processes(response).values()
    assert (worker.name, worker.pool, worker.queues) == ("node@host", "solo, 4", "celery")
    assert (worker.version, worker.memory) == ("abc", "3.0\xa0MB")
    assert [each.kind for each in others] == ["beat", "relay"]
    page = response.content.decode()
    assert "https://flower.example/worker/node@host" in page
    assert vitals.about()["host"] in page
    assert page.count("alive</span>, seen") == 3


def test_a_worker_shows_what_each_of_its_processes_runs(viewer):
    """By the name that claims of its children carry, and of no namesake's."""
    pulse.beat("node@a#1f/1", "worker")
    pulse.beat("node@a#2f/9", "worker")
    first, second = running("node@a#1f/11"), running("node@a#1f/12")
    response = viewer.get(PAGE)
    shown = processes(response)
    assert [run.row.pk for run in shown["node@a#1f/1"].runs] == [first.pk, second.pk]
    assert shown["node@a#2f/9"].runs == []
    page = response.content.decode()
    assert f"/admin/tasks_app/outcome/{first.pk}/change/" in page
    assert "attempt 1, for " in page
    assert "orphan" not in page


def test_what_runs_on_a_silent_worker_is_an_orphan_to_be(viewer):
    """With when its lease ends; also on a worker that never told that it lives."""
    pulse.beat("node@a#1f/1", "worker")
    go_silent("node@a#1f/1", minutes=5)
    running("node@a#1f/11")
    stray = running("node@b#3f/7")
    Outcome.objects.filter(pk=stray.pk).update(lease_until=F("lease_until") - timedelta(days=1))
    response = viewer.get(PAGE)
    (worker,) = response.context["processes"]
    (run,) = worker.runs
    assert re.fullmatch(r"its lease ends in 4\d seconds, then it is rescued", run.fate)
    assert [each.row.pk for each in response.context["strays"]] == [stray.pk]
    page = response.content.decode()
    assert page.count("orphan to be: its lease") == 2
    assert "its lease has ended: a relay rescues it next" in page
    assert "last seen 5\xa0minutes ago" in page
    assert "No worker is alive" in page


def test_an_older_version_is_marked_where_a_newer_one_is_deployed(viewer, settings):
    """Whoever still runs it is told from those that run the newest."""
    for name, version in (("old#1/1", "one"), ("new#1/1", "two")):
        settings.TASKS_APP = {"VERSION": version}
        pulse._told.clear()
        pulse.beat(name, "worker")
    Deploy.objects.filter(pk="one").update(first_seen_at=ago(hours=1))
    response = viewer.get(PAGE)
    outdated = {name: each.is_outdated for name, each in processes(response).items()}
    assert outdated == {"old#1/1": True, "new#1/1": False}
    assert response.content.decode().count("not the newest") == 1


def test_what_lives_stands_above_what_is_silent(viewer):
    """Workers first."""
    for name, kind in (("a#1/1", "worker"), ("b#1/1", "worker"), ("c/1", "relay")):
        pulse.beat(name, kind)
    go_silent("a#1/1", hours=2)
    assert list(processes(viewer.get(PAGE))) == ["b#1/1", "c/1", "a#1/1"]


def test_an_empty_page_says_what_to_run(viewer):
    """And heartbeats of older code, which tell nothing more, are shown."""
    page = viewer.get(PAGE).content.decode()
    assert "python manage.py tasks worker" in page
    assert "No process has told that it lives" in page
    Heartbeat.objects.create(name="old#1/1", kind="worker")
    page = viewer.get(PAGE).content.decode()
    assert "old" in page
    assert "tasks_app[memory]" in page


def test_a_heartbeat_is_one_update(settings, monkeypatch):
    """The first one also writes its row, and the version if nobody has told it."""
    settings.TASKS_APP = {"VERSION": "abc"}
    monkeypatch.setenv("PASSWORD", SECRET)
    pulse._told.clear()
    pulse.beat("w#1/1", "worker", vitals.about(pool="solo"))
    first = Heartbeat.objects.get()
    with CaptureQueriesContext(connection) as captured:
        pulse.beat("w#1/1", "worker", vitals.about(pool="prefork"))
    sent = [query["sql"] for query in captured if not query["sql"].startswith("SELECT 1")]
    assert [sql.split()[0] for sql in sent] == ["UPDATE"]
    second = Heartbeat.objects.get()
    assert abs(second.started_at - first.started_at) < timedelta(seconds=2)
    assert json.loads(second.about_json)["pool"] == "prefork"
    assert SECRET not in second.about_json


def test_memory_is_that_of_a_process_and_its_children():
    """Measured where psutil is installed."""
    pytest.importorskip("psutil")
    alone = vitals.memory()["memory"]
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        assert vitals.memory()["memory"] > alone > 10 * 1024**2
    finally:
        child.communicate()


def test_the_page_costs_as_many_statements_with_more_rows(viewer):
    """However many processes there are and whatever they run; neither is shown without end."""
    pulse.beat("w#1/1", "worker")
    with CaptureQueriesContext(connection) as few:
        viewer.get(PAGE)
    for number in range(5):
        pulse.beat(f"w{number}#1/1", "worker")
        running(f"w{number}#1/2")
    with CaptureQueriesContext(connection) as many:
        viewer.get(PAGE)
    assert len(few) == len(many) <= 8
    Heartbeat.objects.bulk_create(Heartbeat(name=f"x{n}", kind="relay") for n in range(250))
    response = viewer.get(PAGE)
    assert len(response.context["processes"]) == 200
    assert "There is more than this page shows" in response.content.decode()
