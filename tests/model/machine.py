"""An installation that goes through what Hypothesis thinks of: any acts, in any order.

Callers, a relay, workers, their main processes, a rescuer and a pruner act on the real database,
and each step commits. Only the broker is missing: messages are lost, doubled and late as the
steps say. Time passes by moving every stored time into the past. A worker may stall between any
two of its steps and go on when its lease is long over, or die and forget all it held.

After each step the log of the database and what callers were told are held against the rules of
`tests.history.checker`. At the end the faults stop, and everything has to come to its end.

`TASKS_MODEL_EXAMPLES` makes a longer run of it, `TASKS_MODEL_SEED` repeats one.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from types import SimpleNamespace
from typing import Any
from uuid import UUID

from celery.exceptions import Ignore, WorkerShutdown
from celery.exceptions import Retry as Retrying
from django.db import connection
from django.db.backends.signals import connection_created
from django.db.models import F
from django.db.models.functions import Greatest
from hypothesis import HealthCheck, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tasks_app import current, leases, outbox, outcomes, prune, queues, rescue, worker
from tasks_app.broker import DOORBELL, BrokerDown
from tasks_app.clock import DatabaseNow
from tasks_app.conf import conf
from tasks_app.exceptions import (
    Discard,
    IdempotencyConflict,
    Retry,
    Snooze,
    TaskCancelled,
    TaskFailed,
)
from tasks_app.leases import Lease
from tasks_app.models import Attempt, Cause, IdempotencyKey, Outcome
from tasks_app.options import declared
from tasks_app.outbox import WAITS
from tasks_app.relay import BATCH, Relay
from tasks_app.states import FINAL, State
from tests import by_hand
from tests.history import log
from tests.history.checker import OutsideCall, check
from tests.history.client import FAIL, OK, Call
from tests.project import app
from tests.testapp.models import Effect
from tests.testapp.tasks import call_outside, record_late

#: Few outcomes in many steps: faults need acts that meet on the same row.
MOST_OUTCOMES = 3
STEPS = 40
EXAMPLES = 45

WORKERS = (1, 2)

#: Spans of time: longer than the wait after a failed run, than a lease, than all announcements'
#: waits, than most retentions, and than all of them. Each is a multiple of the shortest, as leases
#: and retentions are, so that whether a time has come does not depend on how fast steps are taken.
BREATH, SILENCE = timedelta(seconds=5), timedelta(minutes=1)
SPANS = (
    *[SILENCE] * 4,
    timedelta(0),
    timedelta(hours=1),
    timedelta(days=8),
    timedelta(days=100),
)

#: What callers want of an outcome; what ends a story too soon is not to be wished often.
WISHES = ("look", "look", "run_now", "run_now", "move", "move", "cancel", "discard")

#: What may befall a relay: none, no answer from the broker, an answer that was lost, or its death.
FAULTS = ("", "", "dies", "down", "answer lost")

#: What happens to an outcome while its helper runs: most often nothing.
MEANWHILE = ("", "", "", "rescued", "cancelled")

#: Columns of an outcome that hold a time.
TIMES = (
    "run_at",
    "expires_at",
    "announce_at",
    "lease_until",
    "claimed_at",
    "cancel_requested_at",
    "created_at",
    "started_at",
    "finished_at",
)

#: Rounds of an hour each in which everything that can still happen has happened.
ROUNDS = 12


class Stumble(Exception):
    """What a helper raises that has a bug."""


#: How a helper may end, and the states in which that may leave an outcome which it holds.
ENDINGS: dict[str, tuple[Callable[[], BaseException | None], set[str]]] = {
    "return": (lambda: None, {"succeeded"}),
    "stumble": (Stumble, {"pending", "failed", "cancelled"}),
    "retry": (lambda: Retry(after=0), {"pending", "failed", "cancelled"}),
    "snooze": (lambda: Snooze(after=1), {"pending", "cancelled"}),
    "shut down": (WorkerShutdown, {"pending", "cancelled"}),
    "discard": (lambda: Discard("nobody wants it"), {"failed"}),
    "heed": (lambda: TaskCancelled("stopped"), {"cancelled"}),
}

#: What Celery is told of a run that did not return.
TOLD = (Ignore, Retrying, Stumble, Retry, Discard, TaskCancelled, TaskFailed, WorkerShutdown)


class Broken(AssertionError):
    """The installation broke a rule."""


def expect(fact: Any, text: str) -> None:
    """Break where something is not as it has to be."""
    if not fact:
        raise Broken(text)


@dataclass(frozen=True)
class Held:
    """A claimed outcome as its worker knows it, true or not any more."""

    outcome: Outcome
    worker: int
    mark: str

    def __repr__(self) -> str:
        return f"run {self.outcome.fence} of {str(self.outcome.pk)[-4:]} by worker {self.worker}"


class Mailbox:
    """Stands where the relay's publisher stands, and keeps what it is given."""

    def __init__(self, fault: str) -> None:
        self.fault = fault
        self.messages: list[UUID] = []

    def ring(self, rows: list[Outcome]) -> int:
        """Take all messages; a broker that fails has taken none, or all of them."""
        if self.fault != "down":
            self.messages += [row.pk for row in rows]
        if self.fault:
            raise BrokerDown(self.fault)
        return len(rows)


