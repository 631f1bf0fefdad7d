"""Wiring: the Celery app, the outcome's methods, checks, logging receivers."""

from django.apps import AppConfig


class TasksAppConfig(AppConfig):
    """`INSTALLED_APPS += ["tasks_app"]` is all that a project needs."""

    name = "tasks_app"
    label = "tasks_app"
    verbose_name = "Tasks"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Wire what needs loaded models."""
        from tasks_app import wiring

        wiring.connect()
