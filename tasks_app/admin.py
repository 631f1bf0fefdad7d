"""
The admin: outcomes to look at, and three acts with a permission each.

Read-only by construction: nobody adds, changes or deletes an outcome here, whatever their rights.
Each act is a POST, is told in the object's history, and is refused with a reason when the outcome
has moved on since the page was shown. No page counts the table or reads it all.
"""

from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import timedelta
from importlib import import_module
from pprint import pformat
from typing import Any
from urllib.parse import urlencode

from django.apps import apps
from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.views.main import PAGE_VAR, ChangeList
from django.core.paginator import Paginator
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone
from django.utils.functional import cached_property
from django.utils.html import format_html, format_html_join
from django.utils.timesince import timesince

from tasks_app import declare, outbox
from tasks_app.addresses import flower_page
from tasks_app.broker import task_queue
from tasks_app.conf import conf
from tasks_app.exceptions import ConfigurationError, TasksAppError
from tasks_app.models import Attempt, Outcome, outcome_uuid
from tasks_app.options import declared
from tasks_app.redaction import MASK, mask_arguments, mask_result, scrub, secret_texts
from tasks_app.states import FINAL, State

#: A sign beside the word, for readers who scan.
SIGNS = {
    State.PENDING: "◷",
    State.RUNNING: "▶",
    State.SUCCEEDED: "✓",
    State.FAILED: "✗",
    State.CANCELLED: "⊘",
    State.EXPIRED: "⌛",
}

#: Columns that may hold 64 KB each; the list does without them.
LARGE = ("args_json", "kwargs_json", "result_json", "options_json", "trace_context")

#: Characters of an error and of a request id in the list.
LINE, SHORT_ID = 100, 16

#: Stands where there is nothing, as everywhere in the admin.
NOTHING = "-"

#: The deepest page: every page before it is read to get there.
LAST_PAGE = 10_000

#: Seconds below which a time is shown with fractions.
SHORT = 60

#: Refusals told one by one after an action.
TOLD = 5

