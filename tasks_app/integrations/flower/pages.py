"""
What Flower's pages and its API get from here: links to outcomes, and no commands.

Every task that a page shows has a link beside it. It leads to an address of Flower's own, which
sends the browser on to the outcome in the admin; only the id travels. While Flower is read-only,
whatever would change something at its API is refused here, before Flower looks at it.
"""

import re
from pathlib import Path
from typing import Any

from django.urls import NoReverseMatch
from flower.views import BaseHandler
from flower.views.monitor import Metrics
from tornado.routing import PathMatches, Rule
from tornado.web import HTTPError, TemplateModule, authenticated, url

from tasks_app import addresses
from tasks_app.conf import conf

UUID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"

SCRIPT = "tasks_app_outcome_links"

#: Methods that change nothing.
READING = frozenset({"GET", "HEAD", "OPTIONS"})

READ_ONLY = (
    "Flower is read-only. Whoever is to command workers and tasks from here sets "
    'TASKS_APP["FLOWER_READ_ONLY"] = False and starts Flower again.\n'
)

NO_ADMIN = (
    'The admin\'s address is not known here. Set TASKS_APP["ADMIN_URL"], e.g. '
    '"https://shop.example/admin/".'
)


class Refusal(BaseHandler):
    """Refuses what would change something."""

    @authenticated
    def post(self, *args: str) -> None:
        self.set_status(403)
        self.set_header("Content-Type", "text/plain; charset=UTF-8")
        self.finish(READ_ONLY)

    put = patch = delete = post


class Changes(PathMatches):
    """Matches an address for every method that is not made for reading alone."""

    def match(self, request: Any) -> Any:
        return None if request.method in READING else super().match(request)


class ClosedMetrics(Metrics):
    """Flower's metrics, for those who may see its pages."""

    get = authenticated(Metrics.get)


class ToOutcome(BaseHandler):
    """Leads from a task to its outcome in the admin."""

    @authenticated
    def get(self, outcome_id: str) -> None:
        # A path without a host can only be right where one proxy serves both.
        if conf.ADMIN_URL is None and not self.application.options.url_prefix:
            raise HTTPError(404, NO_ADMIN)
        try:
            page = addresses.admin_page(outcome_id)
        except NoReverseMatch:
            raise HTTPError(404, NO_ADMIN) from None
        self.redirect(page)


class Script(BaseHandler):
    """The script that puts the links beside the tasks; the same for everybody."""

    text = Path(__file__).with_name("outcome_links.js").read_text(encoding="utf-8")

    def get(self) -> None:
        self.set_header("Content-Type", "text/javascript; charset=UTF-8")
        self.finish(self.text)


class Page(TemplateModule):
    """The part that all pages of Flower are built with; here it brings the script along."""

    def javascript_files(self) -> list[str]:
        return [*super().javascript_files(), self.handler.reverse_url(SCRIPT)]


def connect(flower: Any) -> None:
    """Put the pages of this module before Flower's own, below its prefix."""
    options = flower.options
    prefix = f"/{re.escape(options.url_prefix.strip('/'))}" if options.url_prefix else ""
    rules: list[Rule] = [
        url(rf"{prefix}/outcome/({UUID})", ToOutcome),
        url(rf"{prefix}/outcome_links\.js", Script, name=SCRIPT),
        url(rf"{prefix}/metrics", ClosedMetrics),
    ]
    if options.read_only:
        rules.append(Rule(Changes(rf"{prefix}/api/(.*)"), Refusal))
    flower.add_handlers(".*", rules)
    flower.ui_modules["Template"] = Page