class Installation(RuleBasedStateMachine):
    """Everything that acts on outcomes, one step at a time."""

    #: Steps and examples so far, and both with the failed example's own steps at each failure.
    steps_taken = 0
    examples = 0
    failures: list[tuple[int, int, int]] = []

    outcomes = Bundle("outcomes")
    runs = Bundle("runs")

    def __init__(self) -> None:
        super().__init__()
        empty()
        self.events: list[log.OutcomeEvent] = []
        self.states: dict[UUID, str | None] = {}
        self.calls: list[Call] = []
        self.outside: list[OutsideCall] = []
        self.held: list[Held] = []
        self.keys: dict[str, tuple[UUID, str]] = {}
        self.freed: Counter[str] = Counter()
        self.steps = 0
        self.is_sound = True
        Installation.examples += 1

    # Callers

    @precondition(lambda self: len(self.states) < MOST_OUTCOMES)
    @rule(
        target=outcomes,
        task=st.sampled_from([record_late, call_outside]),
        key=st.sampled_from([None, "a"]),
        argument=st.sampled_from(["x", "y"]),
        options=st.sampled_from([{}, {}, {}, {"expires": 600}, {"run_after": 60}]),
    )
    def enqueue(self, task, key, argument, options):
        """Enqueue under a key or none; the answer has to be the one that the key allows."""
        self._step()
        scope = None if key is None else f"{task.name} {key}"
        holder = self._holder(scope)
        epoch = scope and f"{scope} {self.freed[scope]}"
        call = {"op": "enqueue", "key": epoch, "arguments": argument}
        try:
            found = task.using(idempotency_key=key, **options).enqueue(argument)
        except IdempotencyConflict as error:
            expect(holder is not None and holder[1] != argument, "a needless conflict")
            self._told(end=FAIL, told={"error": repr(error)}, **call)
            return multiple()
        self._told(outcome_id=found.pk, told={"created": found.created}, **call)
        if holder is not None:
            expect((found.pk, argument) == holder, f"{found} is not the key's {holder}")
        if scope is not None:
            self.keys[scope] = (found.pk, argument)
        return found.pk if found.created else multiple()

    @precondition(lambda self: not FINAL.issuperset(self.states.values()))
    @rule(outcome_id=outcomes, wish=st.sampled_from(WISHES))
    def ask(self, outcome_id, wish):
        """Look at an outcome, and perhaps tell it to do something."""
        self._step()
        row = Outcome.objects.filter(pk=outcome_id).first()
        self._told(op="read", outcome_id=outcome_id, told={"state": row and row.state})
        if row is None:
            return
        if wish == "run_now":
            was = row.state
            expect(row.run_now() == (was == State.PENDING), "run_now() lied")
        elif wish == "move":
            was = row.state
            expect(row.move(priority=row.priority) == (was == State.PENDING), "move() lied")
        elif wish == "discard":
            was = row.state
            expect(row.discard() == (was == State.PENDING), "discard() lied")
        elif wish == "cancel":
            self._cancel(row)

    # Workers

    @rule(target=runs, outcome_id=outcomes, number=st.sampled_from(WORKERS))
    def deliver(self, outcome_id, number):
        """Answer a message, a new one or one long past or forged, by claiming its outcome."""
        self._step()
        return self._claim(outcome_id, number)

    @rule(target=runs, run=runs, number=st.sampled_from(WORKERS))
    def overtake(self, run, number):
        """Let a run's lease run out, and another one begin, of which its keeper knows nothing."""
        self._step()
        advance(SILENCE)
        rescue.run_once()
        advance(BREATH)
        successor = self._claim(run.outcome.pk, number)
        self._renew(run)
        return successor

    @rule(run=runs)
    def renew(self, run):
        """Extend a lease, which only the run that the row names can do."""
        self._step()
        if run in self.held:
            self._renew(run)

    @rule(
        target=runs,
        run=consumes(runs),
        ending=st.sampled_from([*ENDINGS, "child lost", "time limit"]),
        meanwhile=st.sampled_from(MEANWHILE),
        successor=st.one_of(st.none(), outcomes),
    )
    def finish(self, run, ending, meanwhile, successor):
        """
        Let a helper run and settle what comes of it, in time or much too late.

        Its message may have rung for a successor, too, which a success claims.
        """
        self._step()
        if run not in self.held:
            return multiple()
        self.held.remove(run)
        next_run = None
        if ending in ENDINGS:
            next_run = self._finish(run, ending, meanwhile, successor)
        else:
            self._lose_child(run, is_time_limit=ending == "time limit")
        advance(BREATH)
        return next_run or multiple()

    @precondition(lambda self: self.held)
    @rule(number=st.sampled_from(WORKERS), is_killed=st.booleans())
    def stop(self, number, is_killed):
        """End a worker: killed, it forgets all; asked, it gives back what its helpers still do."""
        self._step()
        runs = [run for run in self.held if run.worker == number]
        if is_killed:
            self.held = [run for run in self.held if run not in runs]
            return
        for run in runs:
            is_held = self._holds(run)
            with speaking_as(number, run.mark):
                expect(rescue.release_all() == is_held, "a worker gave back what it did not run")

    @precondition(lambda self: State.PENDING in self.states.values())
    @rule(outcome_id=outcomes, number=st.sampled_from(WORKERS))
    def rest(self, outcome_id, number):
        """Pause the queue while a message arrives and a relay looks, then resume it."""
        self._step()
        row = Outcome.objects.filter(pk=outcome_id).first()
        if row is None:
            return
        expect(queues.pause(row.queue), "pause() lied")
        with speaking_as(number, f"{self.steps}"):
            expect(taken(outcome_id) is None, "a claim from a paused queue")
        expect(announced() == [], "an announcement for a paused queue")
        expect(queues.resume(row.queue), "resume() lied")
        left = Outcome.objects.filter(state=State.PENDING, announced__gt=0)
        expect(not left.filter(announce_at__gt=DatabaseNow()).exists(), "a bell was not recalled")

    # Everybody who looks for work from time to time

    @precondition(lambda self: self.states)
    @rule(
        span=st.sampled_from(SPANS),
        deed=st.sampled_from(["rescue", "rescue", "announce", "announce", "prune"]),
        fault=st.sampled_from(FAULTS),
    )
    def let_time_pass(self, span, deed, fault):
        """Let time pass, then let somebody look for what it has brought."""
        self._step()
        if span:
            advance(span)
        match deed:
            case "announce":
                announced(fault)
                latest = Greatest(F("run_at"), DatabaseNow() + max(WAITS))
                late = Outcome.objects.filter(state=State.PENDING, announce_at__gt=latest)
                expect(not late.exists(), "a row waits that nobody will announce again")
            case "prune":
                list(prune.prune())
            case "rescue":
                orphans = list(Outcome.objects.orphaned().values_list("pk", flat=True))
                rescue.run_once()
                left = Outcome.objects.orphaned().filter(pk__in=orphans)
                expect(not left.exists(), "an orphan was left")
                advance(BREATH)

    # What holds at all times

    @invariant()
    def no_rule_is_broken(self):
        """Hold everything so far against the rules of the checker."""
        self._check()

    def teardown(self) -> None:
        """Stop all faults: everything ends, unless something was broken already."""
        try:
            if self.is_sound:
                self._heal()
        finally:
            if not self.is_sound:
                self.failures.append((self.steps_taken, self.examples, self.steps))

    def _heal(self) -> None:
        self.is_sound = False
        for _ in range(ROUNDS):
            if not Outcome.objects.exclude(state__in=FINAL).exists():
                break
            advance(timedelta(hours=1))
            rescue.run_once()
            for outcome_id in announced():
                self._answer(outcome_id)
        self._read_events()
        self._check_attempts()
        self._check_causes()
        self._check(healed=True)

    def _step(self) -> None:
        """Count one step; until its end is judged the machine is not sound."""
        self.steps += 1
        Installation.steps_taken += 1
        self.is_sound = False

    def _check(self, *, healed: bool = False) -> None:
        self.is_sound = False
        self._read_events()
        violations = check(
            self.events,
            self.calls,
            Effect.objects.order_by("pk"),
            self.outside,
            db_tasks={record_late.name},
            external_tasks={call_outside.name},
            healed=healed,
        )
        if violations:
            raise Broken("\n".join(map(str, violations)))
        self.is_sound = True

    def _read_events(self) -> None:
        for event in log.events(since=self.events[-1].seq if self.events else 0):
            self.events.append(event)
            self.states[event.outcome_id] = event.to_state

    def _told(self, **call: Any) -> None:
        self.calls.append(Call(began=self.steps, ended=self.steps + 0.5, **{"end": OK, **call}))

    def _holder(self, scope: str | None) -> tuple[UUID, str] | None:
        """Return who holds a key, and with which argument; None where it is free."""
        if scope not in self.keys:
            return None
        pk, argument = self.keys[scope]
        over = DatabaseNow() - conf.IDEMPOTENCY_TTL
        if Outcome.objects.filter(pk=pk).exclude(finished_at__lte=over).exists():
            return pk, argument
        del self.keys[scope]
        self.freed[scope] += 1
        return None

    def _cancel(self, row: Outcome) -> None:
        was = row.state
        expect(row.cancel() == (was not in FINAL - {State.CANCELLED}), "cancel() lied")
        expect(was != State.PENDING or row.state == State.CANCELLED, "it still waits")
        asked = row.cancel_requested_at is not None
        expect(was != State.RUNNING or asked, "the request is not in the row")

    def _holds(self, run: Held) -> bool:
        row = row_of(run.outcome.pk)
        return (row["state"], row["fence"]) == (State.RUNNING, run.outcome.fence)

    def _claim(self, outcome_id: UUID, number: int) -> Any:
        before = row_of(outcome_id)
        mark = f"{self.steps}"
        with speaking_as(number, mark):
            claimed = taken(outcome_id)
        if claimed is None:
            return multiple()
        expect(before["state"] == State.PENDING, f"claimed what was {before['state']}")
        run = Held(claimed, number, mark)
        self.held.append(run)
        return run

    def _renew(self, run: Held) -> None:
        is_held, lease = self._holds(run), Lease.of(run.outcome)
        expect(outcomes.renew(lease) == is_held, f"a renewal by {run} lied")
        expect(bool(outcomes.cancel_requests([lease])) == is_held, "the keeper was told a lie")

    def _finish(
        self, run: Held, ending: str, meanwhile: str, successor: UUID | None = None
    ) -> Held | None:
        make_error, targets = ENDINGS[ending]
        seen: list[dict[str, Any]] = []
        turns, waiting = NextTurn(successor), row_of(successor)

        def helper(argument):
            if meanwhile:
                by_hand.elsewhere(lambda: happen(meanwhile, run.outcome))
            seen.append(row_of(run.outcome.pk))
            self._take_effect(run)
            if error := make_error():
                raise error

        with speaking_as(run.worker, run.mark):
            executed(run.outcome, helper, turns)
        before, after = seen[-1], row_of(run.outcome.pk)
        if (before["state"], before["fence"]) == (State.RUNNING, run.outcome.fence):
            expect(after["state"] in targets, f"{ending} led to {after['state']}")
        else:
            expect(after == before, f"an overtaken run made {after} of {before}")
        if turns.claimed is None:
            return None
        expect(after["state"] == State.SUCCEEDED, f"{ending} claimed another one")
        expect(waiting["state"] == State.PENDING, f"claimed what was {waiting['state']}")
        next_run = Held(turns.claimed, run.worker, run.mark)
        self.held.append(next_run)
        return next_run

    def _lose_child(self, run: Held, *, is_time_limit: bool) -> None:
        """End the process of a run, as its main process sees it."""
        is_held, outcome_id = self._holds(run), run.outcome.pk
        with speaking_as(run.worker, run.mark):
            was = rescue.take_back(outcome_id, os.getpid(), "lost", is_time_limit=is_time_limit)
        expect(was == is_held, "a main process took what was not its own")

    def _take_effect(self, run: Held) -> None:
        if run.outcome.task_name == call_outside.name:
            self.outside.append(OutsideCall(run.outcome.pk, current.idempotency_key))
        else:
            Effect.objects.create(key=run.outcome.task_name)

    def _answer(self, outcome_id: UUID) -> None:
        with speaking_as(0, ""):
            claimed = taken(outcome_id)
        if claimed is not None:
            self._finish(Held(claimed, 0, ""), "return", "")

    def _check_attempts(self) -> None:
        """Each run that ended left one record of itself."""
        ended = Counter(
            event.outcome_id
            for event in self.events
            if event.from_state == State.RUNNING and event.to_state != State.RUNNING
        )
        pruned = {event.outcome_id for event in self.events if event.act == "delete"}
        recorded = Counter(Attempt.objects.values_list("outcome_id", flat=True))
        expected = {pk: runs for pk, runs in ended.items() if pk not in pruned}
        expect(recorded == expected, f"attempts {recorded} instead of {expected}")

    def _check_causes(self) -> None:
        """Each failed outcome that is there has one cause, and nothing else has."""
        failed = Outcome.objects.filter(state=State.FAILED).values_list("pk", flat=True)
        told = Cause.objects.values_list("pk", flat=True)
        expect(set(failed) == set(told), f"causes of {set(told)} instead of {set(failed)}")


