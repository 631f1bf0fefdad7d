"""A page that causes all the work, one that repeats a part of it, and the pages of the app."""

import logging

from celery import chain
from django.http import HttpResponse
from django.urls import include, path

from tasks_app.models import Outcome
from tests.traced import tasks

logger = logging.getLogger(__name__)


def work(request):
    """Begin the work."""
    key = request.GET["key"]
    logger.info("asked for work")
    chain(tasks.prepare.si(key), tasks.fetch.si(key), tasks.spread.si(key)).delay()
    return HttpResponse(key)


def again(request):
    """Replay an outcome."""
    outcome = Outcome.objects.get(pk=request.GET["outcome"])
    return HttpResponse(str(outcome.replay().pk))


urlpatterns = [
    path("orders/", work),
    path("again/", again),
    path("tasks/", include("tasks_app.urls")),
]
