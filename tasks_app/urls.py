"""Addresses for monitors and for who waits: `path("tasks/", include("tasks_app.urls"))`."""

from django.urls import path

from tasks_app import views
from tasks_app.status import views as status_views

app_name = "tasks_app"
urlpatterns = [
    path("metrics", views.metrics, name="metrics"),
    path("healthz", views.healthz, name="healthz"),
    path("readyz", views.readyz, name="readyz"),
    path("<uuid:outcome_id>/", status_views.status, name="status"),
    path("<uuid:outcome_id>/events", status_views.events, name="events"),
    path("<uuid:outcome_id>/cancel", status_views.cancel, name="cancel"),
]
