"""
The page of one outcome: its timeline, a card for each run, its family, and its values.

Some ten statements, however many outcomes there are: of runs, repeats and relatives only so many
are read as are shown. Arguments, result and log lines need a permission, and secrets stay masked.
"""

from dataclasses import dataclass
from datetime import timedelta
from pprint import pformat
from typing import Any

from django.contrib import admin
from django.utils import timezone
from django.utils.html import format_html

from tasks_app import declare
from tasks_app.addresses import flower_page, sentry_page
from tasks_app.admin.outcome_list import progress_bar, request_address
from tasks_app.admin.relatives import Family, askers
from tasks_app.admin.retry_plan import retry_plan
from tasks_app.admin.rights import may_read_arguments
from tasks_app.admin.steps import WIDTH, bars
from tasks_app.admin.texts import (
    LINE,
    NOTHING,
    SIGNS,
    know,
    masked,
    pre,
    scrubbed,
    shortened,
    span,
)
from tasks_app.models import Attempt, Outcome
from tasks_app.options import declared
from tasks_app.redaction import MASK, mask_result
from tasks_app.states import AttemptState, State

#: Runs that are shown, the last ones.
MOST_RUNS = 50

ZERO = timedelta(0)

#: What the page of one outcome shows, under which heading.
SECTIONS = (
    (
        "Outcome",
        (
            "shown_id",
            "shown_state",
            "reason",
            "error",
            "shown_task",
            "queue",
            "priority",
            "owner",
            "shown_attempt",
            "shown_plan",
            "crashes",
            "shown_progress",
        ),
    ),
    (
        "Times",
        (
            "created_at",
            "run_at",
            "started_at",
            "lease_until",
            "finished_at",
            "expires_at",
            "cancel_requested_at",
            "cancel_reason",
        ),
    ),
)

#: The call and its result: for those who may read them, and for all others.
OPEN = ("arguments", "keyword_arguments", "shown_result")
CLOSED = ("hidden_arguments",)

#: A sign beside the word of how a run ended.
ENDING_SIGNS = {
    AttemptState.SUCCEEDED: "✓",
    AttemptState.FAILED: "✗",
    AttemptState.RETRIED: "↻",
    AttemptState.SNOOZED: "◷",
    AttemptState.RELEASED: "◷",
    AttemptState.CANCELLED: "⊘",
    AttemptState.LOST: "✗",
}


@dataclass(frozen=True, slots=True)
class Card:
    """An ended run as its reader may see it."""

    attempt: Attempt
    #: Whether the reader may see what the helper logged.
    has_log: bool

    @property
    def sign(self) -> str:
        return ENDING_SIGNS.get(AttemptState(self.attempt.state), "")

    @property
    def ran(self) -> str:
        return span(self.attempt.finished_at - self.attempt.started_at)

    @property
    def waited(self) -> str:
        due = self.attempt.due_at
        return "" if due is None else span(max(self.attempt.started_at - due, ZERO))

    @property
    def last_line(self) -> str:
        return shortened(self.attempt.traceback.strip().rpartition("\n")[2], LINE)

    @property
    def log(self) -> str:
        return self.attempt.log if self.has_log else ""

    @property
    def log_size(self) -> int:
        return self.log.count("\n") + 1

    @property
    def sentry_page(self) -> str | None:
        return sentry_page(self.attempt.sentry_event_id)


