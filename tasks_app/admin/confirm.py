"""
The page that says what an act would do, to how many and to which; its POST alone acts.

One outcome, those ticked in the list, or everything that an address of the list selects. Up to a
page of the list is acted on at once; more becomes a bulk action.
"""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from django.contrib import messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import Count
from django.http import HttpResponse, HttpResponseRedirect
from django.urls import reverse

from tasks_app import acts, bulk_actions
from tasks_app.acts import ACTS, Act
from tasks_app.admin.pages import Page
from tasks_app.conf import conf
from tasks_app.exceptions import ConfigurationError
from tasks_app.models import Outcome, outcome_uuid
from tasks_app.options import LONGEST_QUEUE, PRIORITIES
from tasks_app.selection import Selection, SelectionError
from tasks_app.selection_texts import as_json, from_json, from_query, read_ids
from tasks_app.states import State

#: Outcomes shown of those that would be met.
SAMPLE = 20

#: Refusals told one by one after an act.
TOLD = 5

BAD_REQUEST = 400


class BulkConfirmPage(Page):
    """Asks whether an act is meant; does it when told so."""

    name = "bulk_confirm"
    route = "bulk/confirm/"
    title = "Act on outcomes"
    template = "admin/tasks_app/bulk_confirm.html"
    is_in_navigation = False

    def get(self, **named: Any) -> HttpResponse:
        """Show what would be done to all that the address selects; without an act, offer them."""
        try:
            name = self.request.GET.get("action", "")
            return self._asked(
                self._act(name) if name else None, from_query(self.request.GET, self.request.user)
            )
        except SelectionError as error:
            return self._refused(str(error))

    def post(self, **named: Any) -> HttpResponse:
        """Show what would be done; do it if the form was this page's own."""
        try:
            act, selection = self._act(self.request.POST.get("action", "")), self._selection()
            if self.request.POST.get("post") != "yes":
                return self._asked(act, selection)
            return self._done(act, selection)
        except SelectionError as error:
            return self._refused(str(error))

    def _act(self, name: str) -> Act:
        """Return the act of that name, if the user may do it."""
        if name not in ACTS:
            raise SelectionError(f"There is no act {name[:80]!r}.")
        if not ACTS[name].is_allowed(self.request.user):
            raise PermissionDenied
        return ACTS[name]

    def _selection(self) -> Selection:
        """Return what a form means: what it was shown, what was ticked, or all that matches."""
        form = self.request.POST
        if "selection" in form:
            return from_json(form["selection"])
        if form.get("select_across") == "1":
            return from_query(self.request.GET, self.request.user)
        ids = read_ids(form.getlist(ACTION_CHECKBOX_NAME))
        if not ids:
            raise SelectionError("No outcome was chosen.")
        return Selection(ids=ids)

    # Asking

    def _asked(self, act: Act | None, selection: Selection, problem: str = "") -> HttpResponse:
        frozen = selection.frozen()
        last_id = bulk_actions.newest_id()
        # Of a large table only that is counted which the act is for.
        is_narrow = act is not None and frozen.ids is None
        counts = _counts(frozen, last_id, act.states if act and is_narrow else None)
        number = _number(counts, act.states) if act else 0
        return self.rendered(
            title=act.title if act else self.title,
            act=act,
            choices=[] if act else self._choices(counts),
            words=str(frozen),
            counts=sorted(counts.items()),
            total=sum(counts.values()),
            number=number,
            left_out=sum(counts.values()) - number,
            is_narrow=is_narrow,
            sample=_sample(frozen, act, last_id) if act and number else (),
            is_at_once=self._is_at_once(frozen),
            selection=as_json(frozen),
            last_id=last_id,
            query=self._list_query(),
            back=self._back(frozen),
            problem=problem,
            needs_place=act is acts.MOVE,
            longest_queue=LONGEST_QUEUE,
            priorities=PRIORITIES,
            given={name: self.request.POST.get(f"to_{name}", "") for name in ("queue", "priority")},
        )

    def _choices(self, counts: Mapping[str, int]) -> list[tuple[Act, int, str]]:
        """Return what may be done to how many, each with its address."""
        query = self.request.GET.copy()
        found = []
        for act in ACTS.values():
            if act.is_allowed(self.request.user):
                query["action"] = act.name
                found.append((act, _number(counts, act.states), f"?{query.urlencode()}"))
        return found

    def _refused(self, why: str) -> HttpResponse:
        response = self.rendered(problem=why, back=self._list())
        response.status_code = BAD_REQUEST
        return response

    # Acting

    def _done(self, act: Act, selection: Selection) -> HttpResponse:
        given = {name: self.request.POST.get(f"to_{name}", "") for name in ("queue", "priority")}
        try:
            options = acts.read_options(act, given)
        except ConfigurationError as error:
            return self._asked(act, selection, str(error))
        if self._is_at_once(selection):
            self._act_on_each(act, selection, options)
            return HttpResponseRedirect(self._back(selection))
        return self._start(act, selection, options)

    def _start(self, act: Act, selection: Selection, options: Mapping[str, Any]) -> HttpResponse:
        form = self.request.POST
        told = form.get("total", "")
        last_id = outcome_uuid(form.get("last_id", ""))
        if last_id is None or not (told.isascii() and told.isdecimal()):
            return self._asked(act, selection)
        user = self.request.user
        try:
            bulk = bulk_actions.start(
                user, act.name, selection, options, last_id=last_id, at_most=int(told)
            )
        except SelectionError as error:
            return self._asked(act, selection, str(error))
        return HttpResponseRedirect(self._address("bulk_action", bulk.pk))

    def _is_at_once(self, selection: Selection) -> bool:
        return selection.ids is not None and len(selection.ids) <= self.model_admin.list_per_page

    def _act_on_each(self, act: Act, selection: Selection, options: Mapping[str, Any]) -> None:
        refusals = []
        count = 0
        for outcome in selection.outcomes():
            with transaction.atomic(using=conf.DATABASE):
                refusal = act.do(outcome, self.request.user, options)
                if refusal:
                    refusals.append(f"{outcome}: {refusal}")
                    continue
                self.model_admin.log_change(self.request, outcome, act.done)
            count += 1
        if count:
            messages.success(self.request, f"{act.done} ({count})")
        for refusal in refusals[:TOLD]:
            messages.error(self.request, refusal)
        if len(refusals) > TOLD:
            messages.error(self.request, f"{len(refusals) - TOLD} more were refused.")
        if not count and not refusals:
            messages.error(self.request, "Nothing matches any more; nothing was done.")

    # Where to go

    def _back(self, selection: Selection) -> str:
        """Return the page that one came from: an outcome's, or the list as it was filtered."""
        if selection.ids is not None and len(selection.ids) == 1 and not self._list_query():
            return self._address("outcome_change", selection.ids[0])
        return self._list()

    def _list(self) -> str:
        query = self._list_query()
        address = self._address("outcome_changelist")
        return f"{address}?{query}" if query else address

    def _list_query(self) -> str:
        query = self.request.GET.copy()
        query.pop("action", None)
        return query.urlencode()

    def _address(self, name: str, *args: Any) -> str:
        site = self.model_admin.admin_site.name
        return reverse(f"{site}:tasks_app_{name}", args=args)


def _counts(
    selection: Selection, last_id: UUID | None, states: frozenset[State] | None = None
) -> dict[str, int]:
    """Return exactly how many match, by state; of some states only, if they are given."""
    if last_id is None:
        return {}
    rows = selection.outcomes().filter(pk__lte=last_id).order_by()
    if states is not None:
        rows = rows.filter(state__in=sorted(states))
    return dict(rows.values_list("state").annotate(number=Count("pk")))


def _number(counts: Mapping[str, int], states: frozenset[State]) -> int:
    return sum(number for state, number in counts.items() if state in states)


def _sample(selection: Selection, act: Act, last_id: UUID | None) -> list[Outcome]:
    """Return the newest of those that would be met, without what they were called with."""
    if last_id is None:
        return []
    columns = ("pk", "task_name", "queue", "priority", "state", "created_at")
    return list(bulk_actions.matching(selection, act, last_id).only(*columns)[:SAMPLE])
