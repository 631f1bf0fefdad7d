"""Addresses of a project that serves an admin of its own alone."""

from django.urls import path

from tests.integration.test_tasks_panel import site

urlpatterns = [path("office/", site.urls)]
