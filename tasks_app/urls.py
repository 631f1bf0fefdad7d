"""Addresses for monitors: `path("tasks/", include("tasks_app.urls"))` in a project's own."""

from django.urls import path

from tasks_app import views

app_name = "tasks_app"
urlpatterns = [
    path("metrics", views.metrics, name="metrics"),
    path("healthz", views.healthz, name="healthz"),
    path("readyz", views.readyz, name="readyz"),
]
