"""
django-celery-outbox as a relay: its settings, its app, and rows that wait.

It is left as it comes, but that RabbitMQ confirms each message, as its documentation asks for.
"""

import os
from importlib import import_module
from urllib.parse import urlsplit
from uuid import uuid4

from django.conf import settings
from django_celery_outbox import OutboxCelery

_address = urlsplit(os.environ["BENCHMARK_DATABASE"])

SECRET_KEY = "benchmark"
USE_TZ = True
INSTALLED_APPS = ["django.contrib.contenttypes", "django_celery_outbox"]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "HOST": _address.hostname,
        "PORT": _address.port,
        "USER": _address.username,
        "NAME": "postgres",
    }
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
CELERY_OUTBOX_APP = "benchmarks.peers.outbox.relay.app"

app = OutboxCelery("outbox", broker=os.environ["BENCHMARK_BROKER"])
if app.conf.broker_url.startswith("amqp"):
    app.conf.broker_transport_options = {"confirm_publish": True}


@app.task(name="noop", ignore_result=True)
def noop() -> None:
    """Do nothing: what counts is the row."""


def fill(count: int) -> None:
    """Make one call, and copy its row until there are so many."""
    os.environ["DJANGO_SETTINGS_MODULE"] = __name__
    _ = settings.INSTALLED_APPS
    import_module("django").setup()
    rows = import_module("django_celery_outbox.models").CeleryOutbox.objects
    noop.apply_async()
    row = rows.latest("pk")
    copies = []
    for _number in range(count - 1):
        row.pk, row.task_id = None, str(uuid4())
        copies.append(type(row)(**{f.attname: getattr(row, f.attname) for f in row._meta.fields}))
    rows.bulk_create(copies, batch_size=1_000)
