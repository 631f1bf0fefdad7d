"""
Every crash point, hit by a process of the kind that comes by it, and what is left afterwards.

Each point has a scene that fails unless the process says that it was hit, so a run over all
points has hit them all, in whatever order. Nobody waits for a lease or for the next announcement:
the tests make that time pass, and take the relay's and the rescuer's looks in their own process.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest
from django_celery_beat.models import PeriodicTask

from tasks_app import rescue
from tasks_app.crash_points import POINTS
from tasks_app.leases import process_of
from tasks_app.models import Attempt, Outcome, Slot
from tasks_app.relay import Relay
from tests import by_hand, trail
from tests.faults.cases.calls.conftest import Case
from tests.installation import PATIENCE, Installation, in_state
from tests.integration.command_line import ago, claimed, rewritten, succeeded
from tests.integration.command_line import tasks as command
from tests.periodic.beats import beat as next_beat
from tests.periodic.beats import come_due, decided, depose, entry, every, timer_of
from tests.processes import Process
from tests.project import app
from tests.servers.server import free_port
from tests.servers.session import files
from tests.testapp import tasks
from tests.waiting import wait_until

pytestmark = pytest.mark.usefixtures("alone")


@dataclass
class Trapped:
    """A worker whose traps are all set, each held back by its mark until it is wanted."""

    name: str
    actions: Mapping[str, str]
    queue: str = field(default_factory=lambda: uuid4().hex)

    def mark(self, point: str) -> Path:
        """Return the file that holds a trap back, and that the trap makes when it acts."""
        return files() / f"{self.name}-{point}.mark"

    def start(self, installation: Installation) -> Process:
        """Start the worker."""
        for point in self.actions:
            self.mark(point).touch()
        traps = [
            f"{point}:{action}:chance=1,once={self.mark(point)}"
            for point, action in self.actions.items()
        ]
        self.process = installation.start_worker(
            self.name,
            pool="prefork",
            queues=[self.queue],
            settings={"RELAY_IN_WORKER": False},
            environment={"TASKS_APP_CRASH": ";".join(traps)},
        )
        return self.process

    def hit(self, point: str, act: Callable[[], object]) -> None:
        """Do an act that leads a process to a point, and wait until it was hit there."""
        line = f"crash point {point}: {self.actions[point]}"
        before = self.process.output.count(line)
        self.mark(point).unlink()
        act()
        wait_until(
            lambda: self.process.output.count(line) > before,
            PATIENCE,
            lambda: f"{line}\n{self.process.tail()}",
        )


#: What a child of a worker comes by.
CHILD = (
    *("adopt.after_insert", "claim.before", "claim.after", "renew.after"),
    *("run.before_helper", "run.after_helper", "success.before_commit", "success.after_commit"),
    *("failure.before_commit", "failure.after_commit"),
)

#: Points at which the harm is another one when the process lives on.
STOPPED = ("claim.after", "run.before_helper")
RAISED = ("run.after_helper", "success.before_commit", "success.after_commit", "renew.after")


@pytest.fixture(scope="module")
def mortal(installation: Installation) -> Iterator[Trapped]:
    """A worker whose children are killed."""
    worker = Trapped("mortal", dict.fromkeys(CHILD, "kill"))
    with worker.start(installation):
        yield worker


@pytest.fixture(scope="module")
def moody(installation: Installation) -> Iterator[Trapped]:
    """A worker whose children are stopped, or fail where nobody expects it."""
    worker = Trapped("moody", dict.fromkeys(STOPPED, "stop") | dict.fromkeys(RAISED, "raise"))
    with worker.start(installation):
        yield worker


@pytest.fixture(scope="module")
def relay() -> Iterator[Relay]:
    """A relay whose looks the tests take."""
    relay = Relay(app)
    with closing(relay.publisher):
        yield relay


@dataclass(frozen=True)
class Stage:
    """What a scene has at hand."""

    case: Case
    worker: Trapped
    relay: Relay

    def enqueue(self, task=tasks.record, *args) -> Outcome:
        """Enqueue for the stage's worker."""
        return task.using(queue=self.worker.queue).enqueue(self.case.key, *args)

    def ring(self) -> None:
        """Take a relay's look."""
        self.relay.run_once()

    def let_rescue(self, outcome: Outcome) -> None:
        """Make the time pass after which a run counts as lost, and look for lost ones then."""
        by_hand.let_lease_run_out(outcome)

        def is_found() -> bool:
            rescue.run_once()
            outcome.refresh()
            return outcome.state != "running"

        wait_until(is_found, PATIENCE, lambda: f"the rescue of {outcome!r}")

    def let_go_on(self, outcome: Outcome) -> None:
        """Make the time pass after which a waiting outcome is due, and ring for it then."""
        outcome.run_now()
        self.ring()

    def dies(self, point: str, *words: str, **environment: str) -> None:
        """Run `manage.py tasks …` to its death at a point."""
        armed = {"TASKS_APP_CRASH": f"{point}:kill", **environment}
        with self.case.command(*words, **armed) as process:
            assert process.process.wait(PATIENCE) == -signal.SIGKILL, process.tail()
            assert f"crash point {point}: kill" in process.output


