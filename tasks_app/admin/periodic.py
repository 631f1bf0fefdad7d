"""
The pages of periodic jobs: all of them, and one with its next runs, its slots and what can be done.

They are there where django-celery-beat is installed, whose rows say when and what; this app's rows
say what was decided. Looking needs the right to view outcomes; each act has a right of its own.
"""

from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from django.apps import apps
from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.db import transaction
from django.db.models import Q
from django.http import Http404, HttpResponseBadRequest, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.urls import NoReverseMatch, reverse
from django.utils import timezone

from tasks_app.admin import schedules
from tasks_app.admin.pages import Page
from tasks_app.admin.schedule_acts import ACTS, BACKFILL, PAUSE, RUN, Refused
from tasks_app.admin.slot_ranges import Range
from tasks_app.conf import conf
from tasks_app.transience import pessimistic

#: Entries on a page of all, and slots and next runs on the page of one.
ENTRIES, SLOTS, NEXT = 50, 50, 5

#: Links that lead from an entry to its times.
TIMES = ("interval", "crontab", "solar", "clocked")

#: What any database has as a primary key at most.
LARGEST_KEY = 2**63 - 1


def entries() -> Any:
    """Return all entries, each with its times."""
    model = apps.get_model("django_celery_beat", "PeriodicTask")
    return model.objects.select_related(*TIMES)


class PeriodicPage(Page):
    """Every entry by its name, a page at a time."""

    name = "periodic"
    route = "periodic/"
    title = "Periodic"
    template = "admin/tasks_app/periodic.html"

    def context(self, **named: Any) -> dict[str, Any]:
        asked = self.request.GET.get("q", "").replace("\0", "").strip()
        found = entries().order_by("name")
        if asked:
            found = found.filter(Q(name__icontains=asked) | Q(task__icontains=asked))
        page = Paginator(found, ENTRIES).get_page(self.request.GET.get("p"))
        return {"rows": schedules.shown(page.object_list), "page": page, "asked": asked}


class SchedulePage(Page):
    """One entry; a POST runs it now, pauses or resumes it, or makes up its slots of a range."""

    name = "schedule"
    route = "periodic/<int:pk>/"
    title = "Periodic job"
    template = "admin/tasks_app/schedule.html"
    is_in_navigation = False

    def context(self, **named: Any) -> dict[str, Any]:
        row = schedules.one(_found(named["pk"]), SLOTS)
        may = self.request.user.has_perm
        return {
            "title": row.name,
            "page_name": PeriodicPage.name,
            "row": row,
            "most": SLOTS,
            "upcoming": [(at, _there(at, row.zone)) for at in row.upcoming(NEXT)],
            "local_zone": timezone.get_current_timezone_name(),
            "entry_address": self._entry_address(row.entry),
            "may_run": may(RUN),
            "may_pause": may(PAUSE),
            "may_backfill": may(BACKFILL) and not row.fault,
            "range": Range.asked(row.entry, self.request.GET),
        }

    def post(self, **named: Any) -> HttpResponseBase:
        """Do what the form names; what was done is told in the entry's history."""
        act = ACTS.get(self.request.POST.get("act", ""))
        if act is None:
            return HttpResponseBadRequest("There is no such act.", content_type="text/plain")
        if not self.request.user.has_perm(act.permission):
            raise PermissionDenied
        entry = _found(named["pk"])
        try:
            # The entry in the history is there if and only if the act is.
            with pessimistic(), transaction.atomic(using=conf.DATABASE):
                told = act.do(entry, self.request.user.get_username(), self.request.POST)
                self.model_admin.log_change(self.request, entry, told)
        except Refused as refusal:
            messages.error(self.request, str(refusal))
        else:
            messages.success(self.request, told)
        return HttpResponseRedirect(self.request.path)

    def _entry_address(self, entry: Any) -> str:
        """Return where the entry is changed; "" if this user cannot look there."""
        may = self.request.user.has_perm
        rights = ("django_celery_beat.view_periodictask", "django_celery_beat.change_periodictask")
        if not any(may(right) for right in rights):
            return ""
        site = self.model_admin.admin_site.name
        name = "admin:django_celery_beat_periodictask_change"
        try:
            return reverse(name, args=[entry.pk], current_app=site)
        except NoReverseMatch:
            return ""


def _found(pk: int) -> Any:
    """Return an entry, or the answer that there is none."""
    entry = entries().filter(pk=pk).first() if pk <= LARGEST_KEY else None
    if entry is None:
        raise Http404(f"There is no periodic job {pk}.")
    return entry


def _there(at: datetime, zone: str) -> str:
    """Return a time as the clocks of a zone show it."""
    return f"{at.astimezone(ZoneInfo(zone)):%a %Y-%m-%d %H:%M:%S %Z}"
