"""What happens to an outcome next, in words: from its row and its task's retry policy."""

from dataclasses import replace
from datetime import datetime

from tasks_app.admin.texts import span
from tasks_app.models import Outcome
from tasks_app.options import TaskOptions
from tasks_app.retry import RetryPolicy
from tasks_app.states import Reason, State

#: Why a failed outcome is not tried again.
ENDED = {
    Reason.RETRIES_EXHAUSTED: "all of them were used",
    Reason.NOT_RETRYABLE: "its task does not retry this error",
    Reason.DISCARDED: "it was discarded",
    Reason.WORKER_LOST: "too many workers were lost with it",
    Reason.TIME_LIMIT: "it ran into its time limit",
    Reason.UNREGISTERED: "no worker knew its task",
}


def retry_plan(outcome: Outcome, options: TaskOptions | None, now: datetime) -> str:
    """
    Tell when an outcome is tried next, and how many tries are left.

    Args:
        outcome: The row.
        options: Its task's declaration; None where this process does not know it.
        now: The present moment.
    """
    left = max(outcome.most_attempts - outcome.attempt, 0)
    match outcome.state:
        case State.PENDING:
            what = "First try" if outcome.attempt == 0 else "Next try"
            return f"{what} {_when(outcome.run_at, now)}, {left} left."
        case State.RUNNING:
            return f"This is try {outcome.attempt}; {_after(outcome, left, options)}"
        case State.FAILED:
            reason = ENDED.get(outcome.reason, outcome.reason)  # type: ignore[call-overload]
            return f"No more tries: {reason}." if reason else "No more tries."
    return "No more tries."


def _when(due: datetime, now: datetime) -> str:
    if due > now:
        return f"in {span(due - now)}"
    return f"as soon as a worker takes it, due for {span(now - due)}"


def _after(outcome: Outcome, left: int, options: TaskOptions | None) -> str:
    if not left:
        return "no more tries if it fails."
    if options is None:
        return f"{left} left if it fails."
    return f"if it fails, the next one {_wait(options.policy, outcome.attempt)}, {left} left."


def _wait(policy: RetryPolicy, failures: int) -> str:
    longest = replace(policy, jitter=False).delay(failures)
    return f"in at most {span(longest)}" if policy.jitter else f"in {span(longest)}"
