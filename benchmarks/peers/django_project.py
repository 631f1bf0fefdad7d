"""Django for those peers that use it: settings from the environment, and their own apps."""

import os
from typing import Any
from urllib.parse import urlsplit

import django
from django.conf import settings

#: `CONN_MAX_AGE` where connections are kept for ever.
FOR_EVER = None


def set_up(*apps: str, keeps_connections: bool = False, **more: Any) -> None:
    """Configure Django with PostgreSQL at `BENCHMARK_DATABASE`, and load the apps."""
    address = urlsplit(os.environ["BENCHMARK_DATABASE"])
    settings.configure(
        SECRET_KEY="benchmark",
        USE_TZ=True,
        INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth", *apps],
        DATABASES={
            "default": {
                "ENGINE": "django.db.backends.postgresql",
                "HOST": address.hostname,
                "PORT": address.port,
                "USER": address.username,
                "NAME": address.path.removeprefix("/"),
                "CONN_MAX_AGE": FOR_EVER if keeps_connections else 0,
            }
        },
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        **more,
    )
    django.setup()
