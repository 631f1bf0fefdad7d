"""A busy connection keeps the plans of a run's statements; what they do stays the same."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from uuid import uuid4

import pytest
from celery.app.task import Context
from django.db import OperationalError, connection, transaction
from django.test.utils import CaptureQueriesContext

from tasks_app import kept_plans, outcomes, worker
from tasks_app.exceptions import LeaseLost
from tasks_app.kept_plans import OFTEN
from tasks_app.leases import Lease
from tasks_app.models import Attempt, Outcome
from tasks_app.outcomes import Wanted
from tasks_app.statements import commit_alone
from tests.statements import verbs, watched
from tests.testapp import tasks
from tests.testapp.models import Effect

pytestmark = pytest.mark.django_db(transaction=True)

NAMES = frozenset({tasks.add.name})

#: What a run writes that differs between two runs of the same call.
OWN = {"id", "outcome_id", "root_id", "started_at", "finished_at", "due_at"}


@pytest.fixture(autouse=True)
def at_first(monkeypatch):
    """Begin with a connection that has run nothing, and end with none; take all the time."""
    if connection.vendor != "postgresql":
        pytest.skip("only PostgreSQL's plans are kept")
    monkeypatch.setattr(kept_plans, "WITHIN", 60)
    monkeypatch.setattr(kept_plans, "KEPT", 60)
    connection.close()
    kept_plans.met_another_session.clear()
    yield
    connection.close()
    kept_plans.met_another_session.clear()


def sql(text: str, *params: object) -> list[tuple]:
    with connection.cursor() as cursor:
        cursor.execute(text, params or None)
        return cursor.fetchall() if cursor.description else []


def pending(number: int = 1) -> list:
    return list(tasks.add.enqueue_many([(place, 1) for place in range(number)]))


def claim(pk):
    return outcomes.claim(pk, NAMES, "a worker")


def claim_often() -> None:
    """Claim so often that the next claim uses a plan; one INSERT's COPY comes first."""
    for pk in pending(OFTEN + 1):
        assert claim(pk) is not None


def succeed(outcome, next_id=None):
    """Settle a run by itself, as a worker does after a helper that sent no statement."""
    return settle(Lease.of(outcome), next_id)


def settle(lease, next_id=None):
    then = next_id and Wanted(next_id, NAMES, "a worker")
    with transaction.atomic():
        commit_alone()
        return outcomes.succeed(lease, "3", then=then)


def drain(ids: list) -> None:
    """Run outcomes in one go: each success claims the next one."""
    outcome = claim(ids[0])
    for next_id in ids[1:]:
        outcome = succeed(outcome, next_id)
    succeed(outcome)


def run(outcome, task):
    return worker.answer(task.name, task.options, task.run, Context(id=str(outcome.id)))


def run_often(task) -> None:
    """Run a task so often that the next run's statements use plans."""
    for _ in range(OFTEN + 1):
        run(task.enqueue(uuid4().hex), task)


def kept() -> list[tuple[str, str, int, int]]:
    """Return what the session has prepared, with the plans that its executions took."""
    return sql(
        "SELECT name, statement, generic_plans, custom_plans FROM pg_prepared_statements"
        " WHERE name LIKE 'tasks_app_%'"
    )


def columns(row, without=frozenset()):
    return {
        field.attname: getattr(row, field.attname)
        for field in row._meta.concrete_fields
        if field.attname not in without
    }


def test_a_claim_that_is_frequent_is_prepared():
    """The first ones are sent in full; then one PREPARE, and the row comes back as ever."""
    ids = pending(OFTEN + 10)
    with verbs() as seen:
        claimed = [claim(pk) for pk in ids]
    assert seen == ["UPDATE"] * OFTEN + ["PREPARE"] + ["EXECUTE"] * 10
    for outcome in claimed:
        assert columns(outcome) == columns(Outcome.objects.get(pk=outcome.pk))
    alike = {"args_json", "run_at", "created_at", "announce_at", "claimed_at", "lease_until"}
    assert columns(claimed[0], OWN | alike) == columns(claimed[-1], OWN | alike)
    assert claimed[-1].lease_until - claimed[-1].claimed_at == (
        claimed[0].lease_until - claimed[0].claimed_at
    )
    # PostgreSQL plans the first five executions by themselves; the EXPLAIN counts as one.
    assert [plans for _name, _text, *plans in kept()] == [[6, 5]]