def row_of(outcome_id: UUID | None) -> dict[str, Any]:
    """Return what a row says about its runs; all None where there is none."""
    columns = ("state", "fence", "attempt", "crashes", "finish_fence")
    row = Outcome.objects.filter(pk=outcome_id).values(*columns).first()
    return row or dict.fromkeys(columns)


def taken(outcome_id: UUID) -> Outcome | None:
    """Answer a message as a worker does, up to its claim."""
    row = Outcome.objects.filter(pk=outcome_id).first()
    task = app.tasks[row.task_name if row else record_late.name]
    request = SimpleNamespace(id=str(outcome_id), headers={DOORBELL: 0})
    return worker._take(task.name, task.options, request)


class NextTurn:
    """Stands where the turns of a message stand that rang for one outcome more."""

    def __init__(self, outcome_id: UUID | None) -> None:
        self.outcome_id = outcome_id
        self.claimed: Outcome | None = None

    def draw(self) -> UUID | None:
        """Return whose turn is next."""
        return self.outcome_id

    def keep(self, claimed: Outcome | None) -> None:
        """Keep what the run's success has claimed."""
        self.claimed = claimed


def executed(outcome: Outcome, helper: Callable[..., Any], turns: Any = None) -> None:
    """Run a helper and settle its end as a worker does."""
    try:
        worker.execute(outcome, app.tasks[outcome.task_name].options, helper, turns=turns)
    except TOLD:
        return


