"""
Pages of one outcome for the people who wait for it: `status`, `events` and `cancel`.

Whoever may not see an outcome gets what he would get if there were none. Looking costs one
statement beside those that find out who asks. Tokens are secrets: no answer lets its address be
sent on as a referrer.
"""

from typing import Any
from uuid import UUID

from django.apps import apps
from django.contrib.auth.decorators import login_not_required
from django.db import transaction
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.http.response import HttpResponseBase
from django.utils.cache import add_never_cache_headers, patch_vary_headers
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.csrf import csrf_exempt, csrf_protect
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_GET, require_POST, require_safe

from tasks_app.conf import conf
from tasks_app.models import Outcome
from tasks_app.status import streams
from tasks_app.status.answers import ACCEPTED, links_of
from tasks_app.status.documents import document, secrets_of
from tasks_app.status.visitors import Visitor, account, granted, visitor

SEE_OTHER, NO_CONTENT, MISSING, CONFLICT = 303, 204, 404, 409

#: Seconds after which a client that polls should look again.
LOOK_AGAIN = 2

JSON, HTML = "application/json", "text/html"

#: Columns that no status tells of.
UNTOLD = ("options_json", "trace_context")

#: What the history of Django's admin calls a change.
CHANGE = 2


@login_not_required
@require_safe
def status(request: HttpRequest, outcome_id: UUID) -> HttpResponseBase:
    """Tell an outcome's status as JSON."""
    view = _View.of(request, outcome_id)
    if view is None or not view.visitor.may_see:
        return _missing()
    return view.answer()


@login_not_required
@require_GET
def events(request: HttpRequest, outcome_id: UUID) -> HttpResponseBase:
    """Tell an outcome's status whenever it changes; as `status` does to whom takes no events."""
    view = _View.of(request, outcome_id)
    if view is None or not view.visitor.may_see:
        return _missing()
    if request.get_preferred_type([streams.MEDIA_TYPE, JSON]) != streams.MEDIA_TYPE:
        return view.answer()
    stream = streams.Stream(view.outcome, view.tell, request.headers.get("Last-Event-ID", ""))
    if stream.is_told:
        # The one answer after which a browser's EventSource does not come back.
        return _guarded(HttpResponse(status=NO_CONTENT))
    return _guarded(streams.answer(request, stream))


@login_not_required
@csrf_exempt
@require_POST
@sensitive_post_parameters("token")
def cancel(request: HttpRequest, outcome_id: UUID) -> HttpResponseBase:
    """
    Cancel an outcome, or ask a running one to stop.

    A form of another site brings the visitor's cookies, but no token of ours: who has a token that
    opens this needs none of Django's.
    """
    if granted(request, outcome_id).may_cancel:
        return _cancel(request, outcome_id)
    return _cancel_by_cookie(request, outcome_id)


@csrf_protect
def _cancel_by_cookie(request: HttpRequest, outcome_id: UUID) -> HttpResponseBase:
    return _cancel(request, outcome_id)


def _cancel(request: HttpRequest, outcome_id: UUID) -> HttpResponseBase:
    view = _View.of(request, outcome_id)
    if view is None or not view.visitor.may_cancel:
        return _missing()
    outcome = view.outcome
    if outcome.is_final or not _cancelled(outcome, account(request)):
        refusal = f"It is {outcome.state} already."
        return view.answer(CONFLICT, refusal=refusal)
    if _wants_page(request):
        return _guarded(HttpResponseRedirect(request.POST["next"], status=SEE_OTHER))
    return view.answer(ACCEPTED)


def _cancelled(outcome: Outcome, user: Any) -> bool:
    """Cancel, and note it in the admin's history where a user did it and there is one."""
    with transaction.atomic(using=conf.DATABASE):
        if not outcome.cancel(by=user, reason="on request of who waited for it"):
            return False
        if user is not None and apps.is_installed("django.contrib.admin"):
            content_type = apps.get_model("contenttypes", "ContentType")
            apps.get_model("admin", "LogEntry").objects.create(
                user=user,
                content_type=content_type.objects.get_for_model(Outcome),
                object_id=str(outcome.pk),
                object_repr=str(outcome)[:200],
                action_flag=CHANGE,
                change_message="Cancelled.",
            )
    return True


def _wants_page(request: HttpRequest) -> bool:
    """Tell whether a browser without JavaScript sent the form of a progress bar."""
    return request.get_preferred_type([JSON, HTML]) == HTML and url_has_allowed_host_and_scheme(
        request.POST.get("next"), {request.get_host()}, require_https=request.is_secure()
    )


class _View:
    """An outcome as one visitor may see it."""

    def __init__(self, outcome: Outcome, visitor: Visitor) -> None:
        self.outcome = outcome
        self.visitor = visitor
        self._secrets = secrets_of(outcome)

    @classmethod
    def of(cls, request: HttpRequest, outcome_id: UUID) -> "_View | None":
        """Return the view of an outcome that is there; what it opens may be nothing."""
        outcome = Outcome.objects.defer(*UNTOLD).filter(pk=outcome_id).first()
        rights = visitor(request, outcome_id, outcome)
        return None if outcome is None else cls(outcome, rights)

    def tell(self, outcome: Outcome) -> dict[str, Any]:
        """Return the status with links to what is open to the visitor."""
        told = document(outcome, self._secrets, with_result=self.visitor.may_read_result)
        links = links_of(outcome.id)
        if not self.visitor.may_cancel or outcome.is_final:
            del links["cancel"]
        return told | {"links": links}

    def answer(self, code: int = 200, **more: Any) -> HttpResponseBase:
        response = JsonResponse(self.tell(self.outcome) | more, status=code)
        if not self.outcome.is_final:
            response.headers["Retry-After"] = str(LOOK_AGAIN)
        return _guarded(response)


def _missing() -> HttpResponseBase:
    return _guarded(JsonResponse({"detail": "Not found."}, status=MISSING))


def _guarded(response: HttpResponseBase) -> HttpResponseBase:
    """Keep an answer out of caches and its address out of referrers."""
    add_never_cache_headers(response)
    patch_vary_headers(response, ["Accept", "Authorization", "Cookie"])
    response.headers["Referrer-Policy"] = "no-referrer"
    response.headers["X-Content-Type-Options"] = "nosniff"
    return response