def test_a_claim_that_hits_nothing_returns_nothing():
    """Another task's row, and one that is claimed already, are left alone by the plan, too."""
    claim_often()
    (pk,) = pending()
    with verbs() as seen:
        assert outcomes.claim(pk, frozenset({"another"}), "a worker") is None
        assert claim(pk) is not None
        assert claim(pk) is None
    assert seen == ["EXECUTE"] * 3


def test_the_commit_of_a_claim_by_plan_does_not_wait_for_the_disk():
    """What the statement sets for its own transaction is set at each execution."""
    claim_often()
    (pk,) = pending()
    with watched() as commits, verbs() as seen:
        succeed(claim(pk))
    assert seen[0] == "EXECUTE"
    assert [(state, waits) for state, waits, _transaction in commits] == [
        ("running", "off"),
        ("succeeded", "on"),
    ]


def test_a_success_by_plan_writes_what_it_wrote_before():
    """The outcome and its attempt are the same, column by column, and so is the next claim."""
    ids = pending(OFTEN + 10)
    with verbs() as seen:
        drain(ids)
    assert seen.count("PREPARE") == 1
    assert seen.count("EXECUTE") == 9
    alike = {"args_json", "run_at", "created_at", "announce_at"}
    first, last = (Outcome.objects.get(pk=ids[place]) for place in (1, -2))
    assert last.state == "succeeded"
    assert columns(first, OWN | alike) == columns(last, OWN | alike)
    attempts = [Attempt.objects.get(outcome_id=pk) for pk in (ids[1], ids[-2])]
    assert len({str(columns(attempt, OWN)) for attempt in attempts}) == 1
    for outcome, attempt in zip((first, last), attempts, strict=True):
        assert attempt.started_at == outcome.started_at
        assert attempt.due_at == outcome.run_at
    assert Attempt.objects.count() == len(ids)


def test_a_lease_that_is_lost_claims_nothing_by_plan():
    """The guards are part of what is prepared."""
    *before, lost, following = pending(OFTEN + 3)
    drain(before)
    outcome = claim(lost)
    overtaken = replace(Lease.of(outcome), fence=outcome.fence + 1)
    with verbs() as seen, pytest.raises(LeaseLost):
        settle(overtaken, following)
    assert "EXECUTE" in seen
    assert Outcome.objects.get(pk=lost).state == "running"
    assert Outcome.objects.get(pk=following).state == "pending"
    assert not Attempt.objects.filter(outcome_id=lost).exists()
    succeed(outcome)


def test_a_plan_of_a_small_table_serves_a_large_one():
    """It was made with an index in mind, though reading the table through was cheaper then."""
    drain(pending(OFTEN + 1))
    Outcome.objects.all().delete()
    ids = pending(5)
    sql("VACUUM ANALYZE tasks_app_outcome")
    sql("VACUUM ANALYZE tasks_app_pausedqueue")
    drain(ids)
    ((name, text, *_plans),) = kept()
    assert "next_one" in text
    tasks.add.enqueue_many([(place, 1) for place in range(20_000)])
    plan = kept_plan(name, text)
    assert plan.count("tasks_app_outcome_pkey") == 2
    assert "Seq Scan" not in plan


def kept_plan(name: str, text: str) -> str:
    """Return the plan that PostgreSQL keeps for a statement."""
    types = text.split("(", 1)[1].split(") AS", 1)[0]
    nulls = ", ".join(["NULL"] * len(types.split(", ")))
    sql("SET plan_cache_mode = force_generic_plan")
    ((plan,),) = sql(f"EXPLAIN (FORMAT JSON) EXECUTE {name} ({nulls})")
    sql("RESET plan_cache_mode")
    return json.dumps(plan)


def test_the_kept_plans_are_the_ones_that_run():
    """In a table of some size, all executions but the first five take them."""
    tasks.add.enqueue_many([(place, 1) for place in range(2_000)])
    sql("ANALYZE tasks_app_outcome")
    for _ in range(OFTEN + 20):
        (pk,) = pending()
        run(Outcome.objects.get(pk=pk), tasks.add)
    drain(pending(OFTEN + 21))
    plans = kept()
    assert len(plans) == 3
    for _name, _text, generic, custom in plans:
        assert generic >= 15
        assert custom == 5


