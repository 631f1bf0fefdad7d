"""The desk's tables in the admin, for looking things up."""

from typing import Any, ClassVar

from django.contrib import admin
from django.http import HttpRequest

from example_project.dispatch import models
from tasks_app.admin import TasksPanel


class LookOnly(admin.ModelAdmin):  # type: ignore[type-arg]  # not generic at run time
    """A table that the desk's tasks write and people only read."""

    show_full_result_count = False

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Rows come from tasks."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Rows tell what happened."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """What happened stays."""
        return False


@admin.register(models.Flight)
class FlightAdmin(TasksPanel, LookOnly):
    """Flights, each with what was done about it."""


@admin.register(models.Job)
class JobAdmin(TasksPanel, LookOnly):
    """Jobs and how far they are."""

    list_display = ("__str__", "request_id", "chunks_left", "created_at", "finished_at")


@admin.register(models.Airport)
class AirportAdmin(LookOnly):
    """Airports, found by code or name."""

    list_display = ("icao", "iata", "name", "city", "country")
    search_fields = ("icao", "iata", "name", "city")
    list_filter: ClassVar[Any] = ("country",)


@admin.register(models.LedgerEntry)
class LedgerEntryAdmin(LookOnly):
    """Payments."""

    list_display = ("charge", "flight", "amount", "idempotency_key", "created_at")
    list_select_related = ("flight",)


@admin.register(models.Delivery)
class DeliveryAdmin(LookOnly):
    """Webhooks."""

    list_display = ("event_id", "subscriber", "delivered_at")
    list_select_related = ("subscriber",)


@admin.register(models.ImportProblem)
class ImportProblemAdmin(LookOnly):
    """Bad lines."""

    list_display = ("line", "reason", "text", "job")
    list_select_related = ("job",)


admin.site.register(
    [
        models.Briefing,
        models.CountryMap,
        models.Report,
        models.StationManager,
        models.Subscriber,
        models.WeatherReport,
    ],
    LookOnly,
)
