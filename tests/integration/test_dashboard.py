"""
The dashboard tells what happened and what is wrong, at a cost that does not grow with the rows.

Every request goes through Django's client; stock is taken in this process.
"""

from __future__ import annotations

import json
import re
from datetime import timedelta

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from django.db import connection
from django.db.models import F
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from tasks_app import pulse, rollups, stock, vitals
from tasks_app.admin.charts import RANGES
from tasks_app.models import Attempt, Deploy, Heartbeat, Outcome, Rollup, Stock
from tests import by_hand
from tests.integration.command_line import ago, failed
from tests.testapp import tasks

pytestmark = pytest.mark.django_db(transaction=True)

PAGE = "/admin/tasks_app/outcome/dashboard/"

ADD = tasks.add.name


@pytest.fixture
def viewer() -> Client:
    """Somebody who may see outcomes, and nothing more: his rights are statements of their own."""
    user = get_user_model().objects.create_user("viewer", is_staff=True)
    user.user_permissions.add(Permission.objects.get(codename="view_outcome"))
    client = Client()
    client.force_login(user)
    return client


def take():
    Stock.objects.bulk_create([Stock(pk=stock.ROW)], ignore_conflicts=True)
    assert stock.take()


def let_settle(**passed):
    past = timedelta(**passed)
    Outcome.objects.filter(finished_at__isnull=False).update(finished_at=F("finished_at") - past)
    Attempt.objects.update(
        finished_at=F("finished_at") - past,
        started_at=F("started_at") - past,
        due_at=F("due_at") - past,
    )


def act():
    """End three well and one badly."""
    for number in range(3):
        by_hand.answer(tasks.add.enqueue(number, 1))
    failed(tasks.add.enqueue(1, 1))


def data(response):
    """Return what the charts draw."""
    found = re.search(r'id="dashboard-points"[^>]*>(.*?)</script>', response.content.decode())
    return json.loads(found[1])


def line(response, chart, title):
    """Return a line's values that are there, by their times."""
    drawn = data(response)
    (values,) = (
        each["values"] for each in drawn["charts"][chart]["lines"] if each["title"] == title
    )
    return {time: value for time, value in zip(drawn["times"], values, strict=True) if value}


@pytest.mark.parametrize("settled", [False, True])
def test_each_range_shows_what_ended_in_it(viewer, settled):
    """Drawn and as a table, whether it has settled or ended just now."""
    act()
    if settled:
        let_settle(minutes=5)
    take()
    for name in RANGES:
        response = viewer.get(PAGE, {"range": name})
        assert response.context["range"].name == name
        assert set(line(response, "failures", "failure rate").values()) == {25}
        assert line(response, "throughput", "succeeded")
        for kind in ("wait", "run"):
            assert len(line(response, kind, "p95")) == 1
        for chart in response.context["charts"]:
            assert sum(texts[0] != "0" for _, texts in chart["rows"]) == 1
        assert dict(response.context["charts"][0]["whole"])["Ended"] == "4"
        assert 12 <= len(response.context["charts"][0]["rows"]) <= 32
        assert 36 <= len(data(response)["times"]) <= 170


def test_what_ended_before_a_range_is_not_in_it(viewer):
    """An hour's chart shows nothing of the hour before, the longer ones do."""
    act()
    let_settle(hours=3)
    take()
    ended = {
        name: dict(viewer.get(PAGE, {"range": name}).context["charts"][0]["whole"])["Ended"]
        for name in RANGES
    }
    assert ended == {"1h": "0", "6h": "4", "24h": "4", "7d": "4", "30d": "4"}
    page = viewer.get(PAGE, {"range": "1h"}).content.decode()
    assert "Nothing ended in this time" in page


def test_an_unknown_range_is_the_default_one_with_a_word(viewer):
    """Whatever somebody writes into the address."""
    for asked in ("", "9d", "<script>", "1h\x00"):
        response = viewer.get(PAGE, {"range": asked})
        assert response.context["range"].name == "1h"
        assert "There is no such range" in response.content.decode()
    assert "There is no such range" not in viewer.get(PAGE).content.decode()


def test_the_tasks_that_fail_most_lead_to_their_outcomes(viewer):
    """Settled or not; a task that never failed is not among them."""
    act()
    let_settle(minutes=5)
    take()
    failed(tasks.total.enqueue([1]))
    failed(tasks.add.enqueue(1, 1))
    by_hand.answer(tasks.record.enqueue("key"))
    take()
    for name in RANGES:
        response = viewer.get(PAGE, {"range": name})
        rows = {row["task"]: (row["failed"], row["ended"]) for row in response.context["failing"]}
        assert rows == {ADD: ("2", "5"), tasks.total.name: ("1", "1")}
    page = viewer.get(response.context["failing"][0]["address"])
    assert page.context["cl"].result_count == 2