def test_preparing_within_a_helpers_transaction_leaves_it_as_it_was():
    """Its writes commit with the outcome, and the planner's settings are the session's again."""
    *before, outcome = [claim(pk) for pk in pending(OFTEN + 1)]
    for each in before:
        succeed(each)
    key = uuid4().hex
    with transaction.atomic(), verbs() as seen:
        sql("SET LOCAL enable_bitmapscan = off")
        Effect.objects.create(key=key)
        outcomes.succeed(Lease.of(outcome), "3")
        settings = [sql(f"SHOW {name}") for name in SETTINGS]
    assert seen[2:4] == ["PREPARE", "EXECUTE"]
    assert settings == [[("on",)], [("off",)], [("auto",)]]
    assert [sql(f"SHOW {name}") for name in SETTINGS] == [[("on",)], [("on",)], [("auto",)]]
    assert Effect.objects.filter(key=key).count() == 1
    assert Outcome.objects.get(pk=outcome.pk).state == "succeeded"


SETTINGS = ("enable_seqscan", "enable_bitmapscan", "plan_cache_mode")


def test_preparing_outside_a_transaction_leaves_no_setting_and_no_transaction():
    """One string is a transaction of its own."""
    claim_often()
    assert len(kept()) == 1
    assert connection.connection.pgconn.transaction_status == kept_plans.IDLE
    assert [sql(f"SHOW {name}") for name in SETTINGS] == [[("on",)], [("on",)], [("auto",)]]


def test_a_rollback_leaves_what_it_prepared():
    """A prepared statement is the session's: the next run uses it."""
    claimed = [claim(pk) for pk in pending(OFTEN + 2)]
    for outcome in claimed[:-2]:
        succeed(outcome)
    with transaction.atomic():
        Effect.objects.create(key="undone")
        outcomes.succeed(Lease.of(claimed[-2]), "3")
        transaction.set_rollback(True)
    assert Outcome.objects.get(pk=claimed[-2].pk).state == "running"
    with verbs() as seen:
        succeed(claimed[-1])
    assert "EXECUTE" in seen
    assert "PREPARE" not in seen


def test_a_statement_that_is_gone_is_sent_in_full(caplog):
    """Outside a transaction at once; the process prepares nothing any more, and says so once."""
    claim_often()
    sql("DEALLOCATE ALL")
    with verbs() as seen:
        claimed = [claim(pk) for pk in pending(OFTEN + 5)]
    assert all(claimed)
    assert seen[1:] == ["EXECUTE"] + ["UPDATE"] * (OFTEN + 5)
    (told,) = [record.message for record in caplog.records if record.name == kept_plans.__name__]
    assert "DISABLE_SERVER_SIDE_CURSORS" in told


def test_a_helpers_transaction_runs_again_when_a_statement_is_gone():
    """The helper has taken effect once, in one attempt."""
    run_often(tasks.record)
    key = uuid4().hex
    outcome = tasks.record.enqueue(key)
    # The claim would meet it first.
    claimed = outcomes.claim(outcome.pk, frozenset({tasks.record.name}), "a worker")
    sql("DEALLOCATE ALL")
    with verbs() as seen:
        worker.execute(claimed, tasks.record.options, tasks.record.run)
    assert seen == [
        *("BEGIN", "INSERT", "EXECUTE", "ROLLBACK"),
        *("BEGIN", "INSERT", "WITH", "COMMIT"),
    ]
    assert Effect.objects.filter(key=key).count() == 1
    outcome.refresh()
    assert (outcome.state, outcome.attempt) == ("succeeded", 1)
    assert [attempt.state for attempt in outcome.attempts.all()] == ["succeeded"]


def test_a_helper_outside_a_transaction_does_not_run_again():
    """What it did cannot be taken back: its settlement alone is sent again."""
    run_often(tasks.call_outside)
    key = uuid4().hex
    told = tasks.call_outside.apply_async((key,), link=tasks.add.si(1, 2))
    outcome = Outcome.objects.get(pk=told.id)
    claimed = outcomes.claim(outcome.pk, frozenset({tasks.call_outside.name}), "a worker")
    sql("DEALLOCATE ALL")
    calls = []

    def helper(key):
        calls.append(key)

    worker.execute(claimed, tasks.call_outside.options, helper)
    assert calls == [key]
    outcome.refresh()
    assert (outcome.state, outcome.attempt) == ("succeeded", 1)
    assert kept_plans.met_another_session.is_set()
    assert Outcome.objects.filter(task_name=tasks.add.name).count() == 1


