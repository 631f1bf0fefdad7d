"""
The admin of django-celery-beat's schedules, with a right asked for and a trace left by each act.

That package's own actions ask for no permission: whoever may look at a schedule may switch it off
and run its task. Importing this module puts an admin in place of that one that asks for "change",
and for "Can enqueue a task by hand" where a task is run. Each act goes through `periodic.slots`, as
those of the console do. The list and the form say which schedules code declares. A class that the
project registered itself stays.
"""

from collections.abc import Callable
from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.views.main import ChangeList
from django.db import transaction
from django.http import HttpRequest
from django.urls import NoReverseMatch, reverse
from django.utils.html import format_html
from django_celery_beat.admin import PeriodicTaskAdmin
from django_celery_beat.models import PeriodicTask
from django_celery_beat.utils import is_database_scheduler

from tasks_app.conf import conf
from tasks_app.exceptions import ConfigurationError, InvalidArgument
from tasks_app.models import Timer
from tasks_app.periodic import slots
from tasks_app.periodic.sync import changed_by_hand
from tasks_app.transience import pessimistic

#: Opens the console, to whose pages the schedules link.
VIEW = "tasks_app.view_outcome"

#: What is said on the form of a schedule that code declares.
DECLARED = (
    "Declared in code as {}. What is changed here stays as it is, whatever code says; all the rest "
    "follows the code."
)


class WithTimers(ChangeList):
    """A page of schedules, each with its timer, which one statement reads."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        rows: list[Any] = list(self.result_list)
        timers = Timer.objects.in_bulk([row.pk for row in rows])
        for row in rows:
            row.timer = timers.get(row.pk)
            row.is_linked = request.user.has_perm(VIEW)
        self.result_list = rows


class CheckedPeriodicTaskAdmin(PeriodicTaskAdmin):  # type: ignore[misc]  # ships no types
    """Schedules as their package shows them; acts need a right and are told in the history."""

    list_display = (*PeriodicTaskAdmin.list_display, "origin")
    readonly_fields = (*PeriodicTaskAdmin.readonly_fields, "declaration")

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return WithTimers

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> Any:
        """Show the list; of the scheduler that beat runs, which need not stand in the settings."""
        response = super().changelist_view(request, extra_context)
        if hasattr(response, "context_data"):
            scheduler = self.celery_app.conf.beat_scheduler
            response.context_data["wrong_scheduler"] = not is_database_scheduler(scheduler)
        return response

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        """Say of a schedule that is there where it comes from."""
        fieldsets = super().get_fieldsets(request, obj)
        if obj is None:
            return fieldsets
        (name, first), *others = fieldsets
        return ((name, {**first, "fields": ("declaration", *first["fields"])}), *others)

    @admin.display(description="declared")
    def origin(self, entry: Any) -> str:
        """Tell who declares it, and link to the page with its slots."""
        told = "in the admin"
        if entry.timer is not None and entry.timer.code_name is not None:
            changed = changed_by_hand(entry, entry.timer)
            told = f"in code, changed in the admin: {', '.join(changed)}" if changed else "in code"
        page = self._page(entry) if entry.is_linked else ""
        return format_html('<a href="{}">{}</a>', page, told) if page else told

    @admin.display(description="Declared")
    def declaration(self, entry: Any) -> str:
        """Tell on the form that code declares it, and what the admin has changed."""
        timer = Timer.objects.filter(pk=entry.pk).first()
        if timer is None or timer.code_name is None:
            return "In the admin."
        changed = ", ".join(changed_by_hand(entry, timer)) or "nothing"
        return f"{DECLARED.format(timer.code_name)} Changed so far: {changed}."

    def has_enqueue_permission(self, request: Any) -> bool:
        return bool(request.user.has_perm("tasks_app.enqueue_outcome"))

    @admin.action(permissions=["change"], description="Enable selected tasks")
    def enable_tasks(self, request: HttpRequest, queryset: Any) -> None:
        """Enable schedules: their slots count from now on."""
        self._act(request, queryset, slots.resume, "Enabled.")

    @admin.action(permissions=["change"], description="Disable selected tasks")
    def disable_tasks(self, request: HttpRequest, queryset: Any) -> None:
        """Disable schedules: their slots pass undecided."""
        self._act(request, queryset, slots.pause, "Disabled.")

    @admin.action(permissions=["change"], description="Toggle activity of selected tasks")
    def toggle_tasks(self, request: HttpRequest, queryset: Any) -> None:
        """Enable what is disabled and the other way round."""

        def toggle(entry: Any, by: str) -> None:
            slots.pause(entry, by) if entry.enabled else slots.resume(entry, by)

        self._act(request, queryset, toggle, "Toggled.")

    @admin.action(permissions=["enqueue"], description="Run selected tasks")
    def run_tasks(self, request: HttpRequest, queryset: Any) -> None:
        """Fire a slot of each schedule now; none of them if a task is not registered."""
        self.celery_app.loader.import_default_modules()
        unknown = [entry.task for entry in queryset if entry.task not in self.celery_app.tasks]
        if unknown:
            self.message_user(request, f'task "{unknown[0]}" not found', messages.ERROR)
        else:
            self._act(request, queryset, slots.run_now, "Run by hand.")

    def _act(self, request: HttpRequest, chosen: Any, act: Callable[..., Any], done: str) -> None:
        """Do something to all or to none, and tell it in the history of each."""
        by, entries = request.user.get_username(), list(chosen)
        try:
            with pessimistic(), transaction.atomic(using=conf.DATABASE):
                for entry in entries:
                    act(entry, by)
                    self.log_change(request, entry, done)
        except (ConfigurationError, InvalidArgument, TypeError) as error:
            self.message_user(request, f"Nothing was done: {error}", messages.ERROR)
        else:
            self.message_user(
                request, f"{done.removesuffix('.')}: {len(entries)}.", messages.SUCCESS
            )

    def _page(self, entry: Any) -> str:
        """Return where the schedule's slots are; "" on a site without the console."""
        try:
            return reverse(
                "admin:tasks_app_schedule", args=[entry.pk], current_app=self.admin_site.name
            )
        except NoReverseMatch:
            return ""


def replace_unchecked(site: admin.AdminSite) -> None:
    """Register the checked admin on a site, unless the project has one of its own there."""
    if site.is_registered(PeriodicTask):
        if type(site.get_model_admin(PeriodicTask)) is not PeriodicTaskAdmin:
            return
        site.unregister(PeriodicTask)
    site.register(PeriodicTask, CheckedPeriodicTaskAdmin)


replace_unchecked(admin.site)