def test_queues_tell_depth_age_and_lag(viewer):
    """The longest first; a queue where nothing waits is there, with no age."""
    for _ in range(2):
        late = tasks.add.using(queue="slow").enqueue(1, 1)
        Outcome.objects.filter(pk=late.pk).update(
            run_at=F("run_at") - timedelta(minutes=5),
            announce_at=F("announce_at") - timedelta(minutes=3),
        )
    take()
    response = viewer.get(PAGE)
    slow, *others = response.context["queues"]
    assert (slow["name"], slow["depth"]) == ("slow", "2")
    assert (slow["age"], slow["lag"]) == ("5\xa0minutes", "3\xa0minutes")
    assert [(each["name"], each["depth"], each["age"]) for each in others] == [("celery", "0", "-")]
    assert viewer.get(slow["address"]).context["cl"].result_count == 2


def test_processes_are_told_in_words_with_what_to_run(viewer, settings):
    """None yet, alive, and silent for a while."""
    for brings_relay in (True, False):
        settings.TASKS_APP = {**settings.TASKS_APP, "RELAY_IN_WORKER": brings_relay}
        page = viewer.get(PAGE).content.decode()
        for kind in ("worker", "beat"):
            assert f"python manage.py tasks {kind}" in page
        assert ("python manage.py tasks relay" in page) == (not brings_relay)
    settings.TASKS_APP = {**settings.TASKS_APP, "RELAY_IN_WORKER": True}
    pulse.beat("w#1/1", "worker")
    pulse.beat("b/1", "beat")
    Heartbeat.objects.filter(kind="beat").update(seen_at=ago(minutes=10))
    texts = {kind.name: kind for kind in viewer.get(PAGE).context["kinds"]}
    assert texts["worker"].text.startswith("1 alive, last sign ")
    assert texts["relay"].text == "inside each worker"
    assert "none alive, last sign 10\xa0minutes ago" in texts["beat"].text
    assert [kind.mood for kind in texts.values()] == ["good", "good", "bad"]


def test_a_stale_count_is_told(viewer):
    """Charts that end some time ago must not look like quiet."""
    assert "Nothing has been counted yet" in viewer.get(PAGE).content.decode()
    take()
    assert not viewer.get(PAGE).context["count"].is_stale
    for away in ({"minutes": 5}, {"days": 2}):
        Stock.objects.update(taken_at=ago(**away))
        assert "does a worker or a relay run?" in viewer.get(PAGE).content.decode()
    assert len(data(viewer.get(PAGE))["times"]) == 1
    assert "does a worker or a relay run?" in viewer.get(PAGE).content.decode()


def test_deploys_are_marked(viewer, settings):
    """Once for each version, by whichever process comes first, and in its range only."""
    for version in ("one", "two", "one"):
        settings.TASKS_APP = {**settings.TASKS_APP, "VERSION": version}
        pulse._told.clear()
        pulse.beat("w", "worker")
    assert Deploy.objects.count() == 2
    assert Heartbeat.objects.get().version == "one"
    Deploy.objects.filter(pk="one").update(first_seen_at=ago(hours=2))
    for name, versions in (("1h", ["two"]), ("6h", ["two", "one"])):
        response = viewer.get(PAGE, {"range": name})
        assert [each["version"] for each in data(response)["deploys"]] == versions


def test_without_a_setting_the_version_is_what_sentry_would_say(monkeypatch):
    """Asked in another process: the SDK is not loaded into this one."""
    monkeypatch.setenv("SENTRY_RELEASE", "shop@7")
    vitals.default_version.cache_clear()
    assert vitals.default_version() == "shop@7"
    vitals.default_version.cache_clear()


def test_the_dashboard_costs_at_most_twelve_statements(viewer):
    """However many outcomes, tasks, queues, processes and deploys there are."""
    take()
    with CaptureQueriesContext(connection) as few:
        viewer.get(PAGE)
    act()
    let_settle(minutes=5)
    for number in range(5):
        failed(tasks.total.enqueue([number]))
        tasks.add.using(queue=f"q{number}").enqueue(1, 1)
        pulse.beat(f"w{number}#1/1", "worker")
        Deploy.objects.create(version=str(number))
    take()
    for name in RANGES:
        with CaptureQueriesContext(connection) as many:
            viewer.get(PAGE, {"range": name})
        assert len(many) == len(few) <= 12


def test_the_page_reads_a_bounded_number_of_rows(viewer):
    """A month of hours, and of each task the days."""
    begin = timezone.now().replace(minute=0, second=0, microsecond=0)
    counts = json.dumps({"ended": {"failed": 1}})
    Rollup.objects.bulk_create(
        Rollup(
            step=rollups.HOUR, start_at=begin - timedelta(hours=n), task_name=t, counts_json=counts
        )
        for n in range(800)
        for t in ("", "a")
    )
    assert len(rollups.read(rollups.HOUR, begin - timedelta(days=30))) == 721
    assert len(rollups.read_failing(rollups.HOUR, begin - timedelta(days=30), 50)) == 50
    assert dict(viewer.get(PAGE, {"range": "30d"}).context["charts"][0]["whole"])["Failed"] > "700"


def test_the_page_keeps_to_a_strict_policy(viewer):
    """No script, style or handler stands in it."""
    act()
    take()
    page = viewer.get(PAGE).content.decode()
    own = page[page.index('class="tasks-console"') :]
    assert not re.search(r"<style|\sstyle=|\son\w+=|javascript:", own)
    assert re.findall(r"<script(?! id=\"dashboard-points\" type=\"application/json\")", own) == []
