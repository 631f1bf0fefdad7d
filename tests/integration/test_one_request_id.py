"""
One string leads from a request to all that it caused, in every place where people look.

A request's work is a chain with a retry, whose end fans out in three parts: one takes its whole
worker along, one fails and is replayed by hand. Real processes run it, and tell Sentry, a receiver
of spans and Prometheus; their standard output is read as a log shipper reads it.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from django.core.management import call_command
from prometheus_client.parser import text_string_to_metric_families

from tasks_app.models import Attempt, Outcome
from tests.pages import asked
from tests.processes import ROOT, Process
from tests.servers.ingest import Ingest
from tests.servers.otlp import OtlpReceiver, values
from tests.servers.server import free_port
from tests.waiting import wait_until

#: Each test only reads what was committed before it.
pytestmark = pytest.mark.django_db

#: Seconds that anything may take on a busy machine.
PATIENCE = 90

TOKEN = "a-token-that-nobody-guesses"

SETTINGS = {
    "LEASE": 3,
    "RESCUE_INTERVAL": 0.5,
    "RELAY_INTERVAL": 0.1,
    "METRICS_TOKEN": TOKEN,
    "METRICS_INTERVAL": 0.2,
}

#: Each outcome of the request: its task and how it ended; the last one is the replay.
OUTCOMES = [
    ("traced.prepare", "succeeded"),
    ("traced.fetch", "succeeded"),
    ("traced.spread", "succeeded"),
    ("traced.part", "succeeded"),
    ("traced.part", "succeeded"),
    ("traced.part", "failed"),
    ("traced.part", "succeeded"),
]

#: How often runs ended so.
ATTEMPTS = {"succeeded": 6, "retried": 1, "lost": 1, "failed": 1}

#: What a process says of itself and of its servers is nobody's work.
OF_NOBODY = "-"


@dataclass
class Site:
    """The processes, and what they told."""

    folder: Path
    ingest: Ingest
    receiver: OtlpReceiver
    port: int = field(default_factory=free_port)

    def start(self, name: str, *words: str) -> Process:
        """Start a process whose standard output, and nothing else, is its log."""
        command = shlex.join([sys.executable, "-m", *words])
        return Process(
            name,
            ["sh", "-c", f"exec {command} 2>{self.folder / name}.err"],
            log=self.folder / f"{name}.out",
            environment={
                **os.environ,
                "DJANGO_SETTINGS_MODULE": "tests.traced.settings",
                "PYTHONPATH": str(ROOT),
                "SENTRY_DSN": self.ingest.dsn(),
                "TASKS_TEST_SETTINGS": json.dumps(SETTINGS),
                "TASKS_TEST_LOGGING": json.dumps({"debug": False}),
                "TASKS_TEST_OTLP": json.dumps({"endpoint": self.receiver.url}),
            },
            folder=ROOT,
        )

    def worker(self, name: str) -> Process:
        words = ("celery", "-A", "tests.project", "worker", "--hostname", f"{name}@%h")
        return self.start(name, *words, "--concurrency", "1")

    def get(self, page: str, **headers: str) -> str:
        status, text = asked(self.port, page, headers)
        assert status == HTTPStatus.OK, text
        return text

    def metrics(self) -> Counter[tuple[str, ...]]:
        """Return how much has happened so far, by metric and labels."""
        page = self.get("/tasks/metrics", Authorization=f"Bearer {TOKEN}")
        found: Counter[tuple[str, ...]] = Counter()
        for family in text_string_to_metric_families(page):
            for sample in family.samples:
                if sample.labels.get("task", "").startswith("traced."):
                    found[sample.name, *sorted(sample.labels.values())] += int(sample.value)
        return found

    def lines(self) -> list[dict[str, Any]]:
        """Return every line that the processes wrote."""
        texts = [path.read_text() for path in sorted(self.folder.glob("*.out"))]
        return [json.loads(line) for text in texts for line in text.splitlines()]


@dataclass
class Story:
    """What one request led to."""

    request_id: str
    rows: list[Outcome]
    lines: list[dict[str, Any]]
    events: list[Any]
    spans: list[dict[str, Any]]
    moved: Counter[tuple[str, ...]]


@pytest.fixture(scope="module")
def site(
    django_db_setup: None, django_db_blocker: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    """A web process and two workers, of which one is to die."""
    with django_db_blocker.unblock(), ExitStack() as stack:
        stack.callback(call_command, "flush", verbosity=0, interactive=False)
        ingest, receiver = stack.enter_context(Ingest()), stack.enter_context(OtlpReceiver())
        made = Site(tmp_path_factory.mktemp("traced"), ingest, receiver)
        workers = [stack.enter_context(made.worker(name)) for name in ("one", "other")]
        web = stack.enter_context(made.start("web", "tests.traced.web", str(made.port)))
        for worker in workers:
            worker.wait_for_output(" ready.")
        web.wait_for_output('"ready"')
        yield made


@pytest.fixture(scope="module")
def story(site: Site, django_db_blocker: Any) -> Story:
    """Make the request, replay what failed, and gather what is told about it everywhere."""
    request_id = f"support-{uuid4().hex}"
    with django_db_blocker.unblock():
        before = site.metrics()
        site.get(f"/orders/?key={uuid4().hex}", **{"X-Request-ID": request_id})
        rows = ended(request_id, len(OUTCOMES) - 1)
        failed = next(row for row in rows if row.state == "failed")
        # Another request, with an id of its own: the replay belongs to the one that it repeats.
        site.get(f"/again/?outcome={failed.pk}")
        rows = ended(request_id, len(OUTCOMES))
        wait_until(
            lambda: finished(site.metrics() - before) == len(OUTCOMES),
            PATIENCE,
            lambda: f"{len(OUTCOMES)} ends in {site.metrics() - before}",
        )
        site.ingest.wait_for("event", request_id=request_id)
        wait_until(lambda: len(runs(site)) >= sum(ATTEMPTS.values()) - 1, PATIENCE, "all spans")
        moved = site.metrics() - before
        return Story(request_id, rows, site.lines(), site.ingest.of("event"), runs(site), moved)


def ended(request_id: str, count: int) -> list[Outcome]:
    """Wait until so many outcomes of a request are final; return them in order."""

    def look() -> list[Outcome]:
        return list(Outcome.objects.for_request(request_id))

    wait_until(
        lambda: len(look()) == count and all(row.is_final for row in look()),
        PATIENCE,
        lambda: f"{count} final outcomes: {look()}",
    )
    return look()


def finished(moved: Counter[tuple[str, ...]]) -> int:
    """Return how many outcomes became final, by the metrics."""
    return sum(n for (name, *_), n in moved.items() if name == "tasks_app_finished_total")


def runs(site: Site) -> list[dict[str, Any]]:
    """Return the attributes of the spans of runs."""
    spans = [span for span in site.receiver.spans if span.name.startswith("run traced.")]
    return [values(span.attributes) for span in spans]


def test_every_row_has_the_id(story):
    """The rows of the request are those of its work, and their attempts show what happened."""
    assert sorted((row.task_name, row.state) for row in story.rows) == sorted(OUTCOMES)
    assert {row.request_id for row in story.rows} == {story.request_id}


def test_the_rows_are_one_tree_in_order(story):
    """Parents come before their children, and the replay, which came last, hangs where it did."""
    place = {row.pk: number for number, row in enumerate(story.rows)}
    names = [row.task_name for row in story.rows]
    assert names == ["traced.prepare", "traced.fetch", "traced.spread", *["traced.part"] * 4]
    assert all(place[row.parent_id] < place[row.pk] for row in story.rows if row.parent_id)
    failed = next(row for row in story.rows if row.state == "failed")
    assert story.rows[-1].replay_of_id == failed.pk
    assert (story.rows[-1].parent_id, story.rows[-1].root_id) == (failed.parent_id, failed.root_id)


def test_every_attempt_is_there(story):
    """The retry, the loss and the failure each have their row."""
    found = Counter(attempt.state for row in story.rows for attempt in row.attempts.all())
    assert found == ATTEMPTS
    assert Attempt.objects.exclude(sentry_event_id="").count() == len(story.events)


def test_every_line_about_the_work_has_the_id(story):
    """Whoever wrote it: the page, a helper, this app, Celery; in whichever process."""
    ids = {str(row.pk) for row in story.rows}
    about = [line for line in story.lines if line.get("outcome_id") in ids]
    assert {line["request_id"] for line in about} == {story.request_id}
    assert {line["outcome_id"] for line in about} == ids
    said = Counter(line["message"] for line in about if line["logger"] == "tests.traced.tasks")
    # A killed process takes along what its queue of lines still holds.
    assert said.pop("working") in {4, 5}
    assert said == {"preparing": 1, "fetching": 2}


def test_no_other_line_has_an_id_of_its_own(story):
    """The request's own line has the id, and lines about nobody's work have none."""
    asked = [line for line in story.lines if line["message"] == "asked for work"]
    assert [line["request_id"] for line in asked] == [story.request_id]
    rest = [line for line in story.lines if line.get("outcome_id", OF_NOBODY) == OF_NOBODY]
    found = {line.get("request_id", OF_NOBODY) for line in rest if line not in asked}
    assert found <= {OF_NOBODY}


def test_sentrys_event_has_the_id(story):
    """The part that failed for good is one event, and all the rest is none."""
    failed = next(row for row in story.rows if row.state == "failed")
    assert [event.tags["outcome_id"] for event in story.events] == [str(failed.pk)]
    assert story.events[0].tags["request_id"] == story.request_id
    assert story.events[0].payload["event_id"] == failed.attempts.get().sentry_event_id


def test_every_span_has_the_id(story):
    """Each run that lived to its end has told of itself."""
    assert len(story.spans) == sum(ATTEMPTS.values()) - ATTEMPTS["lost"]
    assert {span["tasks_app.request_id"] for span in story.spans} == {story.request_id}
    assert {span["tasks_app.outcome_id"] for span in story.spans} == {
        str(row.pk) for row in story.rows
    }


def test_the_metrics_move_by_what_happened(story):
    """Neither more nor less than these outcomes and attempts."""
    expected = Counter(OUTCOMES)
    finished = {
        (name, state): story.moved["tasks_app_finished_total", state, name]
        for name, state in expected
    }
    assert finished == expected
    attempts = {
        state: sum(
            n
            for (name, *labels), n in story.moved.items()
            if name == "tasks_app_attempts_total" and labels[0] == state
        )
        for state in ATTEMPTS
    }
    assert attempts == ATTEMPTS
    assert story.moved["tasks_app_rescued_total", "traced.part"] == 1
