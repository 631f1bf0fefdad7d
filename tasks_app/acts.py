"""
What may be done to an outcome by hand: in which states, by whom, and why it was refused.

Pages, buttons and bulk actions read this one table, so none of them can do what another could not.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tasks_app.conf import conf
from tasks_app.exceptions import ConfigurationError, TasksAppError
from tasks_app.models import Outcome
from tasks_app.options import read_priority, read_queue
from tasks_app.states import FINAL, State

#: Opens every page of the console; an act needs it beside its own permission.
VIEW = "tasks_app.view_outcome"

Options = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Act:
    """
    One act.

    Attributes:
        name: As addresses, forms and rows have it.
        title: As buttons have it.
        permission: Who may.
        states: Those in which it is offered and tried.
        done: What an outcome's history says of it.
        effect: What will happen, told before; `{grace}` is `CANCEL_GRACE` in seconds.
        do: Does it for a user; returns why it was refused, or "".
        asks: False where a button does it without a page in between.
    """

    name: str
    title: str
    permission: str
    states: frozenset[State]
    done: str
    effect: str
    do: Callable[[Outcome, Any, Options], str]
    asks: bool = True

    @property
    def warning(self) -> str:
        return self.effect.format(grace=f"{conf.CANCEL_GRACE.total_seconds():g}")

    def is_allowed(self, user: Any) -> bool:
        """Tell whether a user may do it, of those who may look at all."""
        return bool(user.has_perms((VIEW, self.permission)))


def read_options(act: Act, given: Mapping[str, str]) -> dict[str, Any]:
    """
    Return what an act needs beside its outcomes, from a form's texts.

    Raises:
        ConfigurationError: a value is unusable, or none is there.
    """
    if act is not MOVE:
        return {}
    queue, priority = given.get("queue", "").strip(), given.get("priority", "").strip()
    options: dict[str, Any] = {}
    if queue:
        options["queue"] = read_queue("queue", queue)
    if priority:
        number = int(priority) if priority.isascii() and priority.isdecimal() else priority
        options["priority"] = read_priority("priority", number)
    if not options:
        msg = "Give a queue, a priority, or both."
        raise ConfigurationError(msg)
    return options


def _run_now(outcome: Outcome, user: Any, options: Options) -> str:
    if outcome.run_now():
        return ""
    return f"it is {outcome.state}; only a pending outcome can be made due."


def _cancel(outcome: Outcome, user: Any, options: Options) -> str:
    if outcome.cancel_requested_at is not None and not outcome.is_final:
        return "it was asked to stop already."
    if not outcome.is_final and outcome.cancel(by=user, reason="in the admin"):
        return ""
    return f"it is {outcome.state} already."


def _replay(outcome: Outcome, user: Any, options: Options) -> str:
    try:
        outcome.replay(by=user)
    except (TasksAppError, TypeError, ValueError) as error:
        return str(error)
    return ""


def _discard(outcome: Outcome, user: Any, options: Options) -> str:
    if outcome.discard(by=user, reason="Discarded in the admin"):
        return ""
    return f"it is {outcome.state}; only a pending outcome can be discarded."


def _move(outcome: Outcome, user: Any, options: Options) -> str:
    if outcome.move(**options):
        return ""
    return f"it is {outcome.state}; only a pending outcome can be moved."


RUN_NOW = Act(
    name="run_now",
    title="Run now",
    permission="tasks_app.retry_outcome",
    states=frozenset({State.PENDING}),
    done="Made due now.",
    effect="Outcomes that wait become due at once, whatever time they waited for.",
    do=_run_now,
    asks=False,
)
CANCEL = Act(
    name="cancel",
    title="Cancel",
    permission="tasks_app.cancel_outcome",
    states=frozenset({State.PENDING, State.RUNNING}),
    done="Cancelled.",
    effect="Outcomes that wait will never run. Running ones are asked to stop first, and are "
    "stopped hard {grace} s later (CANCEL_GRACE). External effects that happened stay.",
    do=_cancel,
)
REPLAY = Act(
    name="replay",
    title="Replay as new",
    permission="tasks_app.replay_outcome",
    states=FINAL,
    done="Replayed as a new outcome.",
    effect="Each call is enqueued again as a new outcome; the old one stays as it is. The new one "
    "has the same idempotency key: where a provider knows that key, an external effect that "
    "happened before does not happen again. Database effects do.",
    do=_replay,
)
DISCARD = Act(
    name="discard",
    title="Discard",
    permission="tasks_app.discard_outcome",
    states=frozenset({State.PENDING}),
    done="Discarded.",
    effect="Outcomes that wait fail for good, with the reason “discarded”, without another run. "
    "What was to follow them fails with them. They can be replayed later.",
    do=_discard,
)
MOVE = Act(
    name="move",
    title="Change queue or priority",
    permission="tasks_app.move_outcome",
    states=frozenset({State.PENDING}),
    done="Moved.",
    effect="Outcomes that wait are announced anew, in the queue and with the priority given here. "
    "A message that is in the old queue already may still start one there.",
    do=_move,
)

#: By name, in the order in which they are offered.
ACTS: Mapping[str, Act] = {act.name: act for act in (RUN_NOW, CANCEL, REPLAY, DISCARD, MOVE)}
