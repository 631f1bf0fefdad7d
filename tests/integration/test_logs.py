"""
What is logged about an outcome, what each line of a run knows, and what is kept of it.

The runs are the worker's own functions in this process; workers of their own are in
`test_log_processes`.
"""

from __future__ import annotations

import contextvars
import io
import json
import logging
import threading
from datetime import timedelta

import pytest
import structlog
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from django.test import Client

from tasks_app import Discard, Retry, context, control, outcomes, rescue, signals
from tasks_app.integrations.json_logs import JsonFormatter
from tasks_app.integrations.structlog import add_context, keep_line, mask_secrets
from tasks_app.leases import Lease
from tasks_app.logs import ContextFilter, TextFormatter, kept, levels, lifecycle
from tasks_app.logs.programs import COMMAND
from tasks_app.models import Outcome, Progress
from tasks_app.runs import running
from tests import by_hand
from tests.integration.command_line import claimed
from tests.testapp import tasks
from tests.waiting import wait_until

pytestmark = pytest.mark.django_db(transaction=True)

helper_log = logging.getLogger("tests.helper")

FIVE = {"request_id", "outcome_id", "task", "attempt", "queue"}

SECRET = "canary-\n'\"é"


class Lines(logging.Handler):
    """Keeps what it gets, as records and as written by each formatter."""

    def __init__(self) -> None:
        super().__init__()
        self.addFilter(ContextFilter())
        self.records: list[logging.LogRecord] = []
        self.texts: list[str] = []
        self.formatters = (TextFormatter(), JsonFormatter(), logging.Formatter())

    def emit(self, record):
        self.records.append(record)
        self.texts += [each.format(record) for each in self.formatters]

    def of(self, name):
        """Return the records of a logger."""
        return [record for record in self.records if record.name == name]


@pytest.fixture
def lines():
    """Everything that is logged, at every level."""
    handler, root = Lines(), logging.getLogger()
    before = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    lifecycle.match_levels()
    yield handler
    root.removeHandler(handler)
    root.setLevel(before)
    lifecycle.match_levels()


def answered(helper, outcome=None):
    """Let a call run once; return its outcome and its last attempt."""
    outcome = outcome or tasks.succeed_at.enqueue("key", 1)
    try:
        by_hand.answer(outcome, lambda *args, **kwargs: helper())
    except Exception:  # noqa: BLE001 - a worker hears of every end
        assert outcome.pk
    outcome.refresh()
    return outcome, outcome.attempts.order_by("number").last()


def raising(error):
    def helper():
        raise error

    return helper


def progressing():
    signals.progressed.send_robust(
        Outcome, outcome=running().outcome, progress=Progress(3.0, 4.0, "")
    )


def cancel(outcome):
    outcome.cancel()


def expire(outcome):
    Outcome.objects.filter(pk=outcome.pk).update(expires_at=outcome.created_at - timedelta(1))
    answered(lambda: None, outcome)


def orphan(outcome):
    claimed(outcome)
    by_hand.let_lease_run_out(outcome)
    rescue.run_once()


def announce(outcome):
    signals.announced.send_robust(Outcome, outcome=outcome)


EVENTS = {
    "enqueued": (logging.DEBUG, lambda outcome: None),
    "announced": (logging.DEBUG, announce),
    "started": (logging.DEBUG, lambda outcome: answered(lambda: None, outcome)),
    "progressed": (logging.DEBUG, lambda outcome: answered(progressing, outcome)),
    "succeeded": (logging.INFO, lambda outcome: answered(lambda: None, outcome)),
    "retrying": (logging.WARNING, lambda outcome: answered(raising(Retry(after=9)), outcome)),
    "failed": (logging.ERROR, lambda outcome: answered(raising(Discard("no")), outcome)),
    "rescued": (logging.WARNING, orphan),
    "cancelled": (logging.INFO, cancel),
    "expired": (logging.WARNING, expire),
}


@pytest.mark.parametrize("event", EVENTS)
def test_each_event_of_a_life_is_one_line_with_all_fields(event, lines):
    """Bad ends carry what good ones carry."""
    level, happen = EVENTS[event]
    outcome = tasks.succeed_at.using(queue="mail").enqueue("key", 1)
    happen(outcome)
    (record,) = [each for each in lines.of("tasks_app") if getattr(each, "event", "") == event]
    assert record.levelno == level
    assert record.getMessage().startswith(f"{event} {outcome}")
    found = {name: getattr(record, name) for name in FIVE}
    outcome.refresh()
    assert found == {
        "request_id": outcome.request_id,
        "outcome_id": str(outcome.pk),
        "task": "tests.testapp.helpers.succeed_at",
        "attempt": record.attempt,
        "queue": "mail",
    }
    assert record.attempt == (
        0 if event in {"enqueued", "announced", "cancelled", "expired"} else 1
    )
    assert record.state


