"""Addresses of a project that does not include the app's."""

from __future__ import annotations

from django.urls import URLPattern

urlpatterns: list[URLPattern] = []
