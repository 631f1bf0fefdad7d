"""The desk at the root, the admin and the pages for monitors beside it."""

from django.contrib import admin
from django.urls import include, path

urlpatterns = [
    path("", include("example_project.dispatch.urls")),
    path("admin/", admin.site.urls),
    path("tasks/", include("tasks_app.urls")),
]
