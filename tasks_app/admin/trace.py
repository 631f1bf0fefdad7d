"""
The trace of a request id: the web request and everything that it caused, as it happened.

The number of statements does not grow with what a request caused, and neither do they read more
than the bounds below: each goes through an index on the request's or the outcomes' ids.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from django.db.models.functions import Right
from django.http import Http404, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.urls import reverse
from django.utils import timezone

from tasks_app import canvas, context
from tasks_app.admin.lineages import tree
from tasks_app.admin.pages import Page
from tasks_app.admin.rights import may_read_arguments
from tasks_app.admin.texts import SHORT_ID, SIGNS, in_words, shortened
from tasks_app.admin.waterfall import at, waterfall
from tasks_app.clock import DatabaseNow
from tasks_app.models import Attempt, Outcome, WebRequest
from tasks_app.states import FINAL, State

#: What is read of an outcome: the others may hold 64 KB each.
COLUMNS = (
    *("id", "task_name", "state", "reason", "error", "worker", "attempt", "group_index"),
    *("request_id", "root_id", "parent_id", "replay_of", "finish_fence"),
    *("run_at", "created_at", "claimed_at", "finished_at", "progress_done", "progress_total"),
)

#: Outcomes that are shown, and their runs; outcomes that are counted beyond that.
MOST, MOST_RUNS, MOST_COUNTED = 200, 600, 10_000

#: Characters of the end of a run's log; the outcome's page has the rest.
LOG_END = 2_000

#: Requests on the page of the newest, and outcomes that are counted for all of them.
NEWEST, NEWEST_COUNTED = 50, 5_000

#: Seconds between two looks of a page whose request is still at work, and of a long one.
LOOK, LONG_LOOK = 2, 5

#: Outcomes of a long page.
LONG = 50

#: Version of the ids that `uuid7` makes: all others came from a canvas, or from the caller.
OWN_IDS = 7


class TracePage(Page):
    """One request."""

    name = "trace"
    route = "trace/<str:request_id>/"
    title = "Trace"
    template = "admin/tasks_app/trace.html"
    is_in_navigation = False

    def context(self, **named: Any) -> dict[str, Any]:
        """Return what is known of the request; 404 for what cannot be the id of one."""
        request_id = named["request_id"]
        if not context.is_acceptable(request_id):
            msg = "No request has such an id."
            raise Http404(msg)
        rows = _rows(request_id)
        outcomes, has_more = rows[:MOST], len(rows) > MOST
        states = _more_states(request_id) if has_more else [each.state for each in outcomes]
        is_reader = may_read_arguments(self.request)
        attempts, has_all_runs = _attempts([each.pk for each in outcomes], with_logs=is_reader)
        web = WebRequest.objects.filter(pk=request_id).first()
        now = outcomes[0].now if outcomes else timezone.now()  # type: ignore[attr-defined]  # annotated
        picture = waterfall(web, tree(outcomes, _places(outcomes)), attempts, now)
        return {
            "title": f"Trace of {shortened(request_id, SHORT_ID)}",
            "request_id": request_id,
            "web": web,
            "web_length": web and in_words((web.finished_at - web.started_at).total_seconds()),
            "picture": picture,
            "started_at": picture and at(picture.started_at),
            "counts": _counts(states),
            "total": len(states),
            "is_counted": len(states) <= MOST_COUNTED,
            "shown": len(outcomes),
            "has_more": has_more,
            "has_all_runs": has_all_runs,
            "is_live": has_more or any(not each.is_final for each in outcomes),
            "is_reader": is_reader,
            "look": LOOK if len(outcomes) < LONG else LONG_LOOK,
            "list_address": self.address_of("outcome_changelist")
            + f"?{urlencode({'request_id': request_id})}",
        }

    def address_of(self, name: str, *arguments: Any) -> str:
        """Return the address of another page of the console, on the same site."""
        site = self.model_admin.admin_site.name
        return reverse(f"admin:tasks_app_{name}", args=arguments, current_app=site)


class TracesPage(Page):
    """The newest requests, and a form for the id of any other."""

    name = "traces"
    route = "trace/"
    title = "Traces"
    template = "admin/tasks_app/traces.html"

    def get(self, **named: Any) -> HttpResponseBase:
        asked = self.request.GET.get("request_id", "").strip()
        if asked and context.is_acceptable(asked):
            site = self.model_admin.admin_site.name
            address = reverse("admin:tasks_app_trace", args=[asked], current_app=site)
            return HttpResponseRedirect(address)
        newest = list(WebRequest.objects.order_by("-started_at")[:NEWEST])
        states, is_counted = _states_of([web.pk for web in newest])
        return self.rendered(
            asked=asked,
            is_counted=is_counted,
            requests=[
                (web, at(web.started_at), _length(web), _counts(states.get(web.pk, ())))
                for web in newest
            ],
        )


def _rows(request_id: str) -> list[Outcome]:
    """Return the first outcomes of a request, and one more if there are any, with the time."""
    rows = Outcome.objects.for_request(request_id).only(*COLUMNS).annotate(now=DatabaseNow())
    return list(rows[: MOST + 1])


def _more_states(request_id: str) -> list[str]:
    rows = Outcome.objects.filter(request_id=request_id)
    return list(rows.order_by().values_list("state", flat=True)[: MOST_COUNTED + 1])


def _attempts(ids: Sequence[UUID], *, with_logs: bool) -> tuple[Mapping[UUID, list[Attempt]], bool]:
    """Return the ended runs of outcomes, in order, and whether these are all."""
    if not ids:
        return {}, True
    rows = Attempt.objects.filter(outcome_id__in=ids).defer("traceback", "log")
    if with_logs:
        rows = rows.annotate(kept_log=Right("log", LOG_END))
    found = list(rows.order_by("pk")[: MOST_RUNS + 1])
    of: defaultdict[UUID, list[Attempt]] = defaultdict(list)
    for attempt in sorted(found[:MOST_RUNS], key=lambda attempt: attempt.fence):
        of[attempt.outcome_id].append(attempt)
    return of, len(found) <= MOST_RUNS


def _places(outcomes: Sequence[Outcome]) -> dict[UUID, str]:
    """Return the places in a canvas of those that may have one, by id."""
    known = {each.pk for each in outcomes}
    parents = {
        each.parent_id
        for each in outcomes
        if each.parent_id in known and each.pk.version != OWN_IDS
    }
    if not parents:
        return {}
    rows = Outcome.objects.filter(pk__in=parents).only("id", "options_json")
    return {pk: place for row in rows for pk, place in canvas.follower_places(row).items()}


def _states_of(request_ids: Sequence[str]) -> tuple[Mapping[str, list[str]], bool]:
    """Return the states of the outcomes of some requests, and whether these are all."""
    if not request_ids:
        return {}, True
    rows = Outcome.objects.filter(request_id__in=request_ids).order_by()
    found = list(rows.values_list("request_id", "state")[: NEWEST_COUNTED + 1])
    of: defaultdict[str, list[str]] = defaultdict(list)
    for request_id, state in found[:NEWEST_COUNTED]:
        of[str(request_id)].append(state)
    return of, len(found) <= NEWEST_COUNTED


def _counts(states: Iterable[str]) -> list[tuple[str, str, int]]:
    """Return sign, state and number of each state that there is, what went wrong first."""
    counted = Counter(states)
    order = sorted(State, key=lambda state: (state == State.SUCCEEDED, state not in FINAL, state))
    return [(SIGNS[state], state.value, counted[state]) for state in order if counted[state]]


def _length(web: WebRequest) -> str:
    return in_words(max((web.finished_at - web.started_at).total_seconds(), 0))
