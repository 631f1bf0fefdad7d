"""
Pages for monitors: `metrics`, `healthz` and `readyz`.

Metrics tell what a site does and how much of it, so they are shown to staff who may see outcomes,
and to whoever brings `TASKS_APP["METRICS_TOKEN"]`. Where a request comes from opens nothing: behind
a proxy every one of them comes from this machine. The other two are for probes; they are open and
say no more than a word.
"""

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from django.db import Error as DatabaseFailure
from django.db import connections
from django.http import HttpRequest, HttpResponse, HttpResponseNotFound, JsonResponse
from django.utils.crypto import constant_time_compare
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from tasks_app.celery import app
from tasks_app.conf import conf
from tasks_app.trouble import unapplied_migrations

UNAUTHORIZED, UNAVAILABLE = 401, 503


class Readiness:
    """Whether this process may be sent requests; migrations are looked for until they are there."""

    def __init__(self) -> None:
        self.is_migrated = False

    def look(self) -> dict[str, str]:
        """Return a word on each part, `ok` where nothing is wrong with it."""
        try:
            with connections[conf.DATABASE].cursor() as cursor:
                cursor.execute("SELECT 1")
            self.is_migrated = self.is_migrated or not unapplied_migrations()
        except DatabaseFailure:
            return {"database": "does not answer", "migrations": "unknown"}
        return {"database": "ok", "migrations": "ok" if self.is_migrated else "missing"}


readiness = Readiness()


@never_cache
@require_safe
def healthz(request: HttpRequest) -> HttpResponse:
    """Say that this process answers; asks neither database nor broker."""
    return HttpResponse("ok\n", content_type="text/plain")


@never_cache
@require_safe
def readyz(request: HttpRequest) -> HttpResponse:
    """Say whether the database answers and has this app's tables; a broker is not needed."""
    parts = readiness.look()
    is_ready = all(word == "ok" for word in parts.values())
    return JsonResponse(parts, status=200 if is_ready else UNAVAILABLE)


@never_cache
@require_safe
def metrics(request: HttpRequest) -> HttpResponse:
    """Show the metrics in the form that the scraper asks for."""
    if not _may_see(request):
        refusal = HttpResponse(
            "Metrics need a token.\n", content_type="text/plain", status=UNAUTHORIZED
        )
        refusal.headers["WWW-Authenticate"] = 'Bearer realm="metrics"'
        return refusal
    if find_spec("prometheus_client") is None:
        return HttpResponseNotFound("Install tasks_app[prometheus].\n", content_type="text/plain")
    # What is not imported yet is not declared yet, and would be counted as other.
    app.loader.import_default_modules()
    exposition: Any = import_module("prometheus_client.exposition")
    integration: Any = import_module("tasks_app.integrations.prometheus")
    encode: Callable[[Any], bytes]
    encode, content_type = exposition.choose_encoder(request.headers.get("Accept", ""))
    return HttpResponse(encode(integration.registry), content_type=content_type)


def _may_see(request: HttpRequest) -> bool:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    wanted = conf.METRICS_TOKEN
    if wanted and scheme.lower() == "bearer" and constant_time_compare(token.strip(), wanted):
        return True
    user = getattr(request, "user", None)
    return bool(user and user.is_staff and user.has_perm("tasks_app.view_outcome"))
