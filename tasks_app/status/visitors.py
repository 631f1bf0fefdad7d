"""
Visitors: who asks for an outcome, and what of it is theirs.

The owner, whoever brings a token, and holders of a permission. Which of them it is is found out in
the same way whether or not there is such an outcome, so neither answer nor time tells strangers
apart what is there from what is not.
"""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.contrib.auth import get_user_model
from django.http import HttpRequest

from tasks_app.models import Outcome
from tasks_app.status.tokens import Grant, read_token

#: Open an outcome to those who neither own it nor have a token.
VIEW, CANCEL = "tasks_app.view_outcome", "tasks_app.cancel_outcome"
VIEW_RESULT = "tasks_app.view_outcome_arguments"


@dataclass(frozen=True, slots=True)
class Visitor:
    """Somebody who asks, by what is open to them."""

    may_see: bool
    may_cancel: bool
    may_read_result: bool


def visitor(request: HttpRequest, outcome_id: UUID, outcome: Outcome | None) -> Visitor:
    """Return what of an outcome is open to whoever sent a request; None: there is no such row."""
    user = account(request)
    grant = granted(request, outcome_id)
    if user is not None and outcome is not None and user.pk == outcome.owner_id:
        return Visitor(may_see=True, may_cancel=True, may_read_result=True)
    may = _nothing if user is None else user.has_perm
    may_see = grant.may_see or may(VIEW)
    return Visitor(
        may_see=may_see,
        may_cancel=grant.may_cancel or may(CANCEL),
        may_read_result=grant.may_read_result or (may_see and may(VIEW_RESULT)),
    )


def granted(request: HttpRequest, outcome_id: UUID) -> Grant:
    """Return what the request's token opens, wherever in the request it stands."""
    scheme, _, header = request.headers.get("Authorization", "").partition(" ")
    given = header.strip() if scheme.lower() == "bearer" else ""
    return read_token(
        given or request.GET.get("token", "") or request.POST.get("token", ""), outcome_id
    )


def account(request: HttpRequest) -> Any:
    """Return the logged-in user, or None."""
    user: Any = getattr(request, "user", None)
    is_account = isinstance(user, get_user_model()) and user.is_authenticated and user.is_active
    # Without a row, as some make one of a token of theirs, it is nobody's key to what nobody owns.
    return user if is_account and user.pk is not None else None


def _nothing(permission: str) -> bool:
    return False