def test_ends_of_runs_tell_how_long_and_why(lines):
    """Durations are numbers, errors are types."""
    answered(lambda: None)
    answered(raising(Retry(after=9)))
    answered(raising(Discard("no")))
    told = {record.event: record for record in lines.of("tasks_app")}
    assert all(told[event].duration >= 0 for event in ("succeeded", "retrying", "failed"))
    assert (told["retrying"].delay, told["retrying"].error_type) == (
        9,
        "tasks_app.exceptions.Retry",
    )
    assert (told["failed"].reason, told["failed"].state) == ("discarded", "failed")


def test_a_dropped_message_has_the_same_fields(lines):
    """What is known of it; the rest is said to be unknown."""
    outcome, _ = answered(lambda: None)
    answered(lambda: None, outcome)
    (record,) = [each for each in lines.of("tasks_app") if getattr(each, "event", "") == "dropped"]
    assert all(hasattr(record, name) for name in FIVE)
    assert (record.outcome_id, record.attempt) == (str(outcome.pk), "-")
    assert record.reason == "the outcome is succeeded"


def test_a_lost_lease_has_the_same_fields(lines):
    """It happens in the run that lost it."""
    outcome = tasks.succeed_at.enqueue("key", 1)
    answered(lambda: outcomes.release(Lease.of(running().outcome)), outcome)
    (record,) = [each for each in lines.of("tasks_app") if "lost the lease" in each.getMessage()]
    assert (record.outcome_id, record.attempt, record.event) == (str(outcome.pk), 1, "lease_lost")


def is_told(signal, word):
    """Tell whether the line of a signal has a receiver; integrations may have others."""
    return any(key == f"tasks_app.logs.{word}" for (key, _sender), *_ in signal.receivers)


def test_lines_that_nobody_reads_cost_nothing():
    """No receiver of the app's own is connected for a level that is not logged."""
    logging.getLogger("tasks_app").setLevel(logging.DEBUG)
    try:
        lifecycle.match_levels()
        assert is_told(signals.enqueued, "enqueued")
        logging.getLogger("tasks_app").setLevel(logging.ERROR)
        lifecycle.match_levels()
        assert not is_told(signals.enqueued, "enqueued")
        assert not is_told(signals.succeeded, "succeeded")
        assert is_told(signals.failed, "failed")
    finally:
        logging.getLogger("tasks_app").setLevel(logging.NOTSET)
        lifecycle.match_levels()


@pytest.fixture
def wish(tmp_path, settings):
    """A file for wishes of this test's own, gone with all that they did."""
    path = tmp_path / "levels"
    settings.TASKS_APP = {"LOG_LEVELS_FILE": path}
    yield path
    path.unlink(missing_ok=True)
    levels.follow()


def test_a_level_changes_while_the_process_runs_and_goes_back(wish):
    """The receivers follow, so that a line appears that was not worth making before."""
    logger = logging.getLogger("tasks_app")
    before = logger.level
    assert not signals.enqueued.has_listeners()
    levels.change("tasks_app", "DEBUG")
    assert logger.level == logging.DEBUG
    assert signals.enqueued.has_listeners()
    levels.change("tasks_app", "ERROR")
    assert logger.level == logging.ERROR
    levels.change("tasks_app", levels.RESET)
    assert logger.level == before
    assert not signals.enqueued.has_listeners()


def test_a_wish_for_a_time_is_over_by_itself(wish, monkeypatch):
    """In every process, by its own clock; the other wishes stay."""
    now = levels.time.time()
    levels.change("tests.one", "DEBUG", now + 60)
    levels.change("tests.two", "DEBUG")
    assert levels.follow() == now + 60
    monkeypatch.setattr(levels.time, "time", lambda: now + 61)
    assert levels.follow() is None
    assert logging.getLogger("tests.one").level == logging.NOTSET
    assert logging.getLogger("tests.two").level == logging.DEBUG


def test_a_wish_without_the_projects_key_is_ignored(wish, settings, caplog):
    """Whoever can write to a temporary folder does not choose what is logged."""
    settings.SECRET_KEY = "somebody-else"
    levels.change("tests.one", "DEBUG")
    settings.SECRET_KEY = "only-for-tests"
    levels.follow()
    assert logging.getLogger("tests.one").level == logging.NOTSET
    assert "is ignored" in caplog.text


