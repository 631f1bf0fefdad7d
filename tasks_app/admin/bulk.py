"""The pages of bulk actions: all of them, and one with its counts, its refusals and its end."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpResponse, HttpResponseRedirect

from tasks_app import bulk_actions
from tasks_app.acts import ACTS, Act
from tasks_app.admin.pages import Page
from tasks_app.bulk_actions import kept_refusals
from tasks_app.models import BulkAction, Outcome, outcome_uuid
from tasks_app.selection_texts import from_json
from tasks_app.states import State

#: Bulk actions on the list's page, the newest.
SHOWN = 50

#: What the state of its task says about a bulk action that has not ended.
UNENDED = {
    State.PENDING: ("pending", "waits for a worker"),
    State.RUNNING: ("running", "runs"),
}


@dataclass(frozen=True)
class Shown:
    """A bulk action as a page shows it."""

    bulk: BulkAction
    outcome: Outcome | None

    @property
    def act(self) -> Act:
        return ACTS[self.bulk.action]

    @property
    def words(self) -> str:
        return str(from_json(self.bulk.selection_json))

    @property
    def met(self) -> int:
        return self.bulk.done + self.bulk.refused

    @property
    def left_out(self) -> int:
        """How many no longer matched when their turn came; 0 until the end."""
        is_through = self.bulk.finished_at is not None and not self.bulk.stop_reason
        return max(self.bulk.total - self.met, 0) if is_through else 0

    @property
    def is_going_on(self) -> bool:
        if self.bulk.finished_at is not None:
            return False
        return self.outcome is None or not self.outcome.is_final

    @property
    def sign(self) -> str:
        """The state whose colour it has."""
        if self.bulk.finished_at is not None:
            return "cancelled" if self.bulk.stop_reason else "succeeded"
        if self.outcome is None or self.outcome.is_final:
            return "failed"
        return UNENDED[State(self.outcome.state)][0]

    @property
    def standing(self) -> str:
        """Where it stands, in words."""
        if self.bulk.finished_at is not None:
            return "stopped" if self.bulk.stop_reason else "done"
        if self.outcome is None:
            return "stopped: its task is gone"
        if self.outcome.is_final:
            return f"stopped: its task is {self.outcome.state}; replay that to go on"
        if self.bulk.abort_requested_at is not None:
            return "stops after this batch"
        return UNENDED[State(self.outcome.state)][1]


class BulkActionsPage(Page):
    """The newest bulk actions and how far they are."""

    name = "bulk"
    route = "bulk/"
    title = "Bulk actions"
    template = "admin/tasks_app/bulk.html"

    def context(self, **named: Any) -> dict[str, Any]:
        return {"rows": _shown(BulkAction.objects.order_by("-pk")[:SHOWN]), "most": SHOWN}


class BulkActionPage(Page):
    """One bulk action; a POST aborts it."""

    name = "bulk_action"
    route = "bulk/<uuid:pk>/"
    title = "Bulk action"
    template = "admin/tasks_app/bulk_action.html"
    is_in_navigation = False

    def context(self, **named: Any) -> dict[str, Any]:
        bulk = _found(named["pk"])
        (row,) = _shown([bulk])
        return {
            "title": f"{row.act.title}: {bulk.total} outcomes",
            "row": row,
            "bulk": bulk,
            "options": bulk_actions.options_of(bulk),
            "refusals": [(outcome_uuid(pk), why) for pk, why in kept_refusals(bulk)],
            "may_abort": row.is_going_on
            and bulk.abort_requested_at is None
            and row.act.is_allowed(self.request.user),
        }

    def post(self, **named: Any) -> HttpResponse:
        """Abort it."""
        bulk = _found(named["pk"])
        if not ACTS[bulk.action].is_allowed(self.request.user):
            raise PermissionDenied
        if bulk_actions.abort(bulk, self.request.user):
            messages.success(self.request, "It stops after the batch that it is at.")
        else:
            messages.error(self.request, "It has ended, or was asked to stop already.")
        return HttpResponseRedirect(self.request.path)


def _found(pk: UUID) -> BulkAction:
    try:
        return BulkAction.objects.get(pk=pk)
    except BulkAction.DoesNotExist:
        raise Http404(f"There is no bulk action {pk}.") from None


def _shown(bulks: Iterable[BulkAction]) -> list[Shown]:
    """Return bulk actions with their tasks' outcomes, which one statement reads."""
    rows = list(bulks)
    found = Outcome.objects.only("pk", "state").in_bulk(
        [row.outcome_id for row in rows if row.outcome_id]
    )
    return [Shown(row, found.get(row.outcome_id)) for row in rows]
