"""
The list of outcomes: tabs, filters, search, and how far all that looks.

Two statements read the table for a page: the ids, within the reach of an index, then their rows
without the columns that may be large.
"""

from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from django.contrib import admin
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.views.main import PAGE_VAR, ChangeList
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import NoReverseMatch, reverse
from django.utils import timezone
from django.utils.functional import cached_property
from django.utils.html import format_html
from django.utils.timesince import timesince

from tasks_app.admin import searching
from tasks_app.admin.filters import (
    AgeFilter,
    DurationFilter,
    OwnerFilter,
    PeriodicFilter,
    QueueFilter,
    StateFilter,
    TaskFilter,
)
from tasks_app.admin.paging import LAST_PAGE, LookAheadPaginator
from tasks_app.admin.reach import Look, by_id, few, in_tab, sorted_by_time
from tasks_app.admin.searching import ARGUMENT, CANDIDATES, HELP, OWNER, BadTerm
from tasks_app.admin.tabs import Counted, Tab, tabs
from tasks_app.admin.texts import LINE, NOTHING, SHORT, SHORT_ID, SIGNS, shortened, span
from tasks_app.models import Outcome, outcome_uuid
from tasks_app.states import State

#: Columns that may hold 64 KB each; the list does without them.
LARGE = ("args_json", "kwargs_json", "result_json", "options_json", "trace_context")

#: Where an earlier look ended, in the address.
BEFORE = "before"

#: Filters that no index serves, beside the state's.
NARROWING = {"task", "queue", "periodic", "age", "duration", "owner"}


@dataclass(frozen=True, slots=True)
class Filter:
    """A filter as the page shows it: its name, what may be chosen, and what is."""

    title: str
    choices: list[Any]
    chosen: str

    @classmethod
    def of(cls, spec: Any, changelist: ChangeList) -> "Filter":
        choices = list(spec.choices(changelist))
        chosen = next((each["display"] for each in choices if each["selected"]), "?")
        return cls(spec.title, choices, chosen)


class OutcomeChangeList(ChangeList):
    """A page of outcomes; its count is that of the page, and nobody can select beyond it."""

    #: Why the search found nothing, for its reader; empty where it did.
    problem = ""
    look: Look

    def get_queryset(self, request: HttpRequest, exclude_parameters: Any = None) -> Any:
        """Return what the page is cut from; of a POST what was selected, wherever it stands."""
        self.before = request.GET.get(BEFORE, "")
        for parameters in (self.params, self.filter_params):
            parameters.pop(BEFORE, None)
        rows = super().get_queryset(request, exclude_parameters)
        if request.method == "POST":
            chosen = map(outcome_uuid, request.POST.getlist(ACTION_CHECKBOX_NAME))
            rows = self.root_queryset.filter(pk__in=[pk for pk in chosen if pk is not None])
            self.look = Look(rows.order_by("-pk"))
        else:
            self.look = self._looked(request, rows)
        return self.look.rows

    def get_results(self, request: HttpRequest) -> None:
        """Read the page's rows by the ids that its paginator has found."""
        super().get_results(request)
        order = self.queryset.query.order_by
        ids = self.paginator.ids[: self.list_per_page]
        self.result_list = self.root_queryset.filter(pk__in=ids).order_by(*order)[: len(ids)]
        self.result_count = len(self.result_list)
        term = self.query.strip()
        if term and not (self.result_count or self.problem):
            rest = " as far back as was looked; there are older ones." if self.look.before else "."
            self.problem = f"No outcome here matches “{term}”{rest}"

    def get_query_string(self, new_params: Any = None, remove: Any = None) -> str:
        """Keep how far back the list stands from page to page, and for nothing else."""
        if new_params and PAGE_VAR in new_params and self.before:
            new_params = {**new_params, BEFORE: self.before}
        return super().get_query_string(new_params, remove)

    @cached_property
    def counted(self) -> Counted:
        """What is known of how many there are, of the task that is looked at."""
        return Counted.read(self.params.get("task", ""))

    @property
    def tabs(self) -> list[Tab]:
        return tabs(self.state, self.counted, self)

    @property
    def filters(self) -> list[Filter]:
        """The filters beside the state's, which are the tabs."""
        return [Filter.of(spec, self) for spec in self.filter_specs if spec.title != "state"]

    @property
    def state(self) -> str:
        """The tab that is shown; empty: all."""
        given = self.params.get("state", "")
        return given if given in set(State) else ""

    @property
    def further_back(self) -> str:
        """The address of the next look; empty where nothing older is left."""
        if not self.look.before:
            return ""
        return super().get_query_string({BEFORE: self.look.before})

    def _looked(self, request: HttpRequest, rows: QuerySet[Outcome]) -> Look:
        term = self.query.strip()
        try:
            if term.startswith(ARGUMENT):
                return self._with_argument(rows, searching.wanted(term, request))
            if term.startswith(OWNER):
                return self._in_tab(rows.filter(searching.owned(term)), is_narrowed=True)
        except BadTerm as error:
            self.problem = str(error)
            return Look(rows.none())
        return self._found(rows, term) if term else self._in_tab(rows)

    def _found(self, rows: QuerySet[Outcome], term: str) -> Look:
        found = searching.named(term)
        if found is None:
            return self._in_tab(rows.filter(idempotency_key=term), is_narrowed=True)
        rows = rows.filter(found.condition)
        if few(Outcome.objects.filter(found.condition)):
            return Look(sorted_by_time(rows))
        return by_id(rows, Outcome.objects.filter(found.scope), self.before)

    def _with_argument(self, rows: QuerySet[Outcome], wish: searching.Wanted) -> Look:
        look = self._in_tab(searching.candidates(rows, wish), is_narrowed=True)
        judged = list(searching.matching(look.rows, wish))
        found = look.rows.filter(pk__in=[pk for pk, is_match in judged if is_match])
        if len(judged) < CANDIDATES:
            return Look(found, look.before, look.since)
        last = Outcome.objects.only("pk", "finished_at", "created_at").get(pk=judged[-1][0])
        before = last.finished_at.isoformat() if last.finished_at else str(last.pk)
        return Look(found, before, last.finished_at or last.created_at)

    def _in_tab(self, rows: QuerySet[Outcome], *, is_narrowed: bool = False) -> Look:
        request_id = self.params.get("request_id")
        if request_id is not None:
            if few(Outcome.objects.filter(request_id=request_id)):
                return Look(sorted_by_time(rows))
            return by_id(rows, Outcome.objects.all(), self.before)
        is_narrowed = is_narrowed or bool(NARROWING & self.params.keys())
        look = in_tab(rows, self.state, is_narrowed=is_narrowed, before=self.before)
        since = AgeFilter.since(self.params.get("age"))
        is_past = since is not None and look.since is not None and look.since < since
        return Look(look.rows) if is_past else look