def announced(fault: str = "") -> list[UUID]:
    """
    Let a relay look once; return the outcomes whose messages the broker took.

    One that dies has taken its rows, and rings for none of them.
    """
    relay, mailbox = Relay(app), Mailbox(fault)
    if fault == "dies":
        outbox.take_due(BATCH, declared.keys())
        return []
    relay.publisher = mailbox
    relay.run_once()
    return mailbox.messages


def advance(span: timedelta, **only: Any) -> None:
    """Move all times of outcomes into the past."""
    Outcome.objects.filter(**only).update(**{column: F(column) - span for column in TIMES})


def happen(event: str, outcome: Outcome) -> None:
    """Let something happen to an outcome while its helper runs."""
    if event == "cancelled":
        Outcome.objects.get(pk=outcome.pk).cancel()
    else:
        advance(SILENCE, pk=outcome.pk)
        rescue.run_once()


@contextmanager
def speaking_as(number: int, mark: str) -> Iterator[None]:
    """Be a worker for the block; each run has a mark of its own, as if each had its process."""
    identity = leases._identity
    before = identity.node, identity.mark
    identity.node, identity.mark = f"worker{number}", mark
    try:
        yield
    finally:
        identity.node, identity.mark = before


def empty() -> None:
    """Leave nothing of the example before."""
    for model in (Attempt, IdempotencyKey, Effect, Outcome):
        model.objects.all().delete()
    log.clear()


