"""Answers to a request that enqueued something: where its sender can follow it."""

from datetime import timedelta
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import NoReverseMatch, reverse
from django.utils.cache import add_never_cache_headers

from tasks_app.durations import as_timedelta
from tasks_app.exceptions import ConfigurationError
from tasks_app.models import Outcome
from tasks_app.status.tokens import status_token

ACCEPTED = 202

#: Pages of one outcome, by their names in `tasks_app.urls`.
PAGES = ("status", "events", "cancel")


def accepted(
    outcome: Outcome,
    request: HttpRequest | None = None,
    *,
    token: str = "",
    retry_after: float | timedelta = 1,
) -> HttpResponse:
    """
    Answer `202 Accepted` with the address at which an outcome's status is found.

    The body is JSON: `id`, `state`, `links` to `status`, `events` and `cancel`, and, for an outcome
    without an owner, a `token` to be sent as `Authorization: Bearer …`. `Location` has no token:
    addresses get into logs. Asks no database; inside a transaction the address leads somewhere once
    that has committed.

    Args:
        outcome: What was enqueued.
        request: Makes the addresses absolute.
        token: A token of your own making, instead of one that only shows the status.
        retry_after: Seconds or timedelta after which to look first.

    Raises:
        ConfigurationError: the project does not include `tasks_app.urls`.
    """
    links = links_of(outcome.id, request)
    body: dict[str, Any] = {"id": str(outcome.id), "state": str(outcome.state), "links": links}
    if token or outcome.owner_id is None:
        body["token"] = token or status_token(outcome)
    response = JsonResponse(body, status=ACCEPTED)
    response.headers["Location"] = links["status"]
    wait = as_timedelta(retry_after, "retry_after")
    response.headers["Retry-After"] = str(max(round(wait.total_seconds()), 0))
    add_never_cache_headers(response)
    return response


def status_url(outcome: Outcome | UUID, token: str = "") -> str:
    """
    Return the path of an outcome's status, for a mail or a redirect.

    A token in an address is seen by whatever logs addresses: where the client can send headers,
    give it the token by itself.

    Raises:
        ConfigurationError: the project does not include `tasks_app.urls`.
    """
    outcome_id = outcome if isinstance(outcome, UUID) else outcome.id
    return links_of(outcome_id)["status"] + (f"?{urlencode({'token': token})}" if token else "")


def links_of(outcome_id: UUID, request: HttpRequest | None = None) -> dict[str, str]:
    """Return the addresses of an outcome's pages; absolute for a request."""
    try:
        paths = {page: reverse(f"tasks_app:{page}", args=[outcome_id]) for page in PAGES}
    except NoReverseMatch:
        raise ConfigurationError(
            "The status of outcomes has no address yet: add "
            'path("tasks/", include("tasks_app.urls")) to the urlpatterns of your ROOT_URLCONF.'
        ) from None
    if request is None:
        return paths
    return {page: request.build_absolute_uri(path) for page, path in paths.items()}
