"""Django's entry for the dispatch desk."""

from django.apps import AppConfig


class DispatchConfig(AppConfig):
    """The dispatch desk's app."""

    name = "example_project.dispatch"
    verbose_name = "Flight dispatch"
