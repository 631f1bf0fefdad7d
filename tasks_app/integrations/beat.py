"""
The admin of django-celery-beat's schedules, with a right asked for and a trace left by each act.

That package's own actions ask for no permission: whoever may look at a schedule may switch it off
and run its task. Importing this module puts an admin in place of that one that asks for "change",
and for "Can enqueue a task by hand" where a task is run. A class that the project registered itself
stays.
"""

from collections.abc import Callable
from typing import Any

from django.contrib import admin
from django.db import transaction
from django.http import HttpRequest
from django_celery_beat.admin import PeriodicTaskAdmin
from django_celery_beat.models import PeriodicTask

from tasks_app.conf import conf


class CheckedPeriodicTaskAdmin(PeriodicTaskAdmin):  # type: ignore[misc]  # ships no types
    """Schedules as their package shows them; acts need a right and are told in the history."""

    def has_enqueue_permission(self, request: Any) -> bool:
        return bool(request.user.has_perm("tasks_app.enqueue_outcome"))

    @admin.action(permissions=["change"], description="Enable selected tasks")
    def enable_tasks(self, request: HttpRequest, queryset: Any) -> None:
        """Enable schedules."""
        self._act(request, queryset, super().enable_tasks, "Enabled.")

    @admin.action(permissions=["change"], description="Disable selected tasks")
    def disable_tasks(self, request: HttpRequest, queryset: Any) -> None:
        """Disable schedules."""
        self._act(request, queryset, super().disable_tasks, "Disabled.")

    @admin.action(permissions=["change"], description="Toggle activity of selected tasks")
    def toggle_tasks(self, request: HttpRequest, queryset: Any) -> None:
        """Enable what is disabled and the other way round."""
        self._act(request, queryset, super().toggle_tasks, "Toggled.")

    @admin.action(permissions=["enqueue"], description="Run selected tasks")
    def run_tasks(self, request: HttpRequest, queryset: Any) -> None:
        """Enqueue the tasks of schedules now; none of them if one of them is not registered."""
        self.celery_app.loader.import_default_modules()
        if all(schedule.task in self.celery_app.tasks for schedule in queryset):
            self._act(request, queryset, super().run_tasks, "Run by hand.")
        else:
            super().run_tasks(request, queryset)

    def _act(self, request: HttpRequest, chosen: Any, act: Callable[..., None], done: str) -> None:
        with transaction.atomic(using=conf.DATABASE):
            for schedule in chosen:
                self.log_change(request, schedule, done)
            act(request, chosen)


def replace_unchecked(site: admin.AdminSite) -> None:
    """Register the checked admin on a site, unless the project has one of its own there."""
    if site.is_registered(PeriodicTask):
        if type(site.get_model_admin(PeriodicTask)) is not PeriodicTaskAdmin:
            return
        site.unregister(PeriodicTask)
    site.register(PeriodicTask, CheckedPeriodicTaskAdmin)


replace_unchecked(admin.site)
