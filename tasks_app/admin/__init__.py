"""
The console: pages of Django's admin about outcomes, queues and workers.

Read-only by construction, but for acts that have a permission each.
"""

from importlib import import_module

from django.apps import apps
from django.contrib import admin

from tasks_app.admin.outcomes import OutcomeAdmin
from tasks_app.admin.panel import TasksPanel
from tasks_app.models import Outcome

__all__ = ["OutcomeAdmin", "TasksPanel"]

admin.site.register(Outcome, OutcomeAdmin)

if apps.is_installed("django_celery_beat"):
    import_module("tasks_app.integrations.beat")
