"""
The guards of the promises: lines whose removal some test must notice.

By hand, on the database that `TASKS_TEST_DATABASE` names:

    python -m tests.promises.guards                  every guard
    python -m tests.promises.guards claim replay     those whose place or text holds a word

Each guard is taken away in a copy of the checkout, and its test is run there: it has to pass
before and to fail afterwards. Prints one line for each and exits 1 if any removal went unnoticed.
"""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]

#: Seconds after which a run without its guard counts as noticed: it hangs.
TIMEOUT = 180


@dataclass(frozen=True)
class Guard:
    """
    One line that a promise rests on.

    Attributes:
        promise: Its number.
        place: Module of `tasks_app` and function or class, such as `outcomes.claim` or, in a
            package, `periodic/slots.decide`.
        line: The line, or the part of it, that is the guard; the first one in that place.
        without: What stands there once the guard is taken away.
        test: The test that fails then, below `tests/promises`.
    """

    promise: int
    place: str
    line: str
    without: str
    test: str

    @property
    def file(self) -> str:
        """Name of the module's file."""
        return f"{self.place.split('.')[0]}.py"

    def removed_from(self, source: str) -> str:
        """Return the module's source without the guard."""
        lines = source.splitlines(keepends=True)
        first, last = self.extent(ast.parse(source))
        place = "".join(lines[first:last])
        if self.line not in place:
            raise LookupError(f"{self.place} has no line {self.line!r}")
        without = place.replace(self.line, self.without, 1)
        return "".join([*lines[:first], without, *lines[last:]])

    def extent(self, module: ast.Module) -> tuple[int, int]:
        """Return where the place begins and ends in the source, in lines."""
        *_, name = self.place.split(".")
        for node in ast.walk(module):
            named = getattr(node, "name", None) or getattr(
                getattr(node, "target", None), "id", None
            )
            if named == name and isinstance(node, ast.stmt):
                return node.lineno - 1, node.end_lineno or node.lineno
        raise LookupError(f"{self.file} has no {name}")


_ATOMIC = "test_1_atomic_enqueue.py"
_BROKER = "test_2_no_waiting_for_brokers.py"
_ONCE = "test_3_exactly_once_effects.py"
_OUTSIDE = "test_4_at_least_once_outside.py"
_TRUTH = "test_5_truth_in_time.py"
_FINAL = "test_6_finality.py"
_CANCEL = "test_7_cancellation.py"
_SLOTS = "test_10_periodic_slots.py"
_LATE = f"{_FINAL}::test_no_act_changes_a_final_outcome"

