"""Configuration of the test app."""

from django.apps import AppConfig


class TestAppConfig(AppConfig):
    """The app `testapp`."""

    name = "tests.testapp"
    label = "testapp"