def explore(**options: Any) -> None:
    """
    Let the installation go through random histories.

    Args:
        options: Settings of Hypothesis other than those of a normal run.

    Raises:
        Exception: One of them broke a rule; its steps, and the seed, are in its notes.
    """
    chosen = int(os.environ.get("TASKS_MODEL_SEED") or random.SystemRandom().getrandbits(32))
    normal = {
        "max_examples": int(os.environ.get("TASKS_MODEL_EXAMPLES", EXAMPLES)),
        "stateful_step_count": STEPS,
        "deadline": None,
        "print_blob": True,
        "report_multiple_bugs": False,
        "suppress_health_check": list(HealthCheck),
    }
    connection_created.connect(write_carelessly)
    connection.close()
    try:
        machine = seed(chosen)(Installation)
        run_state_machine_as_test(machine, settings=settings(**{**normal, **options}))
    except BaseException as error:
        error.add_note(f"TASKS_MODEL_SEED={chosen} repeats this run.")
        raise
    finally:
        connection_created.disconnect(write_carelessly)


def write_carelessly(connection: Any, **_: Any) -> None:
    """Spare SQLite the wait for the disk; no step cuts the power."""
    if connection.vendor == "sqlite":
        with connection.cursor() as cursor:
            cursor.execute("PRAGMA synchronous = OFF")