def test_a_web_process_looks_for_wishes_from_its_first_request_on(wish, client):
    """What another process wrote changes its loggers within a second or so."""
    client.get("/")
    levels._write({"tests.web": ("DEBUG", None)})
    logger = logging.getLogger("tests.web")
    wait_until(lambda: logger.level != logging.NOTSET, 30, lambda: repr(logger))
    assert logger.level == logging.DEBUG


def test_a_stranger_at_the_broker_does_not_choose_levels():
    """The command needs a seal, as all do that change a worker."""
    arguments = {"logger": "root", "level": "DEBUG"}
    assert not control.is_open({"method": COMMAND, "arguments": arguments})


def test_each_line_of_a_run_knows_its_call(lines):
    """Whoever writes it; in threads with the helper's context too, and not after the run."""

    def helper():
        helper_log.info("from the helper")
        copied = contextvars.copy_context()
        other = threading.Thread(target=copied.run, args=(helper_log.info, "from a thread"))
        other.start()
        other.join()

    outcome, _ = answered(helper)
    helper_log.info("afterwards")
    first, second, after = lines.of("tests.helper")
    for record in (first, second):
        assert {name: str(getattr(record, name)) for name in FIVE} == {
            "request_id": outcome.request_id,
            "outcome_id": str(outcome.pk),
            "task": outcome.task_name,
            "attempt": "1",
            "queue": outcome.queue,
        }
    assert {getattr(after, name) for name in FIVE} == {"-"}


def test_a_line_of_a_request_knows_the_request_alone(lines):
    """Nothing else is known there."""
    with context.working_for("abcdefgh", None):
        helper_log.info("served")
    (record,) = lines.of("tests.helper")
    assert (record.request_id, record.outcome_id, record.attempt) == ("abcdefgh", "-", "-")


def test_celerys_last_line_about_a_run_knows_its_call(lines):
    """It is written when the run is over; one about another task is not mistaken for it."""
    outcome, _ = answered(lambda: None)
    for outcome_id in (str(outcome.pk), "another"):
        data = {"id": outcome_id, "name": outcome.task_name}
        helper_log.info("done", extra={"data": data})
    mine, other = lines.of("tests.helper")
    assert (mine.request_id, mine.attempt) == (outcome.request_id, 1)
    assert (other.request_id, other.outcome_id) == ("-", "another")


def speaking():
    """Let a secret into a line in each way there is."""
    helper_log.info("pay with %s", SECRET)
    helper_log.info("pay", extra={"body": {"card": [SECRET]}})
    try:
        raise ValueError(SECRET)  # noqa: TRY301 - it is the line that matters
    except ValueError:
        helper_log.exception("no")


def test_no_line_of_a_run_shows_its_secrets(lines):
    """Not in a message, an exception or a field, in text or JSON; nor what is kept of it."""
    outcome = tasks.charge.enqueue(1, card_token=SECRET, mood="pay")
    _, attempt = answered(speaking, outcome)
    assert len(lines.of("tests.helper")) == 3
    assert "pay with ***" in attempt.log
    for text in (*lines.texts, attempt.log):
        assert "canary" not in text, text
    helper_log.info("canary is no secret of nobody's")
    assert "canary" in lines.texts[-1]


def test_a_number_that_is_secret_leaves_json_whole(lines):
    """It is masked as a value, not as digits of another one."""
    outcome = tasks.charge.enqueue(1, card_token=9, mood="pay")
    answered(lambda: helper_log.info("paid", extra={"card": 9}), outcome)
    written = [text for text in lines.texts if text.startswith("{") and "paid" in text]
    assert json.loads(written[0])["card"] == "***"


@pytest.fixture
def info():
    """The root logger at INFO, as a worker has it."""
    root = logging.getLogger()
    before = root.level
    root.setLevel(logging.INFO)
    yield
    root.setLevel(before)


@pytest.mark.usefixtures("info")
def test_each_attempt_keeps_its_own_lines():
    """However it ends; DEBUG is not kept, and a logger that does not propagate is."""
    quiet = logging.getLogger("tests.quiet")
    quiet.propagate = False

    def helper():
        helper_log.debug("muttered")
        quiet.info("spoken in attempt %d", running().lease.number)
        if running().lease.number == 1:
            raise Retry(after=0)

    outcome = tasks.succeed_at.enqueue("key", 1)
    answered(helper, outcome)
    Outcome.objects.filter(pk=outcome.pk).update(run_at=outcome.created_at)
    answered(helper, outcome)
    first, second = (row.log for row in outcome.attempts.order_by("number"))
    assert first.endswith(" INFO tests.quiet: spoken in attempt 1")
    assert "attempt 1" not in second
    assert "attempt 2" in second
    assert "muttered" not in first + second