def test_a_name_that_another_client_has_taken_is_left_alone():
    """Behind a pooler the session may have what a neighbour prepared."""
    claim_often()
    ((name, text, *_plans),) = kept()
    connection.close()
    sql(text)
    with verbs() as seen:
        claim_often()
        claim_often()
    assert "PREPARE" in seen
    assert "EXECUTE" not in seen
    assert kept_plans.met_another_session.is_set()
    assert [row[0] for row in kept()] == [name]


def test_a_column_that_was_altered_is_met_with_a_new_plan():
    """PostgreSQL refuses a plan whose rows have another type now; that is no pooler's doing."""
    claim_often()
    try:
        sql("ALTER TABLE tasks_app_outcome ALTER error TYPE varchar(9000)")
        with verbs() as seen:
            claim_often()
            claim_often()
    finally:
        sql("ALTER TABLE tasks_app_outcome ALTER error TYPE text")
    assert seen[1:3] == ["EXECUTE", "UPDATE"]
    # It was prepared before: that is taken away in the same string.
    assert seen.count("DEALLOCATE") == 1
    assert seen[-1] == "EXECUTE"
    assert not kept_plans.met_another_session.is_set()


def test_what_failed_to_prepare_is_not_prepared_again(monkeypatch):
    """Nobody knows what the session has then: the connection goes on without."""
    for pk in pending(OFTEN):
        claim(pk)
    statement = prepared_claim()
    monkeypatch.setattr(statement, "planning", f"SELECT pg_sleep(60); {statement.planning}")
    (pk,) = pending()
    sql("SET statement_timeout = '100ms'")
    with pytest.raises(OperationalError, match="statement timeout"):
        claim(pk)
    sql("RESET statement_timeout")
    with verbs() as seen:
        assert claim(pk) is not None
        claim_often()
        claim_often()
    assert set(seen) == {"UPDATE", "COPY"}


def prepared_claim():
    made = outcomes._claim(1)._for(connection)
    return made.returning_hastily.statement(connection)


def test_a_pooler_that_django_was_told_of_meets_no_prepared_statement(monkeypatch):
    """What Django asks of those who pool transactions is asked once."""
    monkeypatch.setitem(connection.settings_dict, "DISABLE_SERVER_SIDE_CURSORS", value=True)
    with verbs() as seen:
        claim_often()
        drain(pending(OFTEN + 5))
        run_often(tasks.record)
    assert not {"PREPARE", "EXECUTE", "DEALLOCATE"} & set(seen)
    assert kept() == []


def test_values_that_the_server_binds_are_not_for_execute(monkeypatch):
    """EXECUTE takes no parameters of the protocol's own."""
    connection.ensure_connection()
    assert kept_plans.are_possible(connection)
    monkeypatch.setitem(connection.settings_dict["OPTIONS"], "server_side_binding", value=True)
    monkeypatch.delitem(vars(connection.features), "uses_server_side_binding", raising=False)
    assert not kept_plans.are_possible(connection)


def test_what_runs_now_and_then_is_not_prepared(monkeypatch):
    """Nor is it where it runs often, but more than a second apart."""
    monkeypatch.setattr(kept_plans, "WITHIN", 0.001)
    with verbs() as seen:
        for pk in pending(OFTEN + 5):
            claim(pk)
            time.sleep(0.002)
    assert set(seen) == {"UPDATE", "COPY"}


def test_a_plan_is_made_anew_after_a_while(monkeypatch):
    """Not at once: a connection that has become quiet does without."""
    claim_often()
    now = time.monotonic()
    monkeypatch.setattr(kept_plans.time, "monotonic", lambda: now + kept_plans.KEPT + 1)
    ids = pending(OFTEN + 2)
    with verbs() as seen:
        for pk in ids:
            claim(pk)
    assert seen == ["UPDATE"] * OFTEN + ["DEALLOCATE"] + ["EXECUTE"] * 2
    assert len(kept()) == 1


def test_the_pinned_constants_are_written_out():
    """A statement's text is made once; only what a run brings is sent with an execution."""
    claim_often()
    ((_name, text, *_plans),) = kept()
    assert text.strip().startswith("PREPARE tasks_app_")
    assert "%s" not in text
    assert "'pending'" in text
    ids = pending()
    with CaptureQueriesContext(connection) as captured:
        claim(ids[0])
    (query,) = captured.captured_queries
    assert len(query["sql"]) < 200
    assert ids[0].hex in query["sql"]