class OutcomePage(admin.ModelAdmin):  # type: ignore[type-arg]
    """How `OutcomeAdmin` shows one outcome."""

    readonly_fields = (*(name for _, names in SECTIONS for name in names), *OPEN, *CLOSED)

    def get_fieldsets(self, request: Any, obj: Any = None) -> Any:
        is_reader = may_read_arguments(request)
        outcome, *others = SECTIONS
        sections = (outcome, ("Call", OPEN if is_reader else CLOSED), *others)
        return [(heading, {"fields": names}) for heading, names in sections]

    def render_change_form(self, request: Any, context: Any, *args: Any, **kwargs: Any) -> Any:
        """Show one outcome with its timeline, its runs and its family."""
        more = self._parts(request, context["original"])
        return super().render_change_form(request, {**context, **more}, *args, **kwargs)

    def _parts(self, request: Any, outcome: Outcome) -> dict[str, Any]:
        now = timezone.now()
        attempts = list(outcome.attempts.order_by("-fence")[: MOST_RUNS + 1])
        runs = attempts[MOST_RUNS - 1 :: -1] if len(attempts) > MOST_RUNS else attempts[::-1]
        key = outcome.idempotency_key
        current = outcome.claimed_at
        request_id = outcome.request_id
        return {
            "bars": bars(outcome, runs, now),
            "timeline_width": WIDTH,
            "cards": [Card(run, may_read_arguments(request)) for run in runs],
            "has_more_runs": len(attempts) > MOST_RUNS,
            "run_so_far": None if current is None else span(max(now - current, ZERO)),
            "bar_of_progress": progress_bar(outcome),
            "family": Family.of(outcome),
            "key": None if key is None else scrubbed(outcome, key),
            "askers": [] if key is None else askers(outcome, self._site),
            "request_page": request_id and request_address(request_id, self._site),
            "flower_page": flower_page(outcome.pk),
        }

    @admin.display(description="id")
    def shown_id(self, outcome: Outcome) -> Any:
        return copyable(str(outcome.pk), "outcome id")

    @admin.display(description="state")
    def shown_state(self, outcome: Outcome) -> Any:
        return format_html(
            '<span class="tasks-state-{0}"><span aria-hidden="true">{1}</span>&nbsp;{0}</span>',
            outcome.state,
            SIGNS[State(outcome.state)],
        )

    @admin.display(description="task")
    def shown_task(self, outcome: Outcome) -> Any:
        """The task's name, and where its helper stands in the code."""
        know(outcome)
        place = declare.place_of(outcome.task_name)
        if not place:
            return outcome.task_name
        return format_html("{} <small>at <code>{}</code></small>", outcome.task_name, place)

    @admin.display(description="retry plan")
    def shown_plan(self, outcome: Outcome) -> str:
        know(outcome)
        return retry_plan(outcome, declared.get(outcome.task_name), timezone.now())

    @admin.display(description="progress")
    def shown_progress(self, outcome: Outcome) -> Any:
        progress = outcome.progress
        if progress is None:
            return NOTHING
        total = "" if progress.total is None else f" of {progress.total:g}"
        text = scrubbed(outcome, f"{progress.done:g}{total} {progress.message}".strip())
        return format_html("{} {}", progress_bar(outcome), text) if progress.total else text

    @admin.display(description="arguments")
    def arguments(self, outcome: Outcome) -> Any:
        return pre(pformat(masked(outcome)[0], sort_dicts=False))

    @admin.display(description="keyword arguments")
    def keyword_arguments(self, outcome: Outcome) -> Any:
        return pre(pformat(masked(outcome)[1], sort_dicts=False))

    @admin.display(description="result")
    def shown_result(self, outcome: Outcome) -> Any:
        if outcome.result_omitted:
            return f"not stored: {outcome.result_omitted}"
        if outcome.result_json is None:
            return NOTHING
        know(outcome)
        value = mask_result(outcome.task_name, outcome.args, outcome.kwargs, outcome.result)
        return pre(pformat(value, sort_dicts=False))

    @admin.display(description="arguments and result")
    def hidden_arguments(self, outcome: Outcome) -> str:
        return f"{MASK} (shown with the permission “Can see arguments and results”)"

    @property
    def _site(self) -> str:
        return str(self.admin_site.name)


def copyable(text: str, what: str) -> Any:
    """Return a text with a button that copies it; without JavaScript there is no button."""
    return format_html(
        '<span class="tasks-copied">{0}</span> <button type="button" class="tasks-copy"'
        ' data-copy="{0}" aria-label="Copy {1}" hidden>Copy</button>',
        text,
        what,
    )
