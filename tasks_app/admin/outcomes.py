"""
The admin of outcomes: a list, a page for each, and what may be done to them.

Read-only by construction: nobody adds, changes or deletes an outcome here, whatever their rights.
Each act is a POST, is told in the object's history, and is refused with a reason when the outcome
has moved on since the page was shown. No page counts the table or reads it all.
"""

from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import URLPattern

from tasks_app.admin.acting import Acting
from tasks_app.admin.console import PAGES
from tasks_app.admin.outcome_list import LARGE, OutcomeList
from tasks_app.admin.outcome_page import OutcomePage
from tasks_app.admin.rights import ReadOnly
from tasks_app.models import Outcome


class OutcomeAdmin(Acting, ReadOnly, OutcomeList, OutcomePage):
    """Outcomes, newest first."""

    def get_urls(self) -> list[URLPattern]:
        """Put the console's pages before Django's own, which would take their names for ids."""
        return [*(page.address(self) for page in PAGES), *super().get_urls()]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Outcome]:
        rows = super().get_queryset(request)
        match = request.resolver_match
        is_list = match is not None and (match.url_name or "").endswith("changelist")
        return rows.defer(*LARGE) if is_list else rows
