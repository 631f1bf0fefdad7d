"""Starting a job: the input and the first call are stored in one transaction.

Used by the page, the ``dispatch`` command and the demo alike. Nothing here talks to a broker or to
a service; if it returns, the job will run.
"""

from django.db import transaction

from example_project.dispatch.helpers import airports_csv, webhooks
from example_project.dispatch.models import Job
from example_project.dispatch.tasks import open_job


def start_job(data: bytes | None = None, source: str = "airportsdata", seed: int = 0) -> Job:
    """Start a job over the bytes of a CSV file, or over the airports that come with the demo.

    Raises:
        BadFile: The bytes are not a table of airports; nothing was started.
    """
    with transaction.atomic():
        webhooks.register_subscribers()
        table = airports_csv.bundled() if data is None else data
        job = airports_csv.create_job(table, source, seed)
        root = open_job.enqueue(job.pk)
        job.root_id, job.request_id = root.id, root.request_id
        job.save(update_fields=["root_id", "request_id"])
    return job
