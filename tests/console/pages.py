"""
The console's pages, one entry each: walked through, pictured, and measured with a million rows.

An entry names a page's address as Django reverses it; `{…}` in arguments and query is filled in
with a scene's facts. Nothing else has to be said about a new page.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from django.urls import reverse

OUTCOME = "admin:tasks_app_outcome_change"
LIST = "admin:tasks_app_outcome_changelist"


@dataclass(frozen=True)
class ConsolePage:
    """
    A page, and in which ways it is looked at.

    Attributes:
        name: Of its picture and its test.
        view: The name that is reversed.
        arguments: Of the address.
        query: After the question mark.
        is_pictured: Whether there is a picture of it in the documentation.
        is_measured: Whether it is asked for with a million outcomes.
    """

    name: str
    view: str
    arguments: tuple[str, ...] = ()
    query: str = ""
    is_pictured: bool = True
    is_measured: bool = True

    def address(self, facts: Mapping[str, str]) -> str:
        """Return the page's address in a scene."""
        path = reverse(self.view, args=[each.format(**facts) for each in self.arguments])
        return f"{path}?{self.query.format(**facts)}" if self.query else path

    def __str__(self) -> str:
        return self.name


PAGES = (
    ConsolePage("dashboard", "admin:tasks_app_dashboard"),
    ConsolePage("outcomes", LIST),
    ConsolePage("outcomes-failed", LIST, query="state=failed", is_pictured=False),
    ConsolePage("outcome", OUTCOME, ("{outcome}",)),
    ConsolePage("outcome-killed", OUTCOME, ("{killed}",), is_pictured=False, is_measured=False),
    ConsolePage("outcome-failed", OUTCOME, ("{refused}",), is_pictured=False),
    ConsolePage("outcome-running", OUTCOME, ("{running}",), is_pictured=False),
    ConsolePage("outcome-waiting", OUTCOME, ("{retrying}",), is_pictured=False),
    ConsolePage("outcome-strange", OUTCOME, ("{strange}",), is_pictured=False, is_measured=False),
    ConsolePage("trace", "admin:tasks_app_trace", ("{request}",)),
    ConsolePage("traces", "admin:tasks_app_traces"),
    ConsolePage("failures", "admin:tasks_app_failures"),
    ConsolePage("failure", "admin:tasks_app_failure", ("{fingerprint}",)),
    ConsolePage("periodic", "admin:tasks_app_periodic"),
    ConsolePage("schedule", "admin:tasks_app_schedule", ("{schedule}",)),
    ConsolePage("queues", "admin:tasks_app_queues"),
    ConsolePage("workers", "admin:tasks_app_workers"),
    ConsolePage("bulk", "admin:tasks_app_bulk"),
    ConsolePage("bulk-action", "admin:tasks_app_bulk_action", ("{bulk}",)),
    ConsolePage("bulk-confirm", "admin:tasks_app_bulk_confirm", query="state=failed&action=replay"),
    ConsolePage("object", "admin:dispatch_flight_change", ("{flight}",), is_measured=False),
    ConsolePage("desk", "dispatch:desk", is_measured=False),
)

#: What is asked of the list, measured only.
LISTS = tuple(
    ConsolePage(f"outcomes?{query}", LIST, query=query, is_pictured=False)
    for query in (
        "state=pending",
        "state=running",
        "state=succeeded",
        "state=cancelled",
        "task={task}",
        "queue={queue}",
        "state=failed&task={task}",
        "state=succeeded&queue={queue}",
        "p=50",
        "q={outcome}",
        "q={request}",
        "q=arg:order_id=7",
        "q=arg:0=7",
        "q=nothing-has-this",
        "request_id={request}",
    )
)