@pytest.fixture
def stage(case: Case, mortal: Trapped, relay: Relay) -> Stage:
    """The stage whose worker's children are killed."""
    return Stage(case, mortal, relay)


@pytest.fixture
def moody_stage(case: Case, moody: Trapped, relay: Relay) -> Stage:
    """The stage whose worker's children are stopped or fail."""
    return Stage(case, moody, relay)


# -- scenes: each returns the outcome that has to succeed, and the runs that were lost ----------


def caller(stage: Stage, point: str) -> tuple[Outcome, int]:
    """A process that is no worker enqueues, outside any transaction."""
    queue = stage.worker.queue
    lines = f"tasks.record_once.using(queue={queue!r}).enqueue({stage.case.key!r})"
    done = stage.case.client(lines, TASKS_APP_CRASH=f"{point}:kill")
    assert (done.returncode, done.stderr) == (-signal.SIGKILL, f"crash point {point}: kill\n")
    again = stage.enqueue(tasks.record_once)
    assert again.created == (point == "enqueue.after_reserve")
    return again, 0


def child(stage: Stage, point: str) -> tuple[Outcome, int]:
    """A worker's child runs a helper that takes effect."""
    outcome = stage.enqueue()
    stage.worker.hit(point, stage.ring)
    return outcome, int(point not in {"claim.before", "success.after_commit"})


def failing_child(stage: Stage, point: str) -> tuple[Outcome, int]:
    """A worker's child runs a helper whose first attempt fails."""
    outcome = stage.enqueue(tasks.succeed_at, 2)
    stage.worker.hit(point, stage.ring)
    return outcome, int(point == "failure.before_commit")


def patient_child(stage: Stage, point: str) -> tuple[Outcome, int]:
    """A worker's child runs a helper that takes longer than a third of its lease."""
    outcome = stage.enqueue(tasks.record_late)
    stage.worker.hit(point, stage.ring)
    trail.open_gate(stage.case.key)
    return outcome, 1


def adopting_child(stage: Stage, point: str) -> tuple[Outcome, int]:
    """A worker's child gets a message of somebody who does not know of outcomes."""
    foreign = {"args": (stage.case.key,), "task_id": str(uuid4()), "queue": stage.worker.queue}
    stage.worker.hit(point, lambda: app.send_task(tasks.record.name, **foreign))
    outcome = Outcome.objects.get(pk=foreign["task_id"])
    assert outcome.state == "pending"
    return outcome, 0


def relay_process(stage: Stage, point: str) -> tuple[Outcome, int]:
    """A relay alone announces a row."""
    outcome = stage.enqueue()
    stage.dies(point, "relay", "--once")
    return outcome, 0