GUARDS = (
    Guard(
        1,
        "enqueue._insert",
        "insert(outcome)",
        "transaction.on_commit(lambda: insert(outcome))",
        f"{_ATOMIC}::test_a_process_that_dies_right_after_its_commit_loses_nothing",
    ),
    Guard(
        1,
        "enqueue._insert",
        "insert(outcome)",
        "__import__('tests.by_hand').by_hand.elsewhere(outcome.save)",
        f"{_ATOMIC}::test_a_rollback_takes_every_row_with_it",
    ),
    Guard(
        1,
        "enqueue._insert_many",
        "insert_copies(shared, columns)",
        "transaction.on_commit(lambda: insert_copies(shared, columns))",
        f"{_ATOMIC}::test_a_process_that_dies_right_after_its_commit_loses_nothing",
    ),
    Guard(
        1,
        "outbox._move_ahead",
        "DatabaseNow() + Case(*waits, default=Value(WAITS[-1]))",
        "DatabaseNow() + timedelta(days=3650)",
        f"{_ATOMIC}::test_a_row_whose_message_was_lost_is_announced_again",
    ),
    Guard(
        1,
        "relay._rung",
        "outbox.put_back([row.pk for row in rows])",
        "pass",
        f"{_ATOMIC}::test_a_broker_that_is_down_leaves_the_row_due",
    ),
    Guard(
        2,
        "declare.apply_async",
        'if self.name.startswith("celery."):',
        "if True:",
        f"{_BROKER}::test_no_way_in_opens_a_connection_to_the_broker",
    ),
    Guard(
        3,
        "worker._perform_atomically",
        ", transaction.atomic(using=conf.DATABASE, durable=durable):",
        ":",
        f"{_ONCE}::test_a_run_that_lost_its_lease_leaves_nothing",
    ),
    Guard(
        3,
        "outcomes.succeed",
        "if not ended:",
        "if False:",
        f"{_ONCE}::test_a_run_that_lost_its_lease_leaves_nothing",
    ),
    Guard(
        3,
        "outcomes._success",
        ', fence=_slot("fence")),',
        "),",
        f"{_ONCE}::test_each_write_of_an_overtaken_run_is_refused",
    ),
    Guard(
        3,
        "outcomes._end",
        "if not ended:",
        "if False:",
        f"{_ONCE}::test_each_write_of_an_overtaken_run_is_refused",
    ),
    Guard(
        3,
        "outcomes._held",
        ", fence=lease.fence)",
        ")",
        f"{_ONCE}::test_each_write_of_an_overtaken_run_is_refused",
    ),
    Guard(
        3,
        "outcomes.cancel_requests",
        " if fences[pk] == fence",
        "",
        f"{_ONCE}::test_each_write_of_an_overtaken_run_is_refused",
    ),
    Guard(
        3,
        "outcomes._claim",
        "StateIs(State.PENDING),",
        "",
        f"{_ONCE}::test_a_second_message_for_a_running_outcome_is_dropped",
    ),
    Guard(
        4,
        "current.__getattr__",
        "str(run.outcome.id)",
        "f'{run.outcome.id}/{run.lease.number}'",
        f"{_OUTSIDE}::test_the_key_is_the_same_in_each_attempt",
    ),
    Guard(
        4,
        "enqueue._replay",
        "idempotency_key=outcome.idempotency_key or str(outcome.id),",
        "",
        f"{_OUTSIDE}::test_a_replay_hands_on_the_same_key",
    ),
    Guard(
        4,
        "rescue._rescue",
        "state = outcomes.rescue(outcome, _wait(outcome), failure)",
        "outcomes.fail(Lease.of(outcome), 'worker_lost'); state = State.FAILED",
        f"{_OUTSIDE}::test_a_run_whose_end_was_lost_is_repeated_under_the_same_key",
    ),
    Guard(
        5,
        "relay._look",
        "self.housekeeper.run_if_due()",
        "pass",
        f"{_TRUTH}::test_a_running_relay_finds_the_orphans",
    ),
    Guard(
        5,
        "conf.SETTINGS",
        '"LEASE": Setting(45,',
        '"LEASE": Setting(60,',
        f"{_TRUTH}::test_the_default_finds_a_dead_worker_within_a_minute",
    ),
    Guard(
        5,
        "keeper.look",
        "self._renew(run)",
        "pass",
        f"{_TRUTH}::test_a_living_worker_keeps_its_run",
    ),
    Guard(
        5,
        "outcomes.rescue",
        "ANYHOW if is_known_dead else Q(lease_until__lt=DatabaseNow())",
        "ANYHOW",
        f"{_TRUTH}::test_a_run_that_is_renewed_meanwhile_is_left_alone",
    ),
    Guard(
        5,
        "outcomes.rescue",
        "if outcome.crashes + 1 >= conf.MAX_CRASHES:",
        "if False:",
        f"{_TRUTH}::test_what_loses_its_worker_three_times_fails",
    ),
    Guard(
        5,
        "outbox._is_hopeless",
        "and row.run_at + conf.UNREGISTERED_AFTER <= row.now",
        "",
        f"{_TRUTH}::test_an_unknown_task_waits_for_a_worker_that_knows_it",
    ),
    Guard(
        5,
        "outbox._take_from",
        "elif _is_hopeless(row, known) and _give_up(row):",
        "elif False:",
        f"{_TRUTH}::test_an_unknown_task_fails_after_a_day",
    ),
    Guard(6, "outcomes._success", "StateIs(State.RUNNING), ", "", _LATE),
    Guard(6, "outcomes._held", "StateIs(State.RUNNING), ", "", _LATE),
    Guard(6, "outcomes._claim", "StateIs(State.PENDING),", "", _LATE),
    Guard(6, "outcomes.cancel", "StateIs(State.PENDING), ", "", _LATE),
    Guard(6, "outcomes.expire", "StateIs(State.PENDING), ", "", _LATE),
    Guard(6, "outcomes.give_up", "StateIs(State.PENDING), ", "", _LATE),
    Guard(6, "outcomes.move", "StateIs(State.PENDING), ", "", _LATE),
    Guard(6, "outcomes.run_now", "StateIs(State.PENDING), ", "", _LATE),
    Guard(6, "outcomes.postpone", "StateIs(State.PENDING), ", "", _LATE),
    Guard(6, "outcomes.request_cancel", "StateIs(State.RUNNING), ", "", _LATE),
    Guard(
        6,
        "enqueue.replay",
        "if not _has_ended(outcome):",
        "if False:",
        f"{_FINAL}::test_what_is_not_final_is_not_replayed",
    ),
    Guard(
        7,
        "cancellation.cancel",
        "if _cancel_pending(outcome, text):",
        "if False:",
        f"{_CANCEL}::test_a_cancelled_outcome_that_waits_never_runs",
    ),
    Guard(
        7,
        "outcomes._claim",
        "cancel_requested_at__isnull=True,",
        "",
        f"{_CANCEL}::test_what_is_to_be_cancelled_is_not_claimed",
    ),
    Guard(
        7,
        "keeper._learn",
        "run.cancel_seen = run.age",
        "pass",
        f"{_CANCEL}::test_a_running_helper_is_told",
    ),
    Guard(
        7,
        "keeper._enforce_limits",
        "self._interrupt(run, TaskCancelled, since=run.cancel_seen + grace)",
        "pass",
        f"{_CANCEL}::test_a_helper_that_does_not_look_is_stopped_after_the_grace",
    ),
    Guard(
        7,
        "outcomes._give_back",
        ", cancel_requested_at__isnull=True)",
        ")",
        f"{_CANCEL}::test_a_cancelled_run_that_fails_is_not_tried_again",
    ),
    Guard(
        7,
        "outcomes.rescue",
        "if outcome.cancel_requested_at is not None:",
        "if False:",
        f"{_CANCEL}::test_a_request_is_the_last_word_on_what_crashed_too_often",
    ),
    Guard(
        10,
        "periodic/slots.decide",
        "with pessimistic(), transaction.atomic(using=conf.DATABASE):",
        "with pessimistic():",
        f"{_SLOTS}::test_a_beat_that_dies_before_its_commit_leaves_nothing_behind",
    ),
    Guard(
        10,
        "periodic/slots._decide",
        "slot.save(force_insert=True, using=conf.DATABASE)",
        "Slot.objects.bulk_create([slot], ignore_conflicts=True)",
        f"{_SLOTS}::test_a_slot_that_is_decided_is_decided",
    ),
    Guard(
        10,
        "periodic/timers._update",
        "next_at=timer.next_at, ",
        "",
        f"{_SLOTS}::test_a_beat_that_wakes_up_late_does_not_turn_the_timer_back",
    ),
    Guard(
        10,
        "periodic/scheduler._decide",
        "timer.next_at - slots.INSTANT",
        "timer.is_at",
        f"{_SLOTS}::test_slots_missed_without_a_beat_are_told",
    ),
)