@pytest.mark.usefixtures("info")
def test_the_last_lines_are_kept_and_no_more(settings):
    """The first ones give way, by number and by size."""

    def helper():
        for number in range(300):
            helper_log.info("line %d", number)

    _, attempt = answered(helper)
    kept_lines = attempt.log.splitlines()
    assert len(kept_lines) == 200
    assert [kept_lines[0][-8:], kept_lines[-1][-8:]] == ["line 100", "line 299"]
    _, attempt = answered(lambda: [helper_log.info("é" * 1_500) for _ in range(50)])
    assert kept.MOST_BYTES * 0.7 < len(attempt.log.encode()) <= kept.MOST_BYTES
    assert attempt.log.startswith("…\n")
    settings.TASKS_APP = {"KEEP_LOG_LINES": 3}
    assert len(answered(helper)[1].log.splitlines()) == 3
    settings.TASKS_APP = {"KEEP_LOG_LINES": 0}
    assert answered(helper)[1].log == ""


@pytest.mark.usefixtures("info")
def test_a_long_line_is_cut_behind_its_masked_secrets():
    """Half a secret at the cut would be found by nobody."""
    start = "x" * (kept.LONGEST_LINE - 4)
    outcome = tasks.charge.enqueue(1, card_token=SECRET, mood="pay")
    _, attempt = answered(lambda: helper_log.info("%s%s", start, SECRET), outcome)
    assert len(attempt.log) < kept.LONGEST_LINE + 100
    assert "cana" not in attempt.log


@pytest.mark.usefixtures("info")
def test_a_line_that_no_database_takes_costs_no_run():
    """Nor one that cannot be written at all, nor a value that breaks."""

    class Broken:
        def __str__(self):
            raise RuntimeError("no text")

    # pytest's own handler raises where those of a project tell of the line and go on.
    alone = logging.getLogger("tests.alone")
    alone.propagate = False

    def helper():
        alone.info("nul \0 half \ud800 escape \x1b")
        alone.info("%s", Broken())
        alone.info("%d", "text")

    outcome, attempt = answered(helper)
    assert outcome.state == "succeeded"
    assert "nul \\x00 half ? escape \\x1b" in attempt.log


@pytest.mark.usefixtures("info")
@pytest.mark.parametrize("is_reader", [True, False])
def test_the_admin_shows_kept_lines_to_those_who_may_see_arguments(is_reader):
    """As text, whatever they hold."""
    outcome, _ = answered(lambda: helper_log.info("<script>alert(1)</script>"))
    user = get_user_model().objects.create_user("reader", is_staff=True)
    names = ["view_outcome"] + ["view_outcome_arguments"] * is_reader
    user.user_permissions.set(Permission.objects.filter(codename__in=names))
    client = Client()
    client.force_login(user)
    page = client.get(f"/admin/tasks_app/outcome/{outcome.pk}/change/").content.decode()
    assert ("&lt;script&gt;alert(1)" in page) == is_reader
    assert "<script>alert(1)" not in page


def test_structlog_knows_the_call_too():
    """By processors, in front of whatever renders; lines that it prints itself can be kept."""
    written = io.StringIO()
    log = structlog.wrap_logger(
        structlog.PrintLogger(written),
        processors=[add_context, keep_line, mask_secrets, structlog.processors.JSONRenderer()],
    )
    outcome = tasks.charge.enqueue(1, card_token=SECRET, mood="pay")
    _, attempt = answered(lambda: log.info("paid", card=SECRET, order=7), outcome)
    log.info("afterwards")
    during, after = map(json.loads, written.getvalue().splitlines())
    assert during.pop("card") == "***"
    assert during == {
        "request_id": outcome.request_id,
        "outcome_id": str(outcome.pk),
        "task": "tests.charge",
        "attempt": 1,
        "queue": outcome.queue,
        "order": 7,
        "event": "paid",
    }
    assert after == {"event": "afterwards"}
    assert "INFO structlog: paid" in attempt.log


def test_structlog_through_logging_is_kept_without_a_processor(info):
    """Its lines are lines of `logging` then."""
    log = structlog.wrap_logger(
        logging.getLogger("tests.structlog"),
        processors=[structlog.processors.KeyValueRenderer()],
        wrapper_class=structlog.stdlib.BoundLogger,
    )
    _, attempt = answered(lambda: log.info("paid", order=7))
    assert "order=7" in attempt.log
