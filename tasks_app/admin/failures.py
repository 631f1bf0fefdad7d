"""
The pages of failures: all of a range by their kind, and one kind with its newest outcomes.

A kind is what `outcomes.py` gave one fingerprint: the exception's class and the place in the
project's code, or the reason and the task where nothing was raised.
"""

import re
from typing import Any
from urllib.parse import urlencode

from django.http import Http404
from django.urls import reverse

from tasks_app.admin import causes
from tasks_app.admin.causes import DEFAULT_RANGE, RANGES, Kind, Window
from tasks_app.admin.pages import Page
from tasks_app.models import Attempt, Cause

REPLAY = "tasks_app.replay_outcome"

#: Kinds on the page of all, and outcomes on the page of one.
SHOWN, NEWEST = 50, 50

FINGERPRINT = re.compile(r"[0-9a-f]{32}")


class _ByRange(Page):
    """A page about a range of time that its address names."""

    def chosen_range(self) -> str:
        """Return the range that the address names, or the usual one."""
        given = self.request.GET.get("range", "")
        return given if given in RANGES else DEFAULT_RANGE

    def about_range(self, window: Window) -> dict[str, Any]:
        """Return what the template shows of the range and its choice."""
        chosen = self.chosen_range()
        return {
            "ranges": [(name, text) for name, (text, _) in RANGES.items()],
            "range": chosen,
            "range_text": RANGES[chosen][0],
            "window": window,
            "grouped": causes.GROUPED,
        }

    def replay_address(self, fingerprint: str) -> str:
        """Return where all failures of a kind are replayed; "" if this user cannot."""
        if not self.request.user.has_perm(REPLAY):
            return ""
        site = self.model_admin.admin_site.name
        page = reverse("admin:tasks_app_bulk_confirm", current_app=site)
        chosen = {"action": "replay", "state": "failed", "fingerprint": fingerprint}
        return f"{page}?{urlencode(chosen)}"


class FailuresPage(_ByRange):
    """Kinds of failures, the most frequent first."""

    name = "failures"
    route = "failures/"
    title = "Failures"
    template = "admin/tasks_app/failures.html"

    def context(self, **named: Any) -> dict[str, Any]:
        window = Window.of(Cause.objects.all(), RANGES[self.chosen_range()][1])
        kinds = window.kinds()
        shown = kinds[:SHOWN]
        causes.tell_latest(shown)
        return {
            **self.about_range(window),
            "kinds": [(kind, self.replay_address(kind.fingerprint)) for kind in shown],
            "may_replay": bool(self.replay_address("")),
            "total": sum(kind.count for kind in kinds),
            "left_out": len(kinds) - len(shown),
        }


class FailurePage(_ByRange):
    """One kind of failure: its counts in the range, its newest outcomes, a traceback."""

    name = "failure"
    route = "failures/<str:fingerprint>/"
    title = "Failure"
    template = "admin/tasks_app/failure.html"
    is_in_navigation = False

    def context(self, fingerprint: str = "", **named: Any) -> dict[str, Any]:
        newest = list(_newest(fingerprint)) if FINGERPRINT.fullmatch(fingerprint) else []
        if not newest:
            raise Http404
        of_kind = Cause.objects.filter(fingerprint=fingerprint)
        window = Window.of(of_kind, RANGES[self.chosen_range()][1])
        kind: Kind | None = next(iter(window.kinds()), None)
        latest = newest[0]
        return {
            **self.about_range(window),
            "title": latest.error_type,
            "where": causes.where(latest.error_type, latest.place),
            "page_name": FailuresPage.name,
            "latest": latest,
            "newest": newest,
            "kind": kind,
            "tasks": sorted(kind.tasks.items(), key=lambda task: -task[1]) if kind else [],
            "sample": Attempt.objects.filter(outcome=latest.pk).order_by("-fence").first(),
            "replay_address": self.replay_address(fingerprint),
        }


def _newest(fingerprint: str) -> Any:
    rows = Cause.objects.filter(fingerprint=fingerprint).select_related("outcome")
    told = ("task_name", "queue", "reason", "error", "attempt", "finished_at")
    columns = ("fingerprint", "error_type", "place", "task_name", "failed_at", "replayed_at")
    rows = rows.only(*columns, *(f"outcome__{name}" for name in told))
    return rows.order_by("-failed_at")[:NEWEST]