def refused_relay(stage: Stage, point: str) -> tuple[Outcome, int]:
    """A relay alone has nobody to announce a row to."""
    outcome = stage.enqueue()
    url = f"amqp://127.0.0.1:{free_port()}//"
    refusing = {"TASKS_TEST_BROKER": "rabbitmq", "TASKS_TEST_BROKER_URL": url}
    stage.dies(point, "relay", "--once", **refusing)
    outcome.refresh()
    assert (outcome.state, outcome.announced) == ("pending", 1)
    return outcome, 0


def rescuer(stage: Stage, point: str) -> tuple[Outcome, int]:
    """A relay's rescuer finds an orphan."""
    outcome = stage.enqueue()
    by_hand.let_lease_run_out(claimed(outcome))
    stage.dies(point, "relay", "--once")
    outcome.refresh()
    assert outcome.crashes == int(point == "rescue.after_commit")
    return outcome, 1


def stopping_worker(stage: Stage, point: str) -> tuple[Outcome, int]:
    """A worker is ended while its child can be reached by nothing."""
    outcome = stage.enqueue(tasks.record_late)
    armed = {"TASKS_APP_CRASH": f"{point}:kill"}
    rewritten(outcome, queue=stage.case.key)
    with stage.case.worker("stopping", environment=armed, pool="prefork") as worker:
        stage.ring()
        in_state(outcome, "running")
        os.kill(process_of(outcome.worker), signal.SIGSTOP)
        worker.send(signal.SIGTERM)
        assert worker.process.wait(PATIENCE) == -signal.SIGKILL, worker.tail()
        assert f"crash point {point}: kill" in worker.output
    rewritten(outcome, queue=stage.worker.queue)
    assert (outcome.state, outcome.attempt) == ("pending", 0)
    trail.open_gate(stage.case.key)
    return outcome, 0


def canceller(stage: Stage, point: str) -> tuple[Outcome, int]:
    """An operator's cancellation that never was committed cancels nothing."""
    outcome = stage.enqueue()
    stage.dies(point, "cancel", str(outcome.pk))
    return outcome, 0


def pruner(stage: Stage, point: str) -> tuple[Outcome, int]:
    """What one batch left is whole, and the next prune takes it."""
    old = [succeeded(stage.enqueue()), stage.enqueue()]
    old[1].cancel()
    for outcome in old:
        rewritten(outcome, finished_at=ago(days=400))
    ids = [outcome.pk for outcome in old]
    stage.dies(point, "prune")
    assert Outcome.objects.filter(pk__in=ids).count() == 1
    left = Outcome.objects.get(pk__in=ids)
    assert Attempt.objects.filter(outcome_id__in=ids).count() == left.attempts.count()
    assert command("prune").code == 0
    assert not Outcome.objects.filter(pk__in=ids).exists()
    return stage.enqueue(), 0


def beat(stage: Stage, point: str) -> tuple[Outcome, int]:
    """A beat fires a slot; whether or not it was decided, the next beat leaves it decided once."""
    row = entry(
        f"record for {stage.case.key}",
        interval=every(days=1000),
        task=tasks.record.name,
        args=json.dumps([stage.case.key]),
        queue=stage.worker.queue,
    )
    slot_at = come_due(row, timer_of(row).next_at - timedelta(days=1000))
    with stage.case.beat(TASKS_APP_CRASH=f"{point}:kill") as process:
        assert process.process.wait(PATIENCE) == -signal.SIGKILL, process.tail()
        assert f"crash point {point}: kill" in process.output
    assert len(decided(row)) == int(point == "slot.after_commit")
    depose()
    next_beat().tick()
    slot = Slot.objects.get(entry_id=row.pk)
    assert slot.slot_at == slot_at
    outcome = Outcome.objects.get(pk=slot.outcome_id)
    PeriodicTask.objects.all().delete()
    return outcome, 0


