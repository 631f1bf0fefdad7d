"""
What may be done in the list and on an outcome's page: one table of acts, each with its permission.

Neither the list nor the page does anything by itself: every button leads to `BulkConfirmPage`,
which asks for the permission again, and whose POST alone acts.
"""

from collections.abc import Callable
from typing import Any

from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse

from tasks_app.acts import ACTS, Act
from tasks_app.admin.confirm import BulkConfirmPage
from tasks_app.models import Outcome, outcome_uuid


class Acting:
    """The acts of `acts.ACTS`, offered to those who may do them."""

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        """Return what the user may do to outcomes of the list, as Django wants it."""
        allowed = (act for act in ACTS.values() if act.is_allowed(request.user))
        return {act.name: (_asker(act), act.name, act.title) for act in allowed}

    def response_action(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        """Act on ids that can be ids of outcomes: Django would stumble over any other."""
        chosen = request.POST.getlist(ACTION_CHECKBOX_NAME)
        request.POST = request.POST.copy()
        request.POST.setlist(ACTION_CHECKBOX_NAME, [pk for pk in chosen if outcome_uuid(pk)])
        parent: Any = super()
        return parent.response_action(request, *args, **kwargs)

    def render_change_form(self, request: Any, context: Any, *args: Any, **kwargs: Any) -> Any:
        """Show one outcome with a button for each act that fits its state and its reader."""
        outcome = context["original"]
        offered = [
            act
            for act in ACTS.values()
            if outcome.state in act.states and act.is_allowed(request.user)
        ]
        parent: Any = super()
        return parent.render_change_form(request, {**context, "acts": offered}, *args, **kwargs)


def _asker(act: Act) -> Callable[[Any, HttpRequest, QuerySet[Outcome]], HttpResponse]:
    """Return the list's action: it shows what would be done, and to how many."""

    def ask(model_admin: Any, request: Any, queryset: QuerySet[Outcome]) -> HttpResponse:
        request.POST = request.POST.copy()
        request.POST["action"] = act.name
        return BulkConfirmPage(model_admin, request).post()

    return ask