#: What the page of one outcome shows, under which heading.
SECTIONS = (
    ("Outcome", ("shown_state", "reason", "error", "task_name", "queue", "priority", "owner")),
    ("Runs", ("shown_attempt", "crashes", "worker", "run_time", "shown_progress")),
    ("Relations", ("request_link", "parent", "root", "replay_source", "replays", "shown_key")),
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

#: The states in which an act is offered on an outcome's page.
OFFERED = {
    "run_now": {State.PENDING},
    "cancel": {State.PENDING, State.RUNNING},
    "replay": FINAL,
}

#: Does an act for a user; returns why it was refused, or "".
Act = Callable[[Outcome, Any], str]


class LookAheadPaginator(Paginator):  # type: ignore[type-arg]
    """Tells whether there is another page by looking one row ahead instead of counting."""

    page_number = 1

    @cached_property
    def count(self) -> int:
        """Rows up to the end of this page, and one more if there is any."""
        start = (self.page_number - 1) * self.per_page
        rows: Any = self.object_list
        ahead = rows.values_list("pk", flat=True)[start : start + self.per_page + 1]
        return start + len(ahead)


class OutcomeChangeList(ChangeList):
    """A page of outcomes; its count is that of the page, and nobody can select beyond it."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        self.result_count = len(self.result_list)


class StateFilter(admin.SimpleListFilter):
    """By state; the states are known without asking the table."""

    title = "state"
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(state.value, state.value) for state in State]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Outcome]) -> QuerySet[Outcome]:
        return queryset.filter(state=self.value()) if self.value() else queryset


class _NamesFilter(admin.SimpleListFilter):
    """By a name that is known in this process, or that the address gives."""

    parameter_name: str

    def names(self) -> Iterable[str]:
        raise NotImplementedError

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        names = {*self.names(), *request.GET.getlist(self.parameter_name)}
        return [(name, name) for name in sorted(names)]


class TaskFilter(_NamesFilter):
    """By task, of those declared in this process."""

    title = "task"
    parameter_name = "task"

    def names(self) -> Iterable[str]:
        declare.load_tasks()
        return declared

    def queryset(self, request: HttpRequest, queryset: QuerySet[Outcome]) -> QuerySet[Outcome]:
        return queryset.filter(task_name=self.value()) if self.value() else queryset


class QueueFilter(_NamesFilter):
    """By queue, of those that tasks here are sent to and those where something waits."""

    title = "queue"
    parameter_name = "queue"

    def names(self) -> Iterable[str]:
        sent = {task_queue(name, options.queue) for name, options in declared.items()}
        return sent.union(outbox.waiting_queues())

    def queryset(self, request: HttpRequest, queryset: QuerySet[Outcome]) -> QuerySet[Outcome]:
        return queryset.filter(queue=self.value()) if self.value() else queryset


class ReadOnly:
    """Whoever may view outcomes may view this; nobody may write it."""

    def has_view_permission(self, request: Any, obj: Any = None) -> bool:
        return bool(request.user.has_perm("tasks_app.view_outcome"))

    def has_add_permission(self, request: Any, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: Any, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: Any, obj: Any = None) -> bool:
        return False


class AttemptInline(ReadOnly, admin.TabularInline):  # type: ignore[type-arg]
    """The ended runs of an outcome."""

    model = Attempt
    extra = 0
    fields = readonly_fields = (
        "number",
        "state",
        "worker",
        "started_at",
        "run_time",
        "error_type",
        "error",
        "folded_traceback",
        "folded_log",
    )

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        """Show logs to those who may see arguments: helpers log what they were called with."""
        is_reader = request.user.has_perm("tasks_app.view_outcome_arguments")
        return [name for name in self.fields if is_reader or name != "folded_log"]

    @admin.display(description="run time")
    def run_time(self, attempt: Attempt) -> str:
        return _span(attempt.finished_at - attempt.started_at)

    @admin.display(description="traceback")
    def folded_traceback(self, attempt: Attempt) -> Any:
        if not attempt.traceback:
            return NOTHING
        return format_html(
            "<details><summary>{}</summary><pre>{}</pre></details>",
            _shortened(attempt.traceback.strip().rpartition("\n")[2], LINE),
            attempt.traceback,
        )

    @admin.display(description="log")
    def folded_log(self, attempt: Attempt) -> Any:
        if not attempt.log:
            return NOTHING
        lines = attempt.log.count("\n") + 1
        return format_html(
            "<details><summary>{} lines</summary><pre>{}</pre></details>", lines, attempt.log
        )


@admin.register(Outcome)
class OutcomeAdmin(ReadOnly, admin.ModelAdmin):  # type: ignore[type-arg]
    """Outcomes, newest first."""

    list_display = (
        "shown_state",
        "task_name",
        "queue",
        "shown_attempt",
        "age",
        "run_time",
        "error_line",
        "request_link",
    )
    list_display_links = ("shown_state", "task_name")
    list_filter = (StateFilter, TaskFilter, QueueFilter)
    search_fields = ("id", "request_id", "idempotency_key")
    search_help_text = "A whole outcome id, request id or idempotency key."
    ordering = ("-id",)
    sortable_by = ()
    paginator = LookAheadPaginator
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    list_max_show_all = 0
    actions = ("run_now", "cancel", "replay")
    inlines = (AttemptInline,)
    readonly_fields = (*(name for _, names in SECTIONS for name in names), *OPEN, *CLOSED)

    # What may be seen

    def get_queryset(self, request: HttpRequest) -> QuerySet[Outcome]:
        rows = super().get_queryset(request)
        match = request.resolver_match
        is_list = match is not None and (match.url_name or "").endswith("changelist")
        return rows.defer(*LARGE) if is_list else rows

    def get_fieldsets(self, request: Any, obj: Any = None) -> Any:
        is_reader = request.user.has_perm("tasks_app.view_outcome_arguments")
        outcome, *others = SECTIONS
        sections = (outcome, ("Call", OPEN if is_reader else CLOSED), *others)
        return [(heading, {"fields": names}) for heading, names in sections]

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return OutcomeChangeList

    def get_paginator(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        paginator: Any = super().get_paginator(request, *args, **kwargs)
        page = request.GET.get(PAGE_VAR, "")
        paginator.page_number = min(max(int(page), 1), LAST_PAGE) if page.isdecimal() else 1
        return paginator

    def lookup_allowed(self, lookup: str, value: Any, request: Any = None) -> bool:
        """Allow what links and filters use: other lookups would tell what arguments begin with."""
        return lookup in {"request_id", *(each.parameter_name for each in self.list_filter)}

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Outcome], search_term: str
    ) -> tuple[QuerySet[Outcome], bool]:
        """Look in one index after the other: a single condition with OR would use none."""
        term = search_term.strip()
        if not term:
            return queryset, False
        by_id = outcome_uuid(term)
        if by_id is not None and queryset.filter(pk=by_id).exists():
            return queryset.filter(pk=by_id), False
        if queryset.filter(request_id=term).exists():
            return queryset.filter(request_id=term), False
        return queryset.filter(idempotency_key=term), False

    def response_action(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        """Act on ids that can be ids of outcomes: Django would stumble over any other."""
        chosen = request.POST.getlist(ACTION_CHECKBOX_NAME)
        request.POST = request.POST.copy()
        request.POST.setlist(ACTION_CHECKBOX_NAME, [pk for pk in chosen if outcome_uuid(pk)])
        return super().response_action(request, *args, **kwargs)

    def render_change_form(self, request: Any, context: Any, *args: Any, **kwargs: Any) -> Any:
        """Show one outcome with a button for each act that fits its state and its reader."""
        actions: Any = self.get_actions(request)
        state = context["original"].state
        acts = [(name, text) for _, name, text in actions.values() if state in OFFERED[name]]
        more = {"acts": acts, "flower_page": flower_page(context["original"].pk)}
        return super().render_change_form(request, {**context, **more}, *args, **kwargs)

    # What may be done

    def has_retry_permission(self, request: Any) -> bool:
        return bool(request.user.has_perm("tasks_app.retry_outcome"))

    def has_cancel_permission(self, request: Any) -> bool:
        return bool(request.user.has_perm("tasks_app.cancel_outcome"))

    def has_replay_permission(self, request: Any) -> bool:
        return bool(request.user.has_perm("tasks_app.replay_outcome"))

    @admin.action(permissions=["retry"], description="Run now")
    def run_now(self, request: HttpRequest, queryset: QuerySet[Outcome]) -> None:
        """Make waiting outcomes due at once."""
        self._act(request, queryset, "Made due now.", _run_now)

    @admin.action(permissions=["cancel"], description="Cancel")
    def cancel(self, request: HttpRequest, queryset: QuerySet[Outcome]) -> None:
        """Cancel waiting outcomes; ask running ones to stop."""
        self._act(request, queryset, "Cancelled.", _cancel)

    @admin.action(permissions=["replay"], description="Replay as new")
    def replay(self, request: HttpRequest, queryset: QuerySet[Outcome]) -> None:
        """Enqueue the calls of final outcomes again."""
        self._act(request, queryset, "Replayed as a new outcome.", _replay)

    def _act(self, request: Any, queryset: QuerySet[Outcome], done: str, act: Act) -> None:
        if request.POST.get("select_across") == "1":
            self.message_user(request, "Select outcomes of one page.", messages.ERROR)
            return
        refusals = []
        count = 0
        for outcome in queryset:
            with transaction.atomic(using=conf.DATABASE):
                refusal = act(outcome, request.user)
                if refusal:
                    refusals.append(f"{outcome}: {refusal}")
                    continue
                self.log_change(request, outcome, done)
            count += 1
        if count:
            self.message_user(request, f"{done} ({count})", messages.SUCCESS)
        for refusal in refusals[:TOLD]:
            self.message_user(request, refusal, messages.ERROR)
        if len(refusals) > TOLD:
            rest = len(refusals) - TOLD
            self.message_user(request, f"{rest} more were refused.", messages.ERROR)

    # How it is shown

    @admin.display(description="state")
    def shown_state(self, outcome: Outcome) -> str:
        return f"{SIGNS[State(outcome.state)]}\N{NO-BREAK SPACE}{outcome.state}"

    @admin.display(description="attempt")
    def shown_attempt(self, outcome: Outcome) -> str:
        return f"{outcome.attempt} of {outcome.most_attempts}"

    @admin.display(description="age")
    def age(self, outcome: Outcome) -> str:
        length = timezone.now() - outcome.created_at
        is_young = length.total_seconds() < SHORT
        return _span(length) if is_young else timesince(outcome.created_at, depth=1)

    @admin.display(description="run time")
    def run_time(self, outcome: Outcome) -> str:
        """The current run's time, or all of it from the first start to the end."""
        start = outcome.claimed_at or outcome.started_at
        end = outcome.finished_at or (timezone.now() if outcome.claimed_at else None)
        return NOTHING if start is None or end is None else _span(end - start)

    @admin.display(description="error")
    def error_line(self, outcome: Outcome) -> str:
        return _shortened(outcome.error.partition("\n")[0], LINE)

    @admin.display(description="request")
    def request_link(self, outcome: Outcome) -> Any:
        """A link to all that the same request caused."""
        if outcome.request_id is None:
            return NOTHING
        return format_html(
            '<a href="{}" title="{}">{}</a>',
            self._list_address(request_id=outcome.request_id),
            outcome.request_id,
            _shortened(outcome.request_id, SHORT_ID),
        )

    @admin.display(description="parent")
    def parent(self, outcome: Outcome) -> Any:
        return self._link(outcome.parent_id)

    @admin.display(description="root")
    def root(self, outcome: Outcome) -> Any:
        return self._link(None if outcome.root_id == outcome.pk else outcome.root_id)

    @admin.display(description="replay of")
    def replay_source(self, outcome: Outcome) -> Any:
        return self._link(outcome.replay_of_id)

    @admin.display(description="replays")
    def replays(self, outcome: Outcome) -> Any:
        # By request id, which replays share: there is an index on that, none on replay_of.
        rows = Outcome.objects.filter(request_id=outcome.request_id, replay_of=outcome.pk)
        ids = rows.order_by("pk").values_list("pk", flat=True)
        return format_html_join(", ", "{}", ((self._link(pk),) for pk in ids)) or NOTHING

    @admin.display(description="progress")
    def shown_progress(self, outcome: Outcome) -> str:
        progress = outcome.progress
        if progress is None:
            return NOTHING
        total = "" if progress.total is None else f" of {progress.total:g}"
        return _scrubbed(outcome, f"{progress.done:g}{total} {progress.message}".strip())

    @admin.display(description="idempotency key")
    def shown_key(self, outcome: Outcome) -> str:
        key = outcome.idempotency_key
        return NOTHING if key is None else _scrubbed(outcome, key)

    @admin.display(description="arguments")
    def arguments(self, outcome: Outcome) -> Any:
        return _pre(pformat(_masked(outcome)[0], sort_dicts=False))

    @admin.display(description="keyword arguments")
    def keyword_arguments(self, outcome: Outcome) -> Any:
        return _pre(pformat(_masked(outcome)[1], sort_dicts=False))

    @admin.display(description="result")
    def shown_result(self, outcome: Outcome) -> Any:
        if outcome.result_omitted:
            return f"not stored: {outcome.result_omitted}"
        if outcome.result_json is None:
            return NOTHING
        _know(outcome)
        masked = mask_result(outcome.task_name, outcome.args, outcome.kwargs, outcome.result)
        return _pre(pformat(masked, sort_dicts=False))

    @admin.display(description="arguments and result")
    def hidden_arguments(self, outcome: Outcome) -> str:
        return f"{MASK} (shown with the permission “Can see arguments and results”)"

    def _link(self, outcome_id: Any) -> Any:
        if outcome_id is None:
            return NOTHING
        address = reverse(f"{self._namespace}_change", args=[outcome_id])
        return format_html('<a href="{}">{}</a>', address, outcome_id)

    def _list_address(self, **filters: str) -> str:
        return f"{reverse(f'{self._namespace}_changelist')}?{urlencode(filters)}"

    @property
    def _namespace(self) -> str:
        return f"{self.admin_site.name}:tasks_app_outcome"


def _run_now(outcome: Outcome, user: Any) -> str:
    if outcome.run_now():
        return ""
    return f"it is {outcome.state}; only a pending outcome can be made due."


def _cancel(outcome: Outcome, user: Any) -> str:
    if outcome.cancel_requested_at is not None and not outcome.is_final:
        return "it was asked to stop already."
    if not outcome.is_final and outcome.cancel(by=user, reason="in the admin"):
        return ""
    return f"it is {outcome.state} already."


def _replay(outcome: Outcome, user: Any) -> str:
    try:
        outcome.replay(by=user)
    except (TasksAppError, TypeError, ValueError) as error:
        return str(error)
    return ""


def _masked(outcome: Outcome) -> tuple[list[Any], dict[str, Any]]:
    _know(outcome)
    return mask_arguments(outcome.task_name, outcome.args, outcome.kwargs)


def _scrubbed(outcome: Outcome, text: str) -> str:
    _know(outcome)
    return scrub(text, secret_texts(outcome.task_name, outcome.args, outcome.kwargs))


def _know(outcome: Outcome) -> None:
    """Load the task's declaration if there is one: it names what is to be masked."""
    with suppress(ConfigurationError):
        declare.task_options(outcome.task_name)


def _pre(text: str) -> Any:
    return format_html("<pre>{}</pre>", text)


def _shortened(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"


def _span(length: timedelta) -> str:
    seconds = length.total_seconds()
    if seconds < SHORT:
        return f"{seconds:.3g} s"
    return str(timedelta(seconds=round(seconds)))


if apps.is_installed("django_celery_beat"):
    import_module("tasks_app.integrations.beat")
