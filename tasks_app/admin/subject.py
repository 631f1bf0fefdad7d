"""
Outcomes about one object of the project: the newest for its panel, all of them on a page.

One statement each: the index on subjects has them in the order in which they are shown.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from django.contrib.admin.utils import quote, unquote
from django.db.models import Model
from django.http import Http404
from django.urls import NoReverseMatch, reverse
from django.utils import timezone

from tasks_app.admin.pages import Page
from tasks_app.admin.texts import LINE, NOTHING, SIGNS, in_words, shortened
from tasks_app.context import is_acceptable
from tasks_app.models import Outcome, Subject
from tasks_app.states import State
from tasks_app.subjects import LONGEST_KEY, Named, subject_of, unknown_model

#: Outcomes in a panel, and on a page.
IN_PANEL, ON_PAGE = 20, 100

#: Digits of which a number is too large for any id.
LONGEST_ID = 19

#: What is read of an outcome: other columns may hold 64 KB each.
COLUMNS = (
    *("id", "task_name", "state", "error", "attempt", "max_attempts", "crashes", "request_id"),
    *("created_at", "claimed_at", "started_at", "finished_at"),
    *("progress_done", "progress_total"),
)


@dataclass(frozen=True, slots=True)
class Row:
    """An outcome as the panel shows it."""

    subject_id: int
    outcome: Outcome
    sign: str
    age: str
    run_time: str
    error: str
    progress: float | None
    #: Of its page, and of its request's; empty where there is none.
    address: str
    trace_address: str


class SubjectPage(Page):
    """All outcomes about one object, newest first."""

    name = "subject"
    route = "about/<str:model>/<path:object_pk>/"
    title = "Tasks of an object"
    template = "admin/tasks_app/panel/page.html"
    is_in_navigation = False

    def context(self, **named: Any) -> dict[str, Any]:
        """Return a page of rows; 404 for what is no model, or no key of one."""
        model, key = named["model"], unquote(named["object_pk"])
        if unknown_model(model) or "\0" in key or len(key) > LONGEST_KEY:
            msg = "There is no such object."
            raise Http404(msg)
        before = self.request.GET.get("before", "")
        below = int(before) if before.isdecimal() and len(before) < LONGEST_ID else None
        found = rows(
            Named(model.lower(), key), self.model_admin.admin_site.name, ON_PAGE + 1, below
        )
        last = found[ON_PAGE - 1].subject_id if len(found) > ON_PAGE else None
        return {
            "title": f"Tasks about {model.lower()} {shortened(key, LINE)}",
            "rows": found[:ON_PAGE],
            "is_first": below is None,
            "older": "" if last is None else f"?{urlencode({'before': last})}",
        }


def panel_context(instance: Model, site: str) -> dict[str, Any]:
    """Return what the panel of a saved object shows, on a page of an admin site."""
    subject, site = subject_of(instance), _console_site(site)
    found = rows(subject, site, IN_PANEL + 1)
    return {
        "is_shown": True,
        "rows": found[:IN_PANEL],
        "has_more": len(found) > IN_PANEL,
        "all_address": _address("subject", site, subject.model, quote(subject.object_pk)),
    }


def rows(subject: Named, site: str, most: int, below: int | None = None) -> Sequence[Row]:
    """Return the newest outcomes about an object, or the newest below the id of a subject."""
    subjects = Subject.objects.filter(model=subject.model, object_pk=subject.object_pk)
    if below is not None:
        subjects = subjects.filter(pk__lt=below)
    only = [f"outcome__{name}" for name in COLUMNS]
    found = subjects.select_related("outcome").only("outcome_id", *only).order_by("-pk")
    return [_row(each, site) for each in found[:most]]


def _row(subject: Subject, site: str) -> Row:
    outcome, now = subject.outcome, timezone.now()
    start = outcome.claimed_at or outcome.started_at
    end = outcome.finished_at or (now if outcome.claimed_at else None)
    is_timed = start is not None and end is not None
    total, has_trace = outcome.progress_total, is_acceptable(outcome.request_id)
    return Row(
        subject_id=subject.pk,
        outcome=outcome,
        sign=SIGNS[State(outcome.state)],
        age=in_words(max((now - outcome.created_at).total_seconds(), 0)),
        run_time=in_words(max((end - start).total_seconds(), 0)) if is_timed else NOTHING,  # type: ignore[operator]  # both are there
        error=shortened(outcome.error.partition("\n")[0], LINE),
        address=_address("outcome_change", site, outcome.pk),
        trace_address=_address("trace", site, outcome.request_id) if has_trace else "",
        progress=min(outcome.progress_done or 0, total) if total and not outcome.is_final else None,
    )


def _console_site(site: str) -> str:
    """Return the admin site that has the console: this one, else the default; "" for none."""
    for name in dict.fromkeys((site, "admin")):
        with suppress(NoReverseMatch):
            if reverse("admin:tasks_app_outcome_changelist", current_app=name):
                return name
    return ""


def _address(name: str, site: str, *arguments: Any) -> str:
    return reverse(f"admin:tasks_app_{name}", args=arguments, current_app=site) if site else ""