class OutcomeList(admin.ModelAdmin):  # type: ignore[type-arg]
    """How `OutcomeAdmin` lists outcomes."""

    list_display = (
        "state_word",
        "task_name",
        "queue",
        "shown_attempt",
        "age",
        "wait",
        "run_time",
        "progress_bar",
        "error_line",
        "request_link",
    )
    list_display_links = ("state_word", "task_name")
    list_filter = (
        StateFilter,
        TaskFilter,
        QueueFilter,
        PeriodicFilter,
        AgeFilter,
        DurationFilter,
        OwnerFilter,
    )
    search_fields = ("id", "request_id", "idempotency_key")
    search_help_text = HELP
    ordering = ("-id",)
    list_per_page = 50
    sortable_by = ()
    paginator = LookAheadPaginator
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    list_max_show_all = 0

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
        """Leave the search to the list itself, which knows how far it may look."""
        return queryset, False

    @admin.display(description="state")
    def state_word(self, outcome: Outcome) -> Any:
        return format_html(
            '<span class="tasks-state-{0}"><span aria-hidden="true">{1}</span>&nbsp;{0}</span>',
            outcome.state,
            SIGNS[State(outcome.state)],
        )

    @admin.display(description="attempt")
    def shown_attempt(self, outcome: Outcome) -> str:
        return f"{outcome.attempt} of {outcome.most_attempts}"

    @admin.display(description="age")
    def age(self, outcome: Outcome) -> str:
        length = timezone.now() - outcome.created_at
        is_young = length.total_seconds() < SHORT
        return span(length) if is_young else timesince(outcome.created_at, depth=1)

    @admin.display(description="wait")
    def wait(self, outcome: Outcome) -> str:
        """From the time when it was due to its first start; so far, where it has not started."""
        start = outcome.started_at or outcome.finished_at or timezone.now()
        # A retry moves `run_at` past the first start, whose due time is then not known.
        due = outcome.run_at if outcome.run_at <= start else outcome.created_at
        is_ahead = outcome.run_at > start and outcome.started_at is None
        return NOTHING if is_ahead else span(start - max(due, outcome.created_at))

    @admin.display(description="run time")
    def run_time(self, outcome: Outcome) -> str:
        """The current run's time, or all of it from the first start to the end."""
        start = outcome.claimed_at or outcome.started_at
        end = outcome.finished_at or (timezone.now() if outcome.claimed_at else None)
        return NOTHING if start is None or end is None else span(end - start)

    @admin.display(description="progress")
    def progress_bar(self, outcome: Outcome) -> Any:
        return progress_bar(outcome)

    @admin.display(description="error")
    def error_line(self, outcome: Outcome) -> str:
        return shortened(outcome.error.partition("\n")[0], LINE)

    @admin.display(description="request")
    def request_link(self, outcome: Outcome) -> Any:
        """A link to all that the same request caused."""
        return request_link(outcome.request_id, str(self.admin_site.name))


def progress_bar(outcome: Outcome) -> Any:
    """Return what an outcome has reported as a bar with its text; a text where no end is known."""
    progress = outcome.progress
    if progress is None:
        return NOTHING
    if not progress.total or progress.total < 0:
        return f"{progress.done:g}"
    share = min(max(progress.done / progress.total, 0), 1)
    return format_html(
        '<progress max="1" value="{}" aria-label="progress">{}</progress> {}\N{NO-BREAK SPACE}%',
        f"{share:.4f}",
        f"{share:.0%}",
        int(share * 100),
    )


def request_address(request_id: str, site: str = "admin") -> str:
    """Return where all that a request caused is shown: its trace, or the list of its outcomes."""
    try:
        return reverse(f"{site}:tasks_app_trace", args=[request_id])
    except NoReverseMatch:
        address = reverse(f"{site}:tasks_app_outcome_changelist")
        return f"{address}?{urlencode({'request_id': request_id})}"


def request_link(request_id: str | None, site: str = "admin") -> Any:
    """Return a link to all that a request caused, named by the beginning of its id."""
    if not request_id:
        return NOTHING
    return format_html(
        '<a href="{}" title="{}">{}</a>',
        request_address(request_id, site),
        request_id,
        shortened(request_id, SHORT_ID),
    )
