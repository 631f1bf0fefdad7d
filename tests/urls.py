"""Addresses of the test project."""

from django.contrib import admin
from django.urls import include, path

urlpatterns = [path("admin/", admin.site.urls), path("tasks/", include("tasks_app.urls"))]