def copy_of_the_checkout(folder: Path) -> Path:
    """Copy what a test run needs, so that the checkout itself is never changed."""
    skipped = shutil.ignore_patterns(".*", "docs", "__pycache__", "_build")
    return Path(shutil.copytree(ROOT, folder / "checkout", ignore=skipped))


def passes(test: str, checkout: Path) -> bool:
    """Run a test in a checkout; return whether it passed. One that hangs has not."""
    own = ("TASKS_TEST_DATABASE_URL", "TASKS_TEST_BROKER_URL", "TASKS_TEST_FILES", "PYTHONPATH")
    environment = {name: value for name, value in os.environ.items() if name not in own}
    command = [sys.executable, "-m", "pytest", "-x", "-q", f"tests/promises/{test}"]
    try:
        run = subprocess.run(
            command,
            cwd=checkout,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=TIMEOUT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return False
    return run.returncode == 0


def is_noticed(guard: Guard, checkout: Path) -> bool:
    """Return whether the guard's test fails without it."""
    path = checkout / "tasks_app" / guard.file
    source = path.read_text()
    path.write_text(guard.removed_from(source))
    try:
        return not passes(guard.test, checkout)
    finally:
        path.write_text(source)


def main(words: Sequence[str]) -> int:
    """Take the chosen guards away, one after the other; return the exit code."""
    chosen = [
        guard
        for guard in GUARDS
        if not words or any(word in f"{guard.place} {guard.line}" for word in words)
    ]
    unnoticed = 0
    with tempfile.TemporaryDirectory(prefix="tasks-app-guards-") as folder:
        checkout = copy_of_the_checkout(Path(folder))
        for test in sorted({guard.test for guard in chosen}):
            if not passes(test, checkout):
                raise SystemExit(f"{test} fails with every guard in place")
        for guard in chosen:
            noticed = is_noticed(guard, checkout)
            unnoticed += not noticed
            verdict = "noticed" if noticed else "NOT NOTICED"
            report(f"{guard.promise} {guard.place}: {guard.line} → {verdict} by {guard.test}")
    return min(unnoticed, 1)


def report(text: str) -> None:
    """Tell whoever started this by hand."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
