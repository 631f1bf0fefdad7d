"""The console's pages beside the list of outcomes, in the order of the navigation."""

from importlib import import_module

from django.apps import apps

from tasks_app.admin.bulk import BulkActionPage, BulkActionsPage
from tasks_app.admin.confirm import BulkConfirmPage
from tasks_app.admin.dashboard import Dashboard
from tasks_app.admin.failures import FailurePage, FailuresPage
from tasks_app.admin.pages import Page
from tasks_app.admin.queues import QueuesPage
from tasks_app.admin.subject import SubjectPage
from tasks_app.admin.trace import TracePage, TracesPage
from tasks_app.admin.workers import Workers


def periodic() -> tuple[type[Page], ...]:
    """Return the pages of periodic jobs, where there can be any."""
    if not apps.is_installed("django_celery_beat"):
        return ()
    module = import_module("tasks_app.admin.periodic")
    return (module.PeriodicPage, module.SchedulePage)


PAGES: tuple[type[Page], ...] = (
    Dashboard,
    FailuresPage,
    FailurePage,
    TracesPage,
    TracePage,
    SubjectPage,
    *periodic(),
    QueuesPage,
    Workers,
    BulkActionsPage,
    BulkConfirmPage,
    BulkActionPage,
)
