"""Tasks as they are found: nothing here knows that calls have outcomes."""

from celery import shared_task
from django.db import transaction

from tests.adopted.celery import app
from tests.testapp.models import Effect


@shared_task
def add(a, b=0):
    """Return a sum."""
    return a + b


@shared_task
def add_elsewhere(a, b):
    """Leave the work to another task."""
    return add.delay(a, b).id


@app.task(name="adopted.named")
def named(key):
    """Take effect under a name of its own."""
    Effect.objects.create(key=key, note="named")


@shared_task(bind=True, max_retries=3)
def retry_itself(self, key):
    """Ask for another attempt by Celery's own means, twice."""
    Effect.objects.create(key=key, note=f"{self.request.retries} {self.request.id}")
    if self.request.retries < 2:
        raise self.retry(countdown=0)
    return self.request.retries


@shared_task(autoretry_for=(ValueError,), max_retries=2, default_retry_delay=0)
def fail_thrice(key):
    """Be retried by Celery's own rules, in vain."""
    Effect.objects.create(key=key, note="tried")
    raise ValueError("no luck")


@shared_task
def commit_halfway(key):
    """Rely on a commit in the middle, as code does that was written for autocommit."""
    with transaction.atomic():
        Effect.objects.create(key=key, note="first half")
    raise KeyError("second half")