SCENES: Mapping[str, Callable[[Stage, str], tuple[Outcome, int]]] = {
    "enqueue.after_reserve": caller,
    "enqueue.after_insert": caller,
    "relay.after_take": relay_process,
    "relay.after_message": relay_process,
    "relay.after_publish": relay_process,
    "relay.before_put_back": refused_relay,
    "adopt.after_insert": adopting_child,
    "claim.before": child,
    "claim.after": child,
    "run.before_helper": child,
    "run.after_helper": child,
    "success.before_commit": child,
    "success.after_commit": child,
    "failure.before_commit": failing_child,
    "failure.after_commit": failing_child,
    "renew.after": patient_child,
    "rescue.before_commit": rescuer,
    "rescue.after_commit": rescuer,
    "release.after": stopping_worker,
    "cancel.before_commit": canceller,
    "slot.before_commit": beat,
    "slot.after_commit": beat,
    "prune.after_batch": pruner,
}


def test_every_point_has_its_scene():
    """A new point without a scene, or a scene without its point, is noticed."""
    assert set(SCENES) == set(POINTS)


@pytest.mark.parametrize("point", POINTS)
def test_a_process_killed_at(point, stage):
    """Nothing is lost, the effect is there once, and only a run that was lost is counted."""
    outcome, crashes = SCENES[point](stage, point)
    # A bell that was rung before the kill may have been heard: that run is alive.
    if crashes:
        stage.let_rescue(outcome)
    stage.let_go_on(outcome)
    stage.case.succeeds(outcome)
    assert len(stage.case.effects) == 1
    assert outcome.crashes == crashes


@pytest.mark.parametrize("point", STOPPED)
def test_a_process_that_was_stopped_too_long_at(point, moody_stage):
    """What a zombie does when it wakes is rolled back: its outcome has been run by another."""
    outcome = moody_stage.enqueue()
    moody_stage.worker.hit(point, moody_stage.ring)
    zombie = process_of(in_state(outcome, "running").worker)
    moody_stage.let_rescue(outcome)
    moody_stage.let_go_on(outcome)
    moody_stage.case.succeeds(outcome)
    finished = outcome.finish_fence
    os.kill(zombie, signal.SIGCONT)
    moody_stage.worker.process.wait_for_output(f"lost the lease of outcome {outcome.pk}")
    outcome.refresh()
    assert (outcome.state, outcome.finish_fence) == ("succeeded", finished)
    assert moody_stage.case.effects == [""]


@pytest.mark.parametrize("point", RAISED)
def test_an_error_raised_at(point, moody_stage):
    """Where code fails that should not, the process goes on, and the effect is there once."""
    outcome = moody_stage.enqueue(tasks.record_late)
    if point != "renew.after":
        trail.open_gate(moody_stage.case.key)
    moody_stage.worker.hit(point, moody_stage.ring)
    trail.open_gate(moody_stage.case.key)
    if point in {"run.after_helper", "success.before_commit"}:
        in_state(outcome, "pending")
        moody_stage.let_go_on(outcome)
    moody_stage.case.succeeds(outcome)
    assert (moody_stage.case.effects, outcome.crashes) == ([""], 0)


@pytest.mark.parametrize("action", ["stop", "raise"])
def test_a_relay_that_hangs_or_fails_after_it_took_rows(action, stage):
    """Another one rings for them; the first goes on, and a bell that it rings late does nothing."""
    outcome = stage.enqueue()
    armed = {"TASKS_APP_CRASH": f"relay.after_take:{action}"}
    with stage.case.command("relay", **armed) as relay:
        relay.wait_for_output(f"crash point relay.after_take: {action}")
        stage.let_go_on(outcome)
        stage.case.succeeds(outcome)
        relay.resume()
        witness = stage.enqueue(tasks.record, "witness")
        stage.ring()
        stage.case.succeeds(witness)
    assert stage.case.effects == ["", "witness"]
