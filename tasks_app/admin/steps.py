"""
The timeline of one outcome: what it waited for and when it ran, from its enqueueing to its end.

Made of the row and of its ended runs alone. Steps follow each other; each is a bar whose place and
length are shares of the whole time. Moments, such as a request to cancel, stand between them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from django.utils import timezone

from tasks_app.admin.texts import SIGNS, span
from tasks_app.models import Attempt, Outcome
from tasks_app.states import AttemptState, State

#: Length of the whole timeline, and of the shortest bar, in the drawing's own units.
WIDTH, SHORTEST = 1000, 4

#: What an ended run is called.
ENDINGS = {
    AttemptState.SUCCEEDED: "succeeded",
    AttemptState.FAILED: "failed",
    AttemptState.RETRIED: "failed, to be tried again",
    AttemptState.SNOOZED: "put itself off",
    AttemptState.RELEASED: "given back by a worker that stopped",
    AttemptState.CANCELLED: "cancelled",
    AttemptState.LOST: "lost with its worker, and rescued",
}


@dataclass(frozen=True, slots=True)
class Step:
    """A span of an outcome's life, or a moment of it."""

    #: `moment`, `ahead` (not due yet), `wait` or `run`.
    kind: str
    label: str
    began: datetime
    #: The same as `began` for a moment.
    ended: datetime
    #: Of a run: its state, as the style sheet names it.
    state: str = ""
    is_going_on: bool = False

    @property
    def at(self) -> str:
        """When it began, in the reader's zone, to the millisecond."""
        local = timezone.localtime(self.began)
        return local.replace(tzinfo=None).isoformat(" ", timespec="milliseconds")

    @property
    def length(self) -> str:
        return "" if self.kind == "moment" else span(self.ended - self.began)


@dataclass(frozen=True, slots=True)
class Bar:
    """A step and its place in the drawing."""

    step: Step
    x: int
    width: int


def bars(outcome: Outcome, attempts: Sequence[Attempt], now: datetime) -> list[Bar]:
    """Return an outcome's steps with their places, in the order of time."""
    found = sorted(steps(outcome, attempts, now), key=lambda step: step.began)
    first, last = found[0].began, max(step.ended for step in found)
    whole = (last - first).total_seconds() or 1.0
    return [_bar(step, first, whole) for step in found]


def steps(outcome: Outcome, attempts: Sequence[Attempt], now: datetime) -> Iterator[Step]:
    """Yield what is known of an outcome's life; waits of no length are left out."""
    yield _moment("Enqueued", outcome.created_at)
    at = outcome.created_at
    if attempts and attempts[0].number > 1:
        at = attempts[0].due_at or attempts[0].started_at
    for attempt in attempts:
        yield from _waits(at, attempt.due_at, attempt.started_at, is_first=attempt is attempts[0])
        ending = ENDINGS.get(AttemptState(attempt.state), attempt.state)
        label = f"Run {attempt.number}: {ending}"
        yield Step("run", label, attempt.started_at, attempt.finished_at, attempt.state)
        at = attempt.finished_at
    yield from _present(outcome, at, now, is_first=not attempts)
    if outcome.cancel_requested_at is not None:
        yield _moment("Cancellation asked for", outcome.cancel_requested_at)
    if outcome.finished_at is not None:
        sign = SIGNS[State(outcome.state)]
        yield _moment(f"{sign} {outcome.state.capitalize()}", outcome.finished_at, outcome.state)


def _present(outcome: Outcome, at: datetime, now: datetime, *, is_first: bool) -> Iterator[Step]:
    """Yield what an outcome does after its last ended run."""
    if outcome.claimed_at is not None:
        yield from _waits(at, outcome.run_at, outcome.claimed_at, is_first=is_first)
        label = f"Run {outcome.attempt}: in progress"
        end = max(now, outcome.claimed_at)
        yield Step("run", label, outcome.claimed_at, end, State.RUNNING, is_going_on=True)
    elif outcome.finished_at is None:
        end = max(now, outcome.run_at)
        yield from _waits(at, outcome.run_at, end, is_first=is_first, is_going_on=True)
    elif outcome.finish_fence is None:
        yield from _waits(at, outcome.run_at, outcome.finished_at, is_first=is_first)


def _waits(
    at: datetime,
    due: datetime | None,
    start: datetime,
    *,
    is_first: bool,
    is_going_on: bool = False,
) -> Iterator[Step]:
    due = min(max(due or at, at), start)
    if due > at:
        label = "Until it was due" if is_first else "Until the next try was due"
        yield Step("ahead", label, at, due, is_going_on=is_going_on and due == start)
    if start > due:
        yield Step("wait", "Due, until it began", due, start, is_going_on=is_going_on)


def _moment(label: str, at: datetime, state: str = "") -> Step:
    return Step("moment", label, at, at, state)


def _bar(step: Step, first: datetime, whole: float) -> Bar:
    share = WIDTH / whole
    x = round((step.began - first).total_seconds() * share)
    width = max(round((step.ended - step.began).total_seconds() * share), SHORTEST)
    return Bar(step, min(x, WIDTH - SHORTEST), min(width, WIDTH - min(x, WIDTH - SHORTEST)))
